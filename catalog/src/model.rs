//! The nouns of the catalog, field for field as the Hive Metastore keeps them.
//!
//! Names of databases, tables and columns are lower case; parameters are free text. A missing value and an empty one are
//! different things to a metastore, so what may be missing is an `Option`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Free `key = value` text of a database, table, partition, serde or storage.
pub type Parameters = BTreeMap<String, String>;

/// The text in partition names and values that stands for SQL NULL (`hive.exec.default.partition.name`).
pub const DEFAULT_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// A database (schema): a named set of tables with a default place for their files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Lower-case name.
    pub name: String,
    /// Comment.
    pub description: Option<String>,
    /// URL of the folder that new managed tables get theirs in.
    pub location: String,
    /// Owner's name.
    pub owner: Option<String>,
    /// What the owner is.
    #[serde(default)]
    pub owner_kind: PrincipalKind,
    /// Free text.
    pub parameters: Parameters,
}

/// A column of a table, or a partition key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Lower-case name.
    pub name: String,
    /// Hive type text, such as `bigint` or `map<string,array<int>>`.
    pub type_name: String,
    /// Comment.
    pub comment: Option<String>,
}

/// How rows turn into bytes: the serde class and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Serde {
    /// Free name; Presto writes the table's name, Spark nothing.
    pub name: Option<String>,
    /// Java class of the serde, such as `org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe`.
    pub library: Option<String>,
    /// Serde parameters, such as `field.delim`.
    pub parameters: Parameters,
}

/// Where the rows of a table or partition are and how they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Storage {
    /// Columns in order, without partition keys.
    pub columns: Vec<Column>,
    /// URL of the folder; none for a view.
    pub location: Option<String>,
    /// Java class of the input format: together with the serde it names the file format.
    pub input_format: Option<String>,
    /// Java class of the output format.
    pub output_format: Option<String>,
    /// Whether files are compressed as a whole.
    pub compressed: bool,
    /// Number of buckets as the client sent it: 0 and -1 both mean none.
    pub num_buckets: i32,
    /// Columns that rows are bucketed by.
    pub bucket_columns: Vec<String>,
    /// Columns that rows are sorted by within a bucket, with 1 for ascending and 0 for descending.
    pub sort_columns: Vec<(String, i32)>,
    /// The serde.
    pub serde: Serde,
    /// Free text.
    pub parameters: Parameters,
    /// Whether each partition has sub-folders (skewed tables).
    pub stored_as_sub_directories: bool,
    /// Values that many rows have.
    #[serde(default)]
    pub skewed: Skewed,
}

/// Values that many rows of a table have, for an engine to treat in another way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Skewed {
    /// Columns.
    pub columns: Vec<String>,
    /// For each of the values one for each column.
    pub values: Vec<Vec<String>>,
    /// Folders of such values that have their own.
    #[serde(with = "as_pairs")]
    pub locations: BTreeMap<Vec<String>, String>,
}

/// JSON has no lists for keys.
mod as_pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Locations = BTreeMap<Vec<String>, String>;

    pub(super) fn serialize<S: Serializer>(locations: &Locations, serializer: S) -> Result<S::Ok, S::Error> {
        locations.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Locations, D::Error> {
        Vec::<(Vec<String>, String)>::deserialize(deserializer).map(|pairs| pairs.into_iter().collect())
    }
}

/// What kind of thing a table is: the metastore's `TBL_TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableKind {
    /// Its files belong to it: dropped with it.
    Managed,
    /// Its files belong to somebody else: kept when it is dropped.
    External,
    /// A stored query.
    View,
    /// A stored query with its stored result.
    MaterializedView,
}

