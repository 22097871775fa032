//! SHOW.
//!
//! What is about the session (settings, functions, and in its own catalog tables and columns) is DataFusion's; what is about
//! names of the catalog is listed here, in columns of text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::{Column, ColumnStatistics, Database, Parameters, Range, Table, TableKind, partition_name};
use tereza_runtime::{Error, Result};

use super::ddl::Spec;
use super::describe::{COLUMNS, columns_of};
use super::errors;
use super::parse::{Home, Reader, SchemaName, TableName};
use super::{Planned, Planner, stream, text_rows, text_schema, view};
use crate::catalogs::TEMPORARY;
use crate::flink::is_secret;
use crate::formats::{Format, spark};
use crate::session::{Session, USER_CATALOG};

/// A SHOW statement that Tereza answers.
pub(super) enum Show {
    Catalogs(Pattern),
    Schemas {
        catalog: String,
        pattern: Pattern,
    },
    Tables {
        schema: SchemaName,
        views: bool,
        pattern: Pattern,
    },
    Columns {
        table: TableName,
        pattern: Pattern,
    },
    Partitions {
        table: TableName,
        spec: Option<Spec>,
    },
    CreateTable {
        name: TableName,
        view: bool,
    },
    CreateSchema(SchemaName),
    Properties {
        table: TableName,
        key: Option<String>,
    },
    Stats(TableName),
    /// Everything that can be set.
    Settings(Pattern),
}

/// Reads a SHOW statement; `None` if it is DataFusion's.
pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Option<Show>> {
    reader.expect("SHOW")?;
    let kinds = [
        "CATALOGS",
        "SCHEMAS",
        "DATABASES",
        "TABLES",
        "VIEWS",
        "COLUMNS",
        "PARTITIONS",
        "CREATE TABLE",
        "CREATE VIEW",
        "CREATE SCHEMA",
        "CREATE DATABASE",
        "TBLPROPERTIES",
        "STATS FOR",
        "SESSION",
    ];
    let show = match reader.take_one(&kinds) {
        Some("CATALOGS") => Show::Catalogs(Pattern::parse(reader)?),
        Some("SCHEMAS" | "DATABASES") => {
            let catalog = match from(reader) {
                true => reader.identifier()?,
                false => reader.text.scope.catalog.clone(),
            };
            Show::Schemas { catalog, pattern: Pattern::parse(reader)? }
        }
        Some(kind @ ("TABLES" | "VIEWS")) => {
            let scope = &reader.text.scope;
            let current = SchemaName { catalog: scope.catalog.clone(), schema: scope.schema.clone() };
            let said = from(reader);
            let schema = if said { reader.schema_name()? } else { current };
            let pattern = Pattern::parse(reader)?;
            if kind == "TABLES" && !said && pattern.0.is_none() && schema.home() == Home::Session {
                return Ok(None);
            }
            Show::Tables { schema, views: kind == "VIEWS", pattern }
        }
        Some("COLUMNS") => {
            if !from(reader) {
                return Err(reader.expected("FROM"));
            }
            let table = reader.table_name()?;
            if Home::of(&table.catalog) == Home::Session {
                return Ok(None);
            }
            Show::Columns { table, pattern: Pattern::parse(reader)? }
        }
        Some("PARTITIONS") => {
            let _ = from(reader);
            let table = reader.table_name()?;
            table.require_tereza("SHOW PARTITIONS")?;
            let spec = if reader.take("PARTITION") { Some(Spec::parse(reader)?) } else { None };
            Show::Partitions { table, spec }
        }
        Some(kind @ ("CREATE TABLE" | "CREATE VIEW")) => {
            let name = reader.table_name()?;
            if name.home() == Home::Session && kind == "CREATE TABLE" {
                return Ok(None);
            }
            name.require_tereza(&format!("SHOW {kind}"))?;
            Show::CreateTable { name, view: kind == "CREATE VIEW" }
        }
        Some("CREATE SCHEMA" | "CREATE DATABASE") => {
            let schema = reader.schema_name()?;
            if schema.home() != Home::Tereza {
                return Err(Error::unsupported(format!("SHOW CREATE SCHEMA on {schema}")));
            }
            Show::CreateSchema(schema)
        }
        Some("TBLPROPERTIES") => {
            let table = reader.table_name()?;
            table.require_tereza("SHOW TBLPROPERTIES")?;
            let key = if reader.at_token(&Token::LParen) { reader.list(super::ddl::key)?.pop() } else { None };
            Show::Properties { table, key }
        }
        Some("STATS FOR") => {
            let table = reader.table_name()?;
            table.require_tereza("SHOW STATS")?;
            Show::Stats(table)
        }
        Some(_) => Show::Settings(Pattern::parse(reader)?),
        None => return Ok(None),
    };
    Ok(Some(show))
}

