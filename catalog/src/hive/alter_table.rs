//! Altering tables: also renaming them, with or without their partitions, and only if a parameter has a value.

use tereza_runtime::ErrorKind;
use tereza_thrift::hive::{
    self, AlterTableRequest, EnvironmentContext, Exception, InvalidOperationException, MetaException,
};

use super::names::{self, qualified};
use super::{Answer, Session, below, convert, place, rest_below};
use crate::model::{Table, TableKind};
use crate::store::PartitionFilter;

/// How often a change is tried again that others were faster than.
const ATTEMPTS_MAX: usize = 100;
/// Partitions whose places are changed in one transaction.
const MOVED_AT_ONCE: usize = 1_000;
/// The serde parameter in which Spark repeats the place of a table's files.
const PATH: &str = "path";

/// What an environment context asks of an alteration.
#[derive(Debug, Default)]
pub(super) struct Demands {
    /// Partitions get the table's columns.
    cascade: bool,
    /// A parameter and the value that it has to have.
    expected: Option<(String, String)>,
}

impl Demands {
    pub(super) fn of(context: Option<EnvironmentContext>) -> Self {
        let mut properties = context.and_then(|context| context.properties).unwrap_or_default();
        let cascade = properties.get("CASCADE").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let key = properties.remove("expected_parameter_key");
        Self { cascade, expected: key.zip(properties.remove("expected_parameter_value")) }
    }
}

impl Session {
    pub(super) async fn change_table_of(&self, request: AlterTableRequest) -> Answer<()> {
        names::check_catalog(request.cat_name.as_deref())?;
        let mut demands = Demands::of(request.environment_context);
        if let Some(expected) = request.expected_parameter_key.zip(request.expected_parameter_value) {
            demands.expected = Some(expected);
        }
        self.change_table(Some(request.db_name), Some(request.table_name), Some(request.table), demands).await
    }