impl TableKind {
    /// The metastore's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "MANAGED_TABLE",
            Self::External => "EXTERNAL_TABLE",
            Self::View => "VIRTUAL_VIEW",
            Self::MaterializedView => "MATERIALIZED_VIEW",
        }
    }

    /// Reads the metastore's word; a missing or unknown one means external, as in the metastore.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("MANAGED_TABLE") => Self::Managed,
            Some("VIRTUAL_VIEW") => Self::View,
            Some("MATERIALIZED_VIEW") => Self::MaterializedView,
            _ => Self::External,
        }
    }
}

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Lower-case name of its database.
    pub database: String,
    /// Lower-case name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// Owner's name.
    pub owner: Option<String>,
    /// What the owner is.
    #[serde(default)]
    pub owner_kind: PrincipalKind,
    /// Seconds since 1970; set by the store when the table is made.
    pub create_time_s: i64,
    /// Seconds since 1970, 0 if never kept.
    pub last_access_time_s: i64,
    /// As the client sent it.
    pub retention: i32,
    /// Columns, place and format.
    pub storage: Storage,
    /// Keys that rows are partitioned by, in order; their values are folders, not columns of the files.
    pub partition_keys: Vec<Column>,
    /// Free text: statistics (`numRows`, `totalSize`), `comment`, `EXTERNAL`, what clients add.
    pub parameters: Parameters,
    /// The query of a view as written.
    pub view_original_text: Option<String>,
    /// The query of a view with every name spelled out.
    pub view_expanded_text: Option<String>,
}

impl Table {
    /// Whether its files go when it is dropped with them: those of an external table only where that is asked for
    /// (`external.table.purge`).
    pub fn owns_files(&self) -> bool {
        match self.kind {
            TableKind::Managed | TableKind::MaterializedView => true,
            TableKind::View => false,
            TableKind::External => {
                self.parameters.get("external.table.purge").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            }
        }
    }
}

/// One partition of a table: the rows with the same values of the partition keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Values in the order of the table's partition keys; NULL is [`DEFAULT_PARTITION`].
    pub values: Vec<String>,
    /// Seconds since 1970; set by the store.
    pub create_time_s: i64,
    /// Seconds since 1970, 0 if never kept.
    pub last_access_time_s: i64,
    /// Columns, place and format; equal to the table's for partitions that Tereza makes.
    pub storage: Storage,
    /// Free text: statistics and what clients add.
    pub parameters: Parameters,
}

/// Statistics of one column, as the metastore's `TAB_COL_STATS` and `PART_COL_STATS` keep them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// Column name.
    pub column: String,
    /// Hive type text.
    pub type_name: String,
    /// Number of rows in which it is NULL.
    pub num_nulls: i64,
    /// Estimated number of distinct values.
    pub num_distincts: Option<i64>,
    /// Lowest and highest value, in the shape of the type.
    pub range: Range,
    /// Mean length in bytes, for text and binary.
    pub avg_length: Option<f64>,
    /// Greatest length in bytes, for text and binary.
    pub max_length: Option<i64>,
    /// Number of rows in which it is true, for booleans.
    pub num_trues: Option<i64>,
    /// Number of rows in which it is false, for booleans.
    pub num_falses: Option<i64>,
    /// Seconds since 1970; set by the store.
    pub last_analyzed_s: i64,
}

/// Lowest and highest value of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Range {
    /// Not kept (text, binary, boolean, nested types, no rows).
    None,
    /// Integers; dates as days since 1970, timestamps as seconds since 1970.
    Long {
        /// Lowest.
        low: i64,
        /// Highest.
        high: i64,
    },
    /// Floating-point numbers.
    Double {
        /// Lowest.
        low: f64,
        /// Highest.
        high: f64,
    },
    /// Decimals, as text such as `2.56`.
    Decimal {
        /// Lowest.
        low: String,
        /// Highest.
        high: String,
    },
}

/// A function that users registered: code for an engine to load (`FUNCS`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Lower-case name of its database.
    pub database: String,
    /// Lower-case name.
    pub name: String,
    /// Java class.
    pub class_name: Option<String>,
    /// Owner's name.
    pub owner: Option<String>,
    /// Seconds since 1970; set by the store when the function is made.
    pub create_time_s: i64,
    /// Files that the code is in: the metastore's number of the kind (1 JAR, 2 file, 3 archive) and a URL.
    pub resources: Vec<(i32, String)>,
}