fn from(reader: &mut Reader<'_>) -> bool {
    reader.take("FROM") || reader.take("IN")
}

/// A LIKE pattern: SQL's `%` and `_`, and Hive's `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Option<String>);

impl Pattern {
    fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        if reader.take("LIKE") || matches!(reader.parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
            return Ok(Self(Some(reader.text()?.replace('*', "%"))));
        }
        Ok(Self(None))
    }

    /// The names that match, in their order.
    fn filter(&self, names: Vec<String>) -> Result<Vec<String>> {
        let Some(pattern) = &self.0 else { return Ok(names) };
        let matches: BooleanArray =
            arrow::compute::ilike(&StringArray::from_iter_values(&names), &StringArray::new_scalar(pattern))
                .map_err(|error| Error::invalid_input(format!("pattern '{pattern}' cannot be read: {error}")))?;
        Ok(names
            .into_iter()
            .zip(&matches)
            .filter(|(_, matches)| *matches == Some(true))
            .map(|(name, _)| name)
            .collect())
    }
}

impl Show {
    pub(super) async fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        if let Self::Settings(pattern) = &self {
            let filter = match &pattern.0 {
                Some(pattern) => format!(" WHERE name LIKE '{}'", pattern.replace('\'', "''")),
                None => String::new(),
            };
            let sql =
                format!("SELECT name, value, description FROM information_schema.df_settings{filter} ORDER BY name");
            return planner.plan_text(&sql).await;
        }
        let session = Arc::clone(planner.session);
        let schema = text_schema(self.columns());
        let rows = Arc::clone(&schema);
        Ok(Planned::rows(schema, async move { self.run(&session, &rows).await }))
    }

    fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Catalogs(_) => &["catalog_name"],
            Self::Schemas { .. } => &["schema_name"],
            Self::Tables { views: false, .. } => &["table_name", "table_type"],
            Self::Tables { views: true, .. } => &["view_name"],
            Self::Columns { .. } => &COLUMNS,
            Self::Partitions { .. } => &["partition"],
            Self::CreateTable { .. } | Self::CreateSchema(_) => &["create_statement"],
            Self::Properties { .. } => &["key", "value"],
            Self::Stats(_) => &STATISTICS,
            Self::Settings(_) => &["name", "value", "description"],
        }
    }

    async fn run(self, session: &Session, schema: &SchemaRef) -> Result<RecordBatch> {
        let one = |names: Vec<String>| names.into_iter().map(|name| vec![Some(name)]).collect::<Vec<_>>();
        let rows = match self {
            Self::Catalogs(pattern) => {
                let mut names = session.context.catalog_names();
                names.sort();
                one(pattern.filter(names)?)
            }
            Self::Schemas { catalog, pattern } => match errors::schema_names(session, &catalog).await? {
                Some(names) => one(pattern.filter(names)?),
                None => return Err(errors::missing_catalog(session, &catalog)),
            },
            Self::Tables { schema, views, pattern } => {
                let tables = tables(session, &schema).await?;
                let names = tables.iter().filter(|(_, kind)| !views || *kind == "VIEW").map(|(name, _)| name.clone());
                let shown: BTreeSet<String> = pattern.filter(names.collect())?.into_iter().collect();
                let tables = tables.into_iter().filter(|(name, _)| shown.contains(name));
                tables.map(|(name, kind)| if views { vec![Some(name)] } else { vec![Some(name), Some(kind)] }).collect()
            }
            Self::Columns { table, pattern } => {
                let columns = columns_of(session, &table).await?;
                let names = columns.iter().filter_map(|row| row.first().cloned().flatten()).collect();
                let shown: BTreeSet<String> = pattern.filter(names)?.into_iter().collect();
                columns
                    .into_iter()
                    .filter(|row| matches!(row.first(), Some(Some(name)) if shown.contains(name)))
                    .collect()
            }
            Self::Partitions { table, spec } => one(partitions(session, &table, spec).await?),
            Self::CreateTable { name, view } => one(vec![create_statement(session, &name, view).await?]),
            Self::CreateSchema(name) => one(vec![create_schema(&errors::database(session, &name).await?)]),
            Self::Properties { table, key } => {
                properties(errors::table(session, &table).await?.table.parameters, &table, key)?
            }
            Self::Stats(table) => statistics(session, &table).await?,
            Self::Settings(_) => return Err(Error::internal("settings are shown by a query")),
        };
        text_rows(schema, &rows)
    }
}

