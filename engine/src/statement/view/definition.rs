//! What a view is by its entry in the catalog: whose, its query, what names in the query mean, its columns.
//!
//! Hive and Spark keep the text of the query; Spark says in parameters which schema was current and which columns of the query
//! are the view's. Presto and Trino keep JSON in Base64 in place of the text, with columns in their types. Tereza keeps its views
//! for both kinds of readers: Presto's JSON, with the query as it was written in a member of Tereza's own, and the text for Spark.
//! Source: Spark's `ViewHelper` and `CatalogTable`, Presto's `ViewDefinition` and `HiveUtil.encodeViewData`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::common::config::Dialect;
use serde::{Deserialize, Serialize};
use tereza_catalog::model::{Column, Parameters, Table};
use tereza_runtime::{Error, Result};

use super::super::ddl::data_type;
use super::super::parse::{Reader, Scope, Text};
use crate::error::from_datafusion;
use crate::session::{DEFAULT_SCHEMA, USER_CATALOG};

/// Parameters of a view that Tereza made: what its text's names mean, and how it is read.
pub(super) const CATALOG: &str = "tereza.view.catalog";
pub(super) const SCHEMA: &str = "tereza.view.schema";
pub(super) const DIALECT: &str = "tereza.view.dialect";
/// The dialect of a query in Flink's SQL.
pub(super) const FLINK: &str = "flink";
/// Names of such a view's columns as they were written, as JSON: the catalog keeps lower case.
pub(super) const COLUMN_NAMES: &str = "tereza.view.columns";

/// The parameter by which Presto knows a view that it can read.
pub(super) const PRESTOS: &str = "presto_view";
/// What Spark calls the catalog that it has a metastore for.
const SPARKS_CATALOG: &str = "spark_catalog";
/// Columns of a view of Spark that are looked for.
const COLUMNS_MAX: usize = 10_000;

/// Around Presto's JSON.
const BEFORE: &str = "/* Presto View: ";
const AFTER: &str = " */";

/// Who made a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Tereza,
    Presto,
    Spark,
    Hive,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A view as it is read.
#[derive(Debug)]
pub(super) struct Definition<'a> {
    pub(super) owner: Owner,
    pub(super) text: Cow<'a, str>,
    /// The catalog and schema of names without them.
    pub(super) catalog: String,
    pub(super) schema: String,
    /// What the owner calls the catalog of the user's tables.
    pub(super) own_catalog: Option<&'a str>,
    pub(super) dialect: Dialect,
    /// Whether the words are Flink's.
    pub(super) is_flink: bool,
    /// None where the view's columns are those of its query.
    pub(super) columns: Cow<'a, [Column]>,
    /// The columns of the query that are the view's, in their order; none where all are.
    pub(super) picked: Vec<&'a str>,
    /// Whether two quotes in a text stand for one, and not for the end of a text and the beginning of another.
    pub(super) doubles_quotes: bool,
    /// Whether a division by zero is an error, and not NULL.
    pub(super) is_ansi: bool,
}

impl<'a> Definition<'a> {
    /// Reads the entry of a view. `presto_name` is what Presto calls the catalog.
    ///
    /// # Errors
    /// `InvalidInput` for an entry without a query, `Unsupported` for one that is encoded in an unknown way or names a catalog
    /// that is not there.
    pub(super) fn of(table: &'a Table, presto_name: &'a str) -> Result<Self> {
        let original = table.view_original_text.as_deref().unwrap_or_default();
        let expanded = table.view_expanded_text.as_deref().filter(|text| !text.trim().is_empty());
        let parameter = |name: &str| -> Option<&'a str> { table.parameters.get(name).map(String::as_str) };
        let columns = Cow::Borrowed(table.storage.columns.as_slice());
        let of_hive = Self {
            owner: Owner::Hive,
            text: Cow::Borrowed(expanded.unwrap_or(original)),
            catalog: USER_CATALOG.into(),
            schema: table.database.clone(),
            own_catalog: None,
            dialect: Dialect::Spark,
            is_flink: false,
            columns,
            picked: Vec::new(),
            doubles_quotes: false,
            is_ansi: false,
        };
        let found = if let Some(view) = PrestoView::decode(original)? {
            match view.tereza {
                Some(own) => Self { text: Cow::Owned(own.sql), ..Self::of_tereza(of_hive, &table.parameters)? },
                None => Self::of_presto(of_hive, view, presto_name),
            }
        } else if original.starts_with("/* Presto") || original.starts_with("/* Trino") {
            let end = original.find(':').unwrap_or(original.len());
            let what = original.get(3..end).unwrap_or_default().trim_end_matches([' ', '*', '/']);
            return Err(Error::unsupported(format!("what is encoded as '{what}'")));
        } else if table.parameters.keys().any(|name| is_sparks(name)) {
            Self::of_spark(of_hive, table, &parameter)?
        } else if parameter(CATALOG).is_some() {
            Self { text: Cow::Borrowed(original), ..Self::of_tereza(of_hive, &table.parameters)? }
        } else {
            of_hive
        };
        if found.text.trim().is_empty() {
            return Err(Error::invalid_input("it has no query"));
        }
        Ok(found)
    }