/// What a table says of its columns, for engines to use or to enforce: the catalog checks no rows (`KEY_CONSTRAINTS`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Lower-case name, of which a catalog has no two.
    pub name: String,
    /// Lower-case name of the database.
    pub database: String,
    /// Lower-case name of the table whose columns it is about.
    pub table: String,
    /// Columns or partition keys in the order of the key; one for [`Rule::NotNull`] and [`Rule::Default`], none for a
    /// [`Rule::Check`] of whole rows.
    pub columns: Vec<String>,
    /// What is said of them.
    pub rule: Rule,
    /// Whether new rows are to be checked.
    pub enabled: bool,
    /// Whether the rows that are there are to be checked.
    pub validated: bool,
    /// Whether a planner may rely on it.
    pub relied: bool,
}

/// What a [`Constraint`] says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// No two rows have the same values, none is NULL, and no other constraint of the table is one.
    PrimaryKey,
    /// The values are those of a row of another table.
    ForeignKey(Reference),
    /// No two rows have the same values.
    Unique,
    /// None is NULL.
    NotNull,
    /// What a column gets that an INSERT does not name, as an expression.
    Default(String),
    /// An expression that is true of every row.
    Check(String),
}

/// What a foreign key refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Lower-case name of the database.
    pub database: String,
    /// Lower-case name of the table.
    pub table: String,
    /// A column for each of the key, in its order.
    pub columns: Vec<String>,
    /// What happens when the row changes, in JDBC's numbers (`DatabaseMetaData.importedKeyCascade` and so on).
    pub update_rule: Option<i32>,
    /// What happens when the row goes, in the same numbers.
    pub delete_rule: Option<i32>,
}

/// The role that may do everything.
pub const ADMIN_ROLE: &str = "admin";
/// The role that everybody has.
pub const PUBLIC_ROLE: &str = "public";

/// What somebody is who owns something or was given something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum PrincipalKind {
    /// A user.
    #[default]
    User,
    /// A role.
    Role,
    /// A group of users that something else keeps.
    Group,
}

impl PrincipalKind {
    /// The metastore's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::Role => "ROLE",
            Self::Group => "GROUP",
        }
    }

    /// Reads the metastore's word; a missing or unknown one means a user, as in the metastore.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("ROLE") => Self::Role,
            Some("GROUP") => Self::Group,
            _ => Self::User,
        }
    }
}

/// Somebody. Names keep their case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Name.
    pub name: String,
    /// What they are.
    pub kind: PrincipalKind,
}

/// A role (`ROLES`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Name, in its own case.
    pub name: String,
    /// Who made it.
    pub owner: Option<String>,
    /// Seconds since 1970; set by the store.
    pub create_time_s: i64,
}

/// That somebody has a role (`ROLE_MAP`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleGrant {
    /// The role.
    pub role: String,
    /// Who has it.
    pub to: Principal,
    /// Who gave it.
    pub grantor: Option<Principal>,
    /// Whether they may give it on.
    pub grant_option: bool,
    /// Seconds since 1970; set by the store.
    pub added_s: i64,
}

/// What privileges are on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Securable {
    /// All of the catalog.
    Everything,
    /// A database.
    Database {
        /// Its name.
        database: String,
    },
    /// A table.
    Table {
        /// Its database.
        database: String,
        /// Its name.
        table: String,
    },
    /// A partition.
    Partition {
        /// The table's database.
        database: String,
        /// The table.
        table: String,
        /// Its values.
        values: Vec<String>,
    },
    /// A column, of the whole table or of one partition.
    Column {
        /// The table's database.
        database: String,
        /// The table.
        table: String,
        /// The partition's values.
        partition: Option<Vec<String>>,
        /// Its name.
        column: String,
    },
}

/// That somebody may do something. It is kept for engines to read: the catalog asks nobody for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// On what.
    pub on: Securable,
    /// Who may.
    pub to: Principal,
    /// The engine's word for what they may do, in its case, such as `SELECT`.
    pub privilege: String,
    /// Who gave it.
    pub grantor: Option<Principal>,
    /// Whether they may give it on.
    pub grant_option: bool,
    /// Seconds since 1970; set by the store.
    pub create_time_s: i64,
    /// The engine's word for the rules that it is part of, such as `SQL`.
    pub authorizer: Option<String>,
}

/// How much a lock keeps others out, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LockMode {
    /// Others may read and write.
    SharedRead,
    /// Others may read.
    SharedWrite,
    /// Nobody else.
    Exclusive,
}

