//! Tables and views, but for altering them.

use std::collections::HashSet;

use tereza_runtime::{ErrorKind, ids};
use tereza_thrift::hive::{
    self, AlreadyExistsException, CreateTableRequest, Exception, FieldSchema, GetTableRequest, GetTablesExtRequest,
    InvalidObjectException, InvalidOperationException, MetaException, TableMeta, UnknownDBException,
    UnknownTableException,
};

use super::constraints::of_constraints;
use super::filter::{Filter, Key, Work};
use super::names::{self, CATALOG, qualified};
use super::pattern::Pattern;
use super::value::Family;
use super::{Answer, Session, below, convert, limit, unless_gone};
use crate::model::{Constraint, Table, TableKind};

/// Tables that are read from the store at once.
const LOADED_AT_ONCE: usize = 200;
/// The names in a filter of tables, in lower case; the last one is followed by that of a parameter.
const FILTER_OWNER: &str = "hive_filter_field_owner__";
const FILTER_LAST_ACCESS: &str = "hive_filter_field_last_access__";
const FILTER_NAME: &str = "hive_filter_field_tablename__";
const FILTER_TYPE: &str = "hive_filter_field_tabletype__";
const FILTER_PARAMETERS: &str = "hive_filter_field_params__";

impl Session {
    /// Names of the tables of a database that fit a pattern and are of a type; none if there is no such database.
    pub(super) async fn table_names(
        &self,
        database: Option<String>,
        pattern: Option<String>,
        table_type: Option<String>,
    ) -> Answer<Vec<String>> {
        let database = match names::database(database) {
            // Another catalog has no tables.
            Err(Exception::NoSuchObject(_)) => return Ok(Vec::new()),
            database => database?,
        };
        let pattern = pattern.as_deref().map(Pattern::of_names);
        let tables = unless_gone(self.store().tables(&database).await)?.unwrap_or_default();
        let fits = |(name, kind): &(String, TableKind)| {
            pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
                && table_type.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == kind.as_str())
        };
        Ok(tables.into_iter().filter(fits).map(|(name, _)| name).collect())
    }

    pub(super) async fn table_meta(
        &self,
        databases: Option<String>,
        tables: Option<String>,
        types: Option<Vec<String>>,
    ) -> Answer<Vec<TableMeta>> {
        let tables = tables.as_deref().map(Pattern::of_names);
        let types = types.filter(|types| !types.is_empty());
        let mut found = Vec::new();
        for database in self.databases(databases).await? {
            let mut names = Vec::new();
            for (name, kind) in unless_gone(self.store().tables(&database).await)?.unwrap_or_default() {
                let is_wanted = tables.as_ref().is_none_or(|pattern| pattern.matches(&name))
                    && types.as_ref().is_none_or(|types| types.iter().any(|wanted| wanted == kind.as_str()));
                if is_wanted {
                    names.push(name);
                }
            }
            for names in names.chunks(LOADED_AT_ONCE) {
                let known = unless_gone(self.store().tables_by_names(&database, names).await)?.unwrap_or_default();
                found.extend(known.into_iter().map(|table| TableMeta {
                    db_name: table.database,
                    table_name: table.name,
                    table_type: table.kind.as_str().to_owned(),
                    comments: table.parameters.get("comment").cloned(),
                    cat_name: Some(CATALOG.to_owned()),
                    owner_name: table.owner,
                    owner_type: Some(convert::kind_to(table.owner_kind)),
                }));
            }
        }
        Ok(found)
    }

    pub(super) async fn tables_ext(&self, request: GetTablesExtRequest) -> Answer<Vec<hive::ExtendedTableInfo>> {
        names::check_catalog(Some(&request.catalog))?;
        let tables = self.table_names(Some(request.database), Some(request.table_name_pattern), None).await?;
        let count = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let info = |tbl_name| hive::ExtendedTableInfo { tbl_name, ..hive::ExtendedTableInfo::default() };
        Ok(tables.into_iter().take(count).map(info).collect())
    }

    pub(super) async fn table_names_by_filter(
        &self,
        database: Option<String>,
        filter: Option<String>,
        max: Option<i16>,
    ) -> Answer<Vec<String>> {
        let database = names::database(database)?;
        if database.is_empty() {
            return Err(UnknownDBException::new("DB name is null or empty").into());
        }
        let filter = filter.ok_or_else(|| InvalidOperationException::new("there is no filter of tables"))?;
        let filter = Filter::of_tables(&filter, table_key).map_err(MetaException::new)?;
        let tables = unless_gone(self.store().tables(&database).await)?.unwrap_or_default();
        let count = limit(max).unwrap_or(usize::MAX);
        let names: Vec<String> = tables.into_iter().map(|(name, _)| name).collect();
        if filter.keys().is_empty() {
            let all = filter.matches(&[], &mut Work::default());
            return Ok(if all { names.into_iter().take(count).collect() } else { Vec::new() });
        }
        let mut found = Vec::new();
        let mut work = Work::default();
        for names in names.chunks(LOADED_AT_ONCE) {
            for table in unless_gone(self.store().tables_by_names(&database, names).await)?.unwrap_or_default() {
                work.go_on().await.map_err(InvalidOperationException::new)?;
                let accessed = table.last_access_time_s.to_string();
                let values: Vec<Option<&str>> =
                    filter.keys().iter().map(|key| value_of(&table, key, &accessed)).collect();
                if found.len() < count && filter.matches(&values, &mut work) {
                    found.push(table.name);
                }
            }
            if found.len() == count {
                break;
            }
        }
        work.go_on().await.map_err(InvalidOperationException::new)?;
        Ok(found)
    }

    pub(super) async fn get_one_table(&self, database: Option<String>, table: Option<String>) -> Answer<hive::Table> {
        let (database, table) = (names::database(database)?, names::object(table));
        Ok(convert::table_to(self.table(&database, &table).await?))
    }

    pub(super) async fn get_table_of(&self, request: GetTableRequest) -> Answer<hive::Table> {
        names::check_catalog(request.cat_name.as_deref())?;
        let with_statistics = request.get_column_stats.unwrap_or_default();
        let mut table = self.get_one_table(Some(request.db_name.clone()), Some(request.tbl_name.clone())).await?;
        if with_statistics {
            let columns = table.sd.as_ref().and_then(|sd| sd.cols.as_ref()).map_or(&[][..], |cols| cols.as_slice());
            let columns: Vec<String> = columns.iter().filter_map(|column| column.name.clone()).collect();
            let objects = self.table_statistics(request.db_name, request.tbl_name, &columns).await?;
            let desc = hive::ColumnStatisticsDesc {
                is_tbl_level: true,
                db_name: table.db_name.clone().unwrap_or_default(),
                table_name: table.table_name.clone().unwrap_or_default(),
                ..hive::ColumnStatisticsDesc::default()
            };
            let statistics = hive::ColumnStatistics { stats_desc: desc, stats_obj: objects, ..Default::default() };
            table.col_stats = Some(Box::new(statistics));
        }
        Ok(table)
    }

    /// Those of the tables that exist, each once.
    pub(super) async fn tables_by_name(
        &self,
        database: Option<String>,
        tables: Option<Vec<String>>,
    ) -> Answer<Vec<hive::Table>> {
        let database = names::database(database)?;
        if database.is_empty() {
            return Err(UnknownDBException::new("DB name is null or empty").into());
        }
        let Some(tables) = tables else {
            return Err(InvalidOperationException::new(format!("{database} cannot find null tables")).into());
        };
        self.store().database(&database).await.map_err(|error| unknown_database(error, &database))?;
        let mut seen = HashSet::new();
        let mut growing = self.growing();
        let mut found = Vec::new();
        let mut names: Vec<String> = tables.into_iter().map(|name| name.to_lowercase()).collect();
        names.retain(|name| seen.insert(name.clone()));
        for names in names.chunks(LOADED_AT_ONCE) {
            let known = self.store().tables_by_names(&database, names).await;
            for table in known.map_err(|error| unknown_database(error, &database))? {
                growing.grow(convert::table_bytes(&table)).await?;
                found.push(convert::table_to(table));
            }
        }
        Ok(found)
    }

    /// Columns, and with `keys` the partition keys after them.
    pub(super) async fn fields(
        &self,
        database: Option<String>,
        table: Option<String>,
        keys: bool,
    ) -> Answer<Vec<FieldSchema>> {
        let (database, table) = (names::database(database)?, names::object(table));
        let known = self.table(&database, &table).await.map_err(|exception| match exception {
            Exception::NoSuchObject(missing) => UnknownTableException { message: missing.message }.into(),
            other => other,
        })?;
        let mut columns = known.storage.columns;
        if keys {
            columns.extend(known.partition_keys);
        }
        Ok(convert::columns_to(columns))
    }

    /// Makes a table with its constraints.
    pub(super) async fn make_table_as(&self, mut request: CreateTableRequest) -> Answer<()> {
        let constraints = Self::constraints_of(&mut request)?;
        self.make_table(request.table, &constraints).await
    }

    pub(super) async fn make_table(&self, table: hive::Table, constraints: &[Constraint]) -> Answer<()> {
        names::check_new_in(table.cat_name.as_deref())?;
        let (database, name) = (names::database(table.db_name.clone())?, names::object(table.table_name.clone()));
        names::check_new(&name, "object")?;
        let mut table = table;
        let grants = Self::grants_of(&database, &name, table.privileges.take());
        let mut new = convert::table_from(database.clone(), name.clone(), table);
        let parent = self.store().database(&database).await;
        // Clients know by this type of exception that the database is missing, or look.
        let parent = parent.map_err(|error| match error.kind() {
            ErrorKind::NotFound => InvalidObjectException::new(&database).into(),
            _ => Exception::from(error),
        })?;
        let exists = || {
            let message = format!("Table {} already exists", qualified(&database, &name));
            Exception::from(AlreadyExistsException::new(message))
        };
        if self.store().table(&database, &name).await.is_ok() {
            return Err(exists());
        }
        if new.kind == TableKind::View {
            new.storage.location = None;
        } else if let Some(location) = &new.storage.location {
            self.wait_for_removal(std::slice::from_ref(location)).await;
        } else {
            let location = below(&parent.location, &name);
            self.wait_for_removal(std::slice::from_ref(&location)).await;
            // A table that was renamed may have left its files there.
            let is_taken = self.store().is_location_taken(&location).await?;
            new.storage.location = Some(if is_taken { format!("{location}_{}", ids::new_id()) } else { location });
        }
        self.make_folders(new.storage.location.iter().cloned().collect(), false).await?;
        let constraints = of_new_table(constraints, &database, &name);
        self.store().create_table_with(&new, &constraints, &grants).await.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists if !error.message().starts_with("constraint") => exists(),
            ErrorKind::AlreadyExists | ErrorKind::InvalidInput => InvalidObjectException::new(error.to_string()).into(),
            _ => of_constraints(error, &constraints),
        })
    }

    pub(super) async fn remove_table(
        &self,
        database: Option<String>,
        table: Option<String>,
        delete_data: bool,
    ) -> Answer<()> {
        let (database, table) = (names::database(database)?, names::object(table));
        let dropped = if delete_data {
            self.store().drop_table_with_files(&database, &table).await
        } else {
            self.store().drop_table(&database, &table).await
        };
        let dropped = dropped.map_err(|error| self.of_table(error, &database, &table))?;
        tracing::debug!(database, table, user = self.user(), "a table was dropped");
        if delete_data && let Some(location) = dropped.storage.location {
            self.wait_for_removal(&[location]).await;
        }
        Ok(())
    }
}