    fn of_tereza(base: Self, parameters: &Parameters) -> Result<Self> {
        let parameter = |name: &str| parameters.get(name).cloned();
        let is_flink = parameters.get(DIALECT).is_some_and(|dialect| dialect == FLINK);
        let dialect = parameters.get(DIALECT).filter(|_| !is_flink);
        let dialect = dialect.map_or(Ok(Dialect::Generic), |dialect| Dialect::from_str(dialect));
        let columns = match parameters.get(COLUMN_NAMES) {
            Some(names) => Cow::Owned(with_names(&base.columns, names)?),
            None => base.columns,
        };
        Ok(Self {
            owner: Owner::Tereza,
            is_flink,
            columns,
            catalog: parameter(CATALOG).unwrap_or(base.catalog),
            schema: parameter(SCHEMA).unwrap_or(base.schema),
            dialect: dialect.map_err(from_datafusion)?,
            doubles_quotes: true,
            is_ansi: true,
            ..base
        })
    }

    fn of_presto(base: Self, view: PrestoView, presto_name: &'a str) -> Self {
        let catalog = match view.catalog.as_deref() {
            None => USER_CATALOG,
            Some(name) if name == presto_name => USER_CATALOG,
            // Names with all of their parts may mean something all the same.
            Some(name) => name,
        };
        Self {
            owner: Owner::Presto,
            text: Cow::Owned(view.original_sql),
            catalog: catalog.to_owned(),
            schema: view.schema.unwrap_or_else(|| DEFAULT_SCHEMA.into()),
            own_catalog: Some(presto_name),
            dialect: Dialect::Generic,
            columns: Cow::Owned(view.columns.into_iter().map(PrestoColumn::column).collect()),
            doubles_quotes: true,
            is_ansi: true,
            ..base
        }
    }

    fn of_spark(base: Self, table: &'a Table, parameter: &dyn Fn(&str) -> Option<&'a str>) -> Result<Self> {
        let count = |name: &str| parameter(name).and_then(|count| count.parse().ok()).unwrap_or(0).min(COLUMNS_MAX);
        let numbered = |name: &str, count: usize| -> Option<Vec<&'a str>> {
            (0..count).map(|number| parameter(&format!("{name}.{number}"))).collect()
        };
        let place = numbered("view.catalogAndNamespace.part", count("view.catalogAndNamespace.numParts"));
        let (catalog, schema) = match place.as_deref() {
            // Made by a Spark before 3.0, whose names are spelled out.
            Some([]) => (SPARKS_CATALOG, table.database.as_str()),
            Some([catalog, schema]) => (*catalog, *schema),
            _ => return Err(Error::unsupported("a namespace of more than one part")),
        };
        let version = parameter("spark.sql.create.version").unwrap_or_default();
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        let ansi = parameter("view.sqlConfig.spark.sql.ansi.enabled");
        let evolves = parameter("view.schemaMode").is_some_and(|mode| mode.eq_ignore_ascii_case("evolution"));
        let columns: Cow<'a, [Column]> = if evolves { Cow::Borrowed(&[]) } else { base.columns };
        Ok(Self {
            owner: Owner::Spark,
            catalog: if catalog == SPARKS_CATALOG { USER_CATALOG } else { catalog }.to_owned(),
            schema: schema.to_lowercase(),
            own_catalog: Some(SPARKS_CATALOG),
            columns,
            picked: numbered("view.query.out.col", count("view.query.out.numCols")).unwrap_or_default(),
            doubles_quotes: major >= 4,
            is_ansi: ansi.map_or(major >= 4, |ansi| ansi.eq_ignore_ascii_case("true")),
            ..base
        })
    }
}