impl LockMode {
    /// Whether the two cannot be held at once.
    pub const fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Exclusive, _) | (_, Self::Exclusive) | (Self::SharedWrite, Self::SharedWrite) => true,
            (Self::SharedRead, _) | (_, Self::SharedRead) => false,
        }
    }
}

/// One thing that a lock is on. It need not exist: a table that is about to be made is locked too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockPart {
    /// How.
    pub mode: LockMode,
    /// Lower-case name of the database.
    pub database: String,
    /// Lower-case name of the table; none for all of the database.
    pub table: Option<String>,
    /// Name of the partition; none for all of the table.
    pub partition: Option<String>,
}

impl LockPart {
    /// Whether the two are on the same thing, or one on what the other is in, and cannot be held at once.
    pub fn is_in_the_way_of(&self, other: &Self) -> bool {
        let overlaps = |one: &Option<String>, two: &Option<String>| one.is_none() || two.is_none() || one == two;
        self.mode.excludes(other.mode)
            && self.database == other.database
            && overlaps(&self.table, &other.table)
            && overlaps(&self.partition, &other.partition)
    }
}

/// A submitted statement, stream or training that outlives its client (`TZ_JOBS`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Id.
    pub id: String,
    /// Name given by its submitter: unique among jobs that are not done.
    pub name: Option<String>,
    /// Of those that wait, the one with the greatest is next.
    pub priority: i32,
    /// `sql`, `stream`, `train`, …
    pub kind: String,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled`.
    pub state: String,
    /// Submitting user.
    pub user: String,
    /// What to do: the statement, or a document.
    pub text: String,
    /// How often it was started.
    pub attempts: i32,
    /// The process that runs it.
    pub owner: Option<String>,
    /// How many of its steps (of a text of SQL: statements) are done. A commit may be one of them ([`JobStep`]).
    ///
    /// [`JobStep`]: crate::store::JobStep
    pub step: i32,
    /// Free text of the job's kind, as JSON.
    pub detail: String,
    /// Milliseconds since 1970 when it was submitted.
    pub created_ms: i64,
    /// Milliseconds since 1970 of its last change; set by the store.
    pub updated_ms: i64,
    /// Goes up by one with each change; an update names the version it read.
    pub version: i64,
}

/// The name of a partition: `key=value` joined by `/`, escaped as Hive escapes folder names.
///
/// Source: `org.apache.hadoop.hive.common.FileUtils.makePartName`; the empty value and NULL are both
/// [`DEFAULT_PARTITION`].
pub fn partition_name(keys: &[Column], values: &[String]) -> String {
    let mut name = String::new();
    for (key, value) in keys.iter().zip(values) {
        if !name.is_empty() {
            name.push('/');
        }
        escape_path_name(&key.name, &mut name);
        name.push('=');
        if value.is_empty() { name.push_str(DEFAULT_PARTITION) } else { escape_path_name(value, &mut name) }
    }
    name
}

/// Undoes the escaping of one folder name (`%XX`), leaving a stray `%` as it is.
pub fn unescape_path_name(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn escape_path_name(text: &str, out: &mut String) {
    for c in text.chars() {
        let special = matches!(
            c,
            '\u{1}'
                ..='\u{1f}'
                    | '"'
                    | '#'
                    | '%'
                    | '\''
                    | '*'
                    | '/'
                    | ':'
                    | '='
                    | '?'
                    | '\\'
                    | '\u{7f}'
                    | '{'
                    | '['
                    | ']'
                    | '^'
        );
        if special { out.push_str(&format!("%{:02X}", u32::from(c))) } else { out.push(c) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<Column> {
        names.iter().map(|name| Column { name: (*name).into(), type_name: "string".into(), comment: None }).collect()
    }

    #[test]
    fn partition_names_are_escaped_as_hive_does() {
        let name = partition_name(&keys(&["ds", "k"]), &["a/b:c%d=é f".into(), String::new()]);
        assert_eq!(name, "ds=a%2Fb%3Ac%25d%3Dé f/k=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(unescape_path_name("a%2Fb%3Ac%25d%3Dé f"), "a/b:c%d=é f");
        assert_eq!(unescape_path_name("50%"), "50%");
    }
}