    pub(super) async fn change_table(
        &self,
        database: Option<String>,
        table: Option<String>,
        new: Option<hive::Table>,
        demands: Demands,
    ) -> Answer<()> {
        let (database, table) = (names::database(database)?, names::object(table));
        // What is not there would be taken for a table of nothing, and all that the old one has would be gone.
        let new = new.filter(|new| new.sd.is_some());
        let new = new.ok_or_else(|| InvalidOperationException::new("the new table or its storage is missing"))?;
        names::check_catalog(new.cat_name.as_deref())?;
        // A table that does not say where it goes stays where it is.
        let to_database = match &new.db_name {
            Some(name) => names::database(Some(name.clone()))?,
            None => database.clone(),
        };
        let to_name = new.table_name.as_deref().map_or_else(|| table.clone(), str::to_lowercase);
        let is_renamed = (&to_database, &to_name) != (&database, &table);
        if is_renamed {
            names::check_new(&to_name, "object")
                .map_err(|exception| InvalidOperationException::new(exception_text(&exception)))?;
        }
        let new = convert::table_from(to_database, to_name, new);
        for _ in 0..ATTEMPTS_MAX {
            let known = self.store().table(&database, &table).await.map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    InvalidOperationException::new(format!("table {} doesn't exist", qualified(&database, &table)))
                        .into()
                }
                _ => Exception::from(error),
            })?;
            check_expected(&known.table, &demands)?;
            // Without a demand the last one to write wins, as everywhere with this interface.
            let version = demands.expected.is_some().then_some(known.version);
            match self.alter_once(&known.table, new.clone(), version, demands.cascade).await {
                Err(Failure::Overtaken) => {}
                Err(Failure::Answer(exception)) => return Err(exception),
                Ok(()) => return Ok(()),
            }
        }
        Err(MetaException::new(format!("table {} is changed by others all the time", qualified(&database, &table)))
            .into())
    }

    async fn alter_once(
        &self,
        old: &Table,
        mut new: Table,
        version: Option<i64>,
        cascade: bool,
    ) -> Result<(), Failure> {
        if new.kind == TableKind::View {
            new.storage.location = None;
        } else if new.storage.location.is_none() {
            new.storage.location.clone_from(&old.storage.location);
        }
        let moved = if (&old.database, &old.name) == (&new.database, &new.name) {
            None
        } else {
            self.check_free(&new).await?;
            self.move_files(old, &mut new).await?
        };
        let altered = if cascade && !new.partition_keys.is_empty() {
            self.store().alter_table_and_partitions(&old.database, &old.name, version, &new).await
        } else {
            self.store().alter_table(&old.database, &old.name, version, &new).await
        };
        if let Err(error) = altered {
            if let Some((from, to)) = &moved
                && let Err(error) = self.files().rename(to, from)
            {
                tracing::error!(from, to, %error, "the files of a table that kept its name were not moved back");
            }
            return Err(match error.kind() {
                ErrorKind::Conflict => Failure::Overtaken,
                ErrorKind::AlreadyExists => already_there(&new),
                _ => Failure::Answer(InvalidOperationException::new(error.to_string()).into()),
            });
        }
        match moved {
            Some((from, to)) => self.move_partitions(&new, &from, &to).await.map_err(Failure::Answer),
            None => Ok(()),
        }
    }

    /// Refuses a name that another table has, or a database that is not there.
    async fn check_free(&self, new: &Table) -> Result<(), Failure> {
        self.store().database(&new.database).await.map_err(|error| {
            let message = format!("Unable to change partition or table. Database {} does not exist", new.database);
            Failure::Answer(match error.kind() {
                ErrorKind::NotFound => InvalidOperationException::new(message).into(),
                _ => error.into(),
            })
        })?;
        match self.store().table(&new.database, &new.name).await {
            Ok(_) => Err(already_there(new)),
            Err(_) => Ok(()),
        }
    }

    /// Moves the files of a managed table that are where such a table has them by default, if they can be moved.
    async fn move_files(&self, old: &Table, new: &mut Table) -> Result<Option<(String, String)>, Failure> {
        let answer = |error: tereza_runtime::Error| Failure::Answer(error.into());
        let (Some(from), TableKind::Managed) = (&old.storage.location, old.kind) else { return Ok(None) };
        let parent = self.store().database(&old.database).await.map_err(answer)?;
        let is_default = place(from) == place(&below(&parent.location, &old.name));
        let is_left = new.storage.location.as_deref().is_some_and(|location| place(location) == place(from));
        if is_default && is_left {
            let to = below(&self.store().database(&new.database).await.map_err(answer)?.location, &new.name);
            let is_free = !self.store().is_folder_in_use(&to).await.map_err(answer)?;
            let moved = is_free.then(|| self.files().rename(from, &to)).transpose().map_err(|error| {
                let message = format!("Alter Table operation failed to move data from '{from}' to '{to}': {error}");
                Failure::Answer(InvalidOperationException::new(message).into())
            })?;
            if moved == Some(true) {
                if new.storage.serde.parameters.contains_key(PATH) {
                    new.storage.serde.parameters.insert(PATH.to_owned(), to.clone());
                }
                new.storage.location = Some(to.clone());
                return Ok(Some((from.clone(), to)));
            }
        }
        // Spark writes the place where it expects the files after the move.
        if is_left && let Some(path) = old.storage.serde.parameters.get(PATH) {
            new.storage.serde.parameters.insert(PATH.to_owned(), path.clone());
        }
        Ok(None)
    }

    /// Writes the new places of partitions whose files moved with the table's.
    async fn move_partitions(&self, table: &Table, from: &str, to: &str) -> Answer<()> {
        if table.partition_keys.is_empty() {
            return Ok(());
        }
        let all = PartitionFilter::default();
        let mut partitions = self.store().partitions(&table.database, &table.name, &all, None).await?;
        partitions.retain_mut(|partition| {
            let location = partition.storage.location.as_deref();
            let moved = location.and_then(|location| rest_below(location, from)).map(|rest| below(to, &rest));
            let is_moved = moved.is_some();
            if is_moved {
                partition.storage.location = moved;
            }
            is_moved
        });
        for chunk in partitions.chunks(MOVED_AT_ONCE) {
            self.store().alter_partitions(&table.database, &table.name, chunk).await?;
        }
        Ok(())
    }
}

/// Why an attempt failed.
enum Failure {
    /// Somebody else changed the table: look again.
    Overtaken,
    Answer(Exception),
}

fn already_there(new: &Table) -> Failure {
    let message = format!("new table {} already exists", qualified(&new.database, &new.name));
    Failure::Answer(InvalidOperationException::new(message).into())
}

/// Iceberg's client looks for this text.
fn check_expected(table: &Table, demands: &Demands) -> Answer<()> {
    let Some((key, expected)) = &demands.expected else { return Ok(()) };
    let found = table.parameters.get(key);
    if found == Some(expected) {
        return Ok(());
    }
    let found = found.map_or("null", String::as_str);
    Err(MetaException::new(format!(
        "The table has been modified. The parameter value for key '{key}' is '{found}'. The expected was value was '{expected}'"
    ))
    .into())
}

fn exception_text(exception: &Exception) -> String {
    use tereza_thrift::call::Exceptions;
    exception.message().to_owned()
}