/// The constraints of a table that is made with them: engines need not name it again.
fn of_new_table(constraints: &[Constraint], database: &str, table: &str) -> Vec<Constraint> {
    let named = |own: &Constraint| Constraint { database: database.to_owned(), table: table.to_owned(), ..own.clone() };
    constraints.iter().map(named).collect()
}

/// What a table has of a key that a filter names; when it was last used comes as text.
fn value_of<'a>(table: &'a Table, key: &Key, accessed: &'a str) -> Option<&'a str> {
    match key.name.strip_prefix(FILTER_PARAMETERS) {
        // Names in a filter are in lower case, those of parameters as they came.
        Some(wanted) => {
            let parameter = table.parameters.iter().find(|(name, _)| name.to_lowercase() == wanted);
            parameter.map(|(_, value)| value.as_str())
        }
        None if key.name == FILTER_OWNER => table.owner.as_deref(),
        None if key.name == FILTER_NAME => Some(&table.name),
        None if key.name == FILTER_TYPE => Some(table.kind.as_str()),
        None => Some(accessed),
    }
}

/// The key that a name in a filter of tables stands for.
fn table_key(name: &str) -> Option<Key> {
    let name = name.to_lowercase();
    let family = match name.as_str() {
        FILTER_OWNER | FILTER_NAME | FILTER_TYPE => Family::Text,
        FILTER_LAST_ACCESS => Family::Number,
        other if other.starts_with(FILTER_PARAMETERS) => Family::Text,
        _ => return None,
    };
    Some(Key { name, family })
}

fn unknown_database(error: tereza_runtime::Error, database: &str) -> Exception {
    if error.kind() == ErrorKind::NotFound {
        UnknownDBException::new(format!("Could not find database {CATALOG}.{database}")).into()
    } else {
        error.into()
    }
}