/// Whether a parameter is one that Spark gives to views.
fn is_sparks(name: &str) -> bool {
    ["view.query.out.", "view.catalogAndNamespace.", "view.sqlConfig.", "view.schemaMode"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// The columns of a view, as its owner says them.
pub(in crate::statement) fn columns(table: &Table) -> Result<Cow<'_, [Column]>> {
    let original = table.view_original_text.as_deref().unwrap_or_default();
    let view = PrestoView::decode(original).map_err(|error| error.context(name(table)))?;
    // Tereza's and those of other systems have them where tables have theirs.
    let Some(view) = view.filter(|view| view.tereza.is_none()) else {
        return Ok(Cow::Borrowed(&table.storage.columns));
    };
    Ok(Cow::Owned(view.columns.into_iter().map(PrestoColumn::column).collect()))
}

/// The query of a view as it was written.
pub(crate) fn query_text(table: &Table) -> Option<Cow<'_, str>> {
    let original = table.view_original_text.as_deref();
    match original.map(PrestoView::decode) {
        Some(Ok(Some(view))) => Some(Cow::Owned(view.tereza.map_or(view.original_sql, |own| own.sql))),
        _ => original.or(table.view_expanded_text.as_deref()).map(Cow::Borrowed),
    }
}

/// What messages call a view.
pub(super) fn name(table: &Table) -> String {
    name_of(&table.database, &table.name)
}

/// The same for one that is only known by its name.
pub(super) fn name_of(database: &str, table: &str) -> String {
    format!("view {database}.{table}")
}

/// Columns with their names as they were written.
fn with_names(columns: &[Column], names: &str) -> Result<Vec<Column>> {
    let names: Vec<String> = serde_json::from_str(names)
        .map_err(|error| Error::invalid_input(format!("the names of its columns cannot be read: {error}")))?;
    let is_same = |(name, column): (&String, &Column)| name.to_lowercase() == column.name;
    if names.len() != columns.len() || !names.iter().zip(columns).all(is_same) {
        return Ok(columns.to_vec());
    }
    Ok(names.into_iter().zip(columns).map(|(name, column)| Column { name, ..column.clone() }).collect())
}

/// A view as Presto keeps it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PrestoView {
    pub(super) original_sql: String,
    pub(super) catalog: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) columns: Vec<PrestoColumn>,
    /// Whose rights count: those of who asks, or of the owner.
    #[serde(default)]
    pub(super) run_as_invoker: bool,
    /// What Presto does not look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tereza: Option<OwnText>,
}

/// A column of a view of Presto.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PrestoColumn {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) type_name: String,
}

/// The query as Tereza was told it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OwnText {
    pub(super) sql: String,
}

impl PrestoView {
    /// The text for the catalog.
    pub(super) fn encode(&self) -> Result<String> {
        let json = serde_json::to_vec(self).map_err(|error| Error::internal(format!("a view is no JSON: {error}")))?;
        Ok(format!("{BEFORE}{}{AFTER}", STANDARD.encode(json)))
    }

    /// Reads such a text; `None` if it is another.
    fn decode(text: &str) -> Result<Option<Self>> {
        let Some(encoded) = text.strip_prefix(BEFORE).and_then(|text| text.strip_suffix(AFTER)) else {
            return Ok(None);
        };
        let broken = |what: String| Error::invalid_input(format!("what Presto encoded is broken: {what}"));
        let json = STANDARD.decode(encoded.trim()).map_err(|error| broken(error.to_string()))?;
        serde_json::from_slice(&json).map(Some).map_err(|error| broken(error.to_string()))
    }
}

impl PrestoColumn {
    /// The same in the words of the metastore; a type that it has no word for stays as it is.
    fn column(self) -> Column {
        let name = self.name.to_lowercase();
        let type_name = metastore_type(&self.type_name).unwrap_or(self.type_name);
        Column { name, type_name, comment: None }
    }
}

fn metastore_type(presto: &str) -> Result<String> {
    let text = Text::new(presto, Scope::fixed(USER_CATALOG, DEFAULT_SCHEMA, Dialect::Generic))?;
    let rules = text.scope.rules();
    let mut reader = Reader::new(&text, rules.as_ref());
    let found = data_type(&mut reader)?;
    reader.end().map(|()| found)
}