/// Names and kinds of a schema's tables, sorted.
async fn tables(session: &Session, schema: &SchemaName) -> Result<Vec<(String, String)>> {
    if schema.home() == Home::Tereza {
        errors::database(session, schema).await?;
        let tables = session.engine.catalog.tables(&schema.schema).await?;
        let kind = |kind: TableKind| match kind {
            TableKind::Managed => "TABLE",
            TableKind::External => "EXTERNAL TABLE",
            TableKind::View | TableKind::MaterializedView => "VIEW",
        };
        let mut tables: BTreeMap<String, String> =
            tables.into_iter().map(|(name, table)| (name, kind(table).to_owned())).collect();
        let temporary = session.catalogs().temporary_streams().names(&schema.schema);
        tables.extend(temporary.into_iter().map(|name| (name, TEMPORARY.to_owned())));
        return Ok(tables.into_iter().collect());
    }
    if schema.schema == "information_schema" {
        let names = ["columns", "df_settings", "parameters", "routines", "schemata", "tables", "views"];
        return Ok(names.map(|name| (name.to_owned(), "VIEW".to_owned())).into());
    }
    let known = errors::schema_names(session, &schema.catalog).await?;
    if !known.is_some_and(|known| known.contains(&schema.schema)) {
        return Err(errors::missing_schema(session, schema).await);
    }
    session.catalogs().tables(&schema.catalog, &schema.schema).await
}

async fn partitions(session: &Session, name: &TableName, spec: Option<Spec>) -> Result<Vec<String>> {
    let table = errors::table(session, name).await?.table;
    if table.partition_keys.is_empty() {
        return Err(Error::invalid_input(format!("table {name} is not partitioned")));
    }
    let store = &session.engine.catalog;
    let Some(spec) = spec else { return store.partition_names(&table.database, &table.name).await };
    let partitions = store.partitions(&table.database, &table.name, &spec.filter(&table)?, None).await?;
    let shown = partitions.iter().filter(|partition| spec.matches(&table, partition));
    Ok(shown.map(|partition| partition_name(&table.partition_keys, &partition.values)).collect())
}

fn properties(parameters: Parameters, name: &TableName, key: Option<String>) -> Result<Vec<Vec<Option<String>>>> {
    let row = |(key, value): (String, String)| {
        let value = if super::ddl::is_credential(&key) || is_secret(&key) { "***".to_owned() } else { value };
        vec![Some(key), Some(value)]
    };
    let Some(key) = key else { return Ok(parameters.into_iter().map(row).collect()) };
    match parameters.get(&key) {
        Some(value) => Ok(vec![row((key.clone(), value.clone()))]),
        None => {
            let error = Error::not_found(format!("{name} has no property '{key}'"));
            Err(errors::did_you_mean(error, &key, parameters.keys().map(String::as_str)))
        }
    }
}

