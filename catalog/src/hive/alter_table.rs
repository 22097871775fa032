//! Altering tables: also renaming them, with or without their partitions, and only if a parameter has a value.
//!
//! A table that gets another name keeps its files where they are, a managed one too. Moving them would break the URLs of
//! commits that are not rolled forward, and a death in the middle, or a second rename, would lose files.

use tereza_runtime::ErrorKind;
use tereza_thrift::hive::{
    self, AlterTableRequest, EnvironmentContext, Exception, InvalidOperationException, MetaException,
};

use super::names::{self, qualified};
use super::{Answer, Session, convert};
use crate::model::{Table, TableKind};
use crate::store::places;

/// How often a change is tried again that others were faster than.
const ATTEMPTS_MAX: usize = 100;
/// The serde parameter in which Spark repeats the place of a table's files.
const PATH: &str = "path";

/// What an environment context asks of an alteration.
#[derive(Debug, Default)]
pub(super) struct Demands {
    /// Partitions get the table's columns.
    cascade: bool,
    expected: Expected,
}

/// A parameter and the value that it has to have, for Iceberg's compare-and-set. Both are there or neither.
#[derive(Debug, Default)]
struct Expected {
    key: Option<String>,
    value: Option<String>,
}

impl Demands {
    pub(super) fn of(context: Option<EnvironmentContext>) -> Self {
        let mut properties = context.and_then(|context| context.properties).unwrap_or_default();
        let cascade = properties.get("CASCADE").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let key = properties.remove("expected_parameter_key");
        Self { cascade, expected: Expected { key, value: properties.remove("expected_parameter_value") } }
    }
}

impl Expected {
    /// The demand, if there is one. Half of one, and a new table without the parameter, would change what nobody checked.
    fn of(&self, new: &Table) -> Answer<Option<(&str, &str)>> {
        match (&self.key, &self.value) {
            (None, None) => Ok(None),
            (Some(key), Some(value)) if new.parameters.contains_key(key) => Ok(Some((key, value))),
            (Some(key), Some(_)) => {
                Err(MetaException::new(format!("New value for expected key {key} is not set")).into())
            }
            _ => {
                let message = "expected_parameter_key and expected_parameter_value come together or not at all";
                Err(MetaException::new(message).into())
            }
        }
    }
}

impl Session {
    pub(super) async fn change_table_of(&self, request: AlterTableRequest) -> Answer<()> {
        names::check_catalog(request.cat_name.as_deref())?;
        let mut demands = Demands::of(request.environment_context);
        if request.expected_parameter_key.is_some() || request.expected_parameter_value.is_some() {
            demands.expected =
                Expected { key: request.expected_parameter_key, value: request.expected_parameter_value };
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
        let keeps_keys = new.partition_keys.is_none();
        let mut new = convert::table_from(to_database, to_name, new);
        let expected = demands.expected.of(&new)?;
        for _ in 0..ATTEMPTS_MAX {
            let known = self.store().table(&database, &table).await.map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    InvalidOperationException::new(format!("{} table not found", qualified(&database, &table))).into()
                }
                _ => Exception::from(error),
            })?;
            if let Some((key, value)) = expected {
                check_expected(&known.table, key, value)?;
            }
            if keeps_keys {
                new.partition_keys.clone_from(&known.table.partition_keys);
            }
            // Without a demand the last one to write wins, as everywhere with this interface.
            let version = expected.is_some().then_some(known.version);
            match self.alter_once(&known.table, new.clone(), version, demands.cascade).await {
                Err(Failure::Overtaken) => {}
                Err(Failure::Answer(exception)) => return Err(exception),
                Ok(()) => return Ok(()),
            }
        }
        // Iceberg's client knows by this text that nothing was changed, and tries again.
        let key = expected.map_or("", |(key, _)| key);
        let message = format!("The table has been modified. The parameter value for key '{key}' is different");
        Err(MetaException::new(message).into())
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
        if (&old.database, &old.name) != (&new.database, &new.name) {
            self.check_free(&new).await?;
            keep_path(old, &mut new);
        }
        let altered = if cascade && !new.partition_keys.is_empty() {
            self.store().alter_table_and_partitions(&old.database, &old.name, version, &new).await
        } else {
            self.store().alter_table(&old.database, &old.name, version, &new).await
        };
        altered.map_err(|error| match error.kind() {
            ErrorKind::Conflict => Failure::Overtaken,
            ErrorKind::AlreadyExists => already_there(&new),
            ErrorKind::InvalidInput | ErrorKind::NotFound => {
                Failure::Answer(InvalidOperationException::new(error.to_string()).into())
            }
            _ => Failure::Answer(error.into()),
        })
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
}

/// Why an attempt failed.
enum Failure {
    /// Somebody else changed the table: look again.
    Overtaken,
    Answer(Exception),
}

/// Spark writes into a serde parameter where the files of a renamed table would be if they were moved. They stay.
fn keep_path(old: &Table, new: &mut Table) {
    let (from, to) = (old.storage.location.as_deref(), new.storage.location.as_deref());
    let stays = from.zip(to).is_some_and(|(from, to)| places::is_same(from, to));
    if stays && let Some(path) = old.storage.serde.parameters.get(PATH) {
        new.storage.serde.parameters.insert(PATH.to_owned(), path.clone());
    }
}

fn already_there(new: &Table) -> Failure {
    // Iceberg's client looks for this text, without a catalog.
    let message = format!("new table {}.{} already exists", new.database, new.name);
    Failure::Answer(InvalidOperationException::new(message).into())
}

/// Iceberg's client looks for this text.
fn check_expected(table: &Table, key: &str, expected: &str) -> Answer<()> {
    let found = table.parameters.get(key).map(String::as_str);
    if found == Some(expected) {
        return Ok(());
    }
    let found = found.unwrap_or("null");
    Err(MetaException::new(format!(
        "The table has been modified. The parameter value for key '{key}' is '{found}'. The expected was value was '{expected}'"
    ))
    .into())
}

fn exception_text(exception: &Exception) -> String {
    use tereza_thrift::call::Exceptions;
    exception.message().to_owned()
}