const STATISTICS: [&str; 8] =
    ["column_name", "data_type", "num_nulls", "num_distincts", "low_value", "high_value", "avg_length", "max_length"];

/// A row for each column with statistics, in the order of the table.
async fn statistics(session: &Session, name: &TableName) -> Result<Vec<Vec<Option<String>>>> {
    let table = errors::table(session, name).await?.table;
    let known = session.engine.catalog.column_statistics(&table.database, &table.name, None).await?;
    let row = |statistics: &ColumnStatistics| {
        let (low, high) = match &statistics.range {
            Range::None => (None, None),
            Range::Long { low, high } => (Some(low.to_string()), Some(high.to_string())),
            Range::Double { low, high } => (Some(low.to_string()), Some(high.to_string())),
            Range::Decimal { low, high } => (Some(low.clone()), Some(high.clone())),
        };
        vec![
            Some(statistics.column.clone()),
            Some(statistics.type_name.clone()),
            Some(statistics.num_nulls.to_string()),
            statistics.num_distincts.map(|count| count.to_string()),
            low,
            high,
            statistics.avg_length.map(|length| length.to_string()),
            statistics.max_length.map(|length| length.to_string()),
        ]
    };
    let columns = spark::columns(&table)?;
    let columns = columns.iter().chain(&table.partition_keys);
    Ok(columns.filter_map(|column| known.iter().find(|known| known.column == column.name)).map(row).collect())
}

/// Parameters that say what a table holds, not how to make it.
const STATE_PARAMETERS: [&str; 8] = [
    "COLUMN_STATS_ACCURATE",
    "EXTERNAL",
    "comment",
    "numFiles",
    "numRows",
    "rawDataSize",
    "totalSize",
    "transient_lastDdlTime",
];

async fn create_statement(session: &Session, name: &TableName, view: bool) -> Result<String> {
    if !view && let Some(found) = stream::find(session, name).await? {
        return Ok(stream::create_statement(session, name, &found));
    }
    let table = errors::table(session, name).await?.table;
    match (table.kind, view) {
        (TableKind::View | TableKind::MaterializedView, _) => Ok(create_view(&table)),
        (_, true) => Err(Error::invalid_input(format!("{name} is a table")).with_hint("use SHOW CREATE TABLE")),
        (kind, false) => create_table(&table, Format::of_table(&table, &table.storage)?, kind == TableKind::External),
    }
}

fn create_view(table: &Table) -> String {
    // A view is shown also if its columns cannot be read.
    let columns = view::columns(table).unwrap_or_default();
    let columns: Vec<String> = columns.iter().map(|column| identifier(&column.name)).collect();
    let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
    let text = view::query_text(table).unwrap_or_default();
    format!("CREATE VIEW {}{columns}{} AS {text}", full_name(table), comment(table.parameters.get("comment")))
}

fn create_table(table: &Table, format: Format, external: bool) -> Result<String> {
    let column = |column: &Column| {
        format!("{} {}{}", identifier(&column.name), column.type_name, comment(column.comment.as_ref()))
    };
    let list = |columns: &[Column]| columns.iter().map(column).collect::<Vec<_>>().join(", ");
    let storage = &table.storage;
    let mut sql = format!(
        "CREATE {}TABLE {} ({}){}",
        if external { "EXTERNAL " } else { "" },
        full_name(table),
        list(&spark::columns(table)?),
        comment(table.parameters.get("comment"))
    );
    if !table.partition_keys.is_empty() {
        sql.push_str(&format!(" PARTITIONED BY ({})", list(&table.partition_keys)));
    }
    match format {
        Format::Parquet => sql.push_str(" STORED AS PARQUET"),
        Format::Orc => sql.push_str(" STORED AS ORC"),
        Format::Avro => sql.push_str(" STORED AS AVRO"),
        // How text is written is in the classes and their properties.
        Format::Csv | Format::Text | Format::Json => {
            let class = |class: &Option<String>| text(class.as_deref().unwrap_or_default());
            sql.push_str(&format!(" ROW FORMAT SERDE {}", class(&storage.serde.library)));
            sql.push_str(&list_of(" WITH SERDEPROPERTIES", &storage.serde.parameters, |_| true));
            sql.push_str(&format!(
                " STORED AS INPUTFORMAT {} OUTPUTFORMAT {}",
                class(&storage.input_format),
                class(&storage.output_format)
            ));
        }
    }
    if let Some(location) = storage.location.as_deref().filter(|_| external) {
        sql.push_str(&format!(" LOCATION {}", text(location)));
    }
    sql.push_str(&list_of(" TBLPROPERTIES", &table.parameters, |key| !STATE_PARAMETERS.contains(&key)));
    Ok(sql)
}

fn create_schema(database: &Database) -> String {
    format!(
        "CREATE SCHEMA {}{} LOCATION {}{}",
        identifier(&database.name),
        comment(database.description.as_ref()),
        text(&database.location),
        list_of(" WITH DBPROPERTIES", &database.parameters, |_| true)
    )
}

fn full_name(table: &Table) -> String {
    format!("{}.{}.{}", USER_CATALOG, identifier(&table.database), identifier(&table.name))
}

fn comment(comment: Option<&String>) -> String {
    comment.map_or_else(String::new, |comment| format!(" COMMENT {}", text(comment)))
}

fn list_of(clause: &str, parameters: &Parameters, shown: impl Fn(&str) -> bool) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .filter(|(key, _)| shown(key))
        .map(|(key, value)| {
            // The catalog of another system may hold what Tereza would not have taken.
            let value = if super::ddl::is_credential(key) { "***" } else { value };
            format!("{} = {}", text(key), text(value))
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("{clause} ({})", pairs.join(", ")) }
}

fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as it must be written to mean itself.
fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.into() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse::{Own, Parsed, Text, tests::scope};

    fn show(sql: &str) -> Option<Show> {
        match Text::new(sql, scope()).and_then(|text| text.parse()).expect("reads") {
            Parsed::Own(Own::Show(show)) => Some(show),
            Parsed::Own(_) => panic!("{sql} is no SHOW"),
            Parsed::DataFusion(_) => None,
        }
    }

    #[test]
    fn what_is_the_sessions_is_datafusions() {
        for sql in
            ["show all", "show datafusion.execution.batch_size", "show functions", "show columns from memory.public.t"]
        {
            assert!(show(sql).is_none(), "{sql}");
        }
        assert!(matches!(show("show tables"), Some(Show::Tables { views: false, .. })));
        assert!(matches!(show("show schemas from tpch like 'sf%'"), Some(Show::Schemas { .. })));
        assert!(
            matches!(show("show tables 'a*'"), Some(Show::Tables { pattern: Pattern(Some(like)), .. }) if like == "a%")
        );
    }

    #[test]
    fn patterns_filter_names() {
        let names = || vec!["alpha".to_owned(), "beta".to_owned(), "ax".to_owned()];
        assert_eq!(Pattern(Some("A%".into())).filter(names()).expect("matches"), ["alpha", "ax"]);
        assert_eq!(Pattern(Some("a_".into())).filter(names()).expect("matches"), ["ax"]);
        assert_eq!(Pattern(None).filter(names()).expect("matches"), names());
    }

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!(identifier("a_1"), "a_1");
        assert_eq!(identifier("count(*)"), "\"count(*)\"");
        assert_eq!(identifier("1a"), "\"1a\"");
    }
}
