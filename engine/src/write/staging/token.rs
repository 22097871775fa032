//! What a file says for its commit: which partition its rows are of, and what they were when it was written.
//!
//! The table may have changed since. Columns that were added are NULL in the file's rows, where readers find columns by their
//! names. Whatever else would let them read other values than were written is refused.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tereza_catalog::model::{Column, Storage, Table};
use tereza_runtime::{Error, Result};

use super::super::SPARKS_LOCATION;
use crate::formats::{Format, spark};
use crate::types::arrow_type;

/// Bytes of a token.
pub(super) const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Bytes of the names and types of columns in a token; of more there is a hash.
const COLUMNS_BYTES_MAX: usize = 4 << 10;
/// A reader refuses a higher one.
const VERSION: u32 = 1;
/// Parameters of a table that say how its text is read.
const TEXT_PARAMETERS: [&str; 2] = ["skip.header.line.count", "serialization.null.format"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    version: u32,
    /// The catalog's text of its partition's values; none in an unpartitioned table.
    pub(super) partition: Option<Vec<String>>,
    /// The format of the file; where that has options, with a hash of them.
    layout: String,
    columns: Columns,
}

/// The columns of a file and the partition keys of its table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Columns {
    Named(Names),
    /// Of the same.
    Sha256(String),
}

/// Names and types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Names {
    columns: Vec<(String, String)>,
    keys: Vec<(String, String)>,
}

impl Token {
    /// That of a file of the table, in the format of `storage`, the table's or its partition's.
    pub(super) fn of(table: &Table, storage: &Storage, partition: Option<Vec<String>>) -> Result<Self> {
        let (layout, columns) = (layout(table, storage)?, Columns::of(&Names::of(table)?)?);
        Ok(Self { version: VERSION, partition, layout, columns })
    }

    pub(super) fn encode(&self) -> Result<String> {
        let text = serde_json::to_string(self)
            .map_err(|error| Error::internal("what a file is cannot be said in JSON").with_source(error))?;
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Error::resource_exhausted(format!(
                "what is to be said of a file takes {} bytes, the bound is {TOKEN_BYTES_MAX}",
                text.len()
            )));
        }
        Ok(text)
    }

    /// What [`Self::encode`] made. `Unsupported` if a later release did.
    pub(super) fn decode(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let bad = |error| Error::internal("what is said of a file of a stream cannot be read").with_source(error);
        let Head { version } = serde_json::from_str(text).map_err(bad)?;
        if version > VERSION {
            return Err(Error::unsupported(format!(
                "a file of a stream is described in version {version}, known is {VERSION}"
            ))
            .with_hint("a later release wrote it: use that one"));
        }
        serde_json::from_str(text).map_err(bad)
    }

    /// `InvalidInput` unless the rows of the file are read from `table` as they were written; `storage` is the table's or
    /// that of its partition.
    pub(super) fn check(&self, table: &Table, storage: &Storage) -> Result<()> {
        let of_table = format!("table {}.{}", table.database, table.name);
        let refused = |what: String| {
            Err(Error::invalid_input(format!("{what}, and files wait for it that were written before"))
                .with_hint("change it back, or give up these files together with the job"))
        };
        let names = Names::of(table)?;
        if self.partition.as_ref().map_or(0, Vec::len) != names.keys.len() {
            return refused(format!("{of_table} has other partition keys"));
        }
        if self.layout != layout(table, storage)? {
            return refused(format!("{of_table} got another format or other delimiters"));
        }
        if self.columns == Columns::of(&names)? {
            return Ok(());
        }
        let Columns::Named(written) = &self.columns else {
            return refused(format!("{of_table} has other columns"));
        };
        if !is_same(&written.keys, &names.keys) {
            return refused(format!("{of_table} has other partition keys"));
        }
        if matches!(Format::of_table(table, storage)?, Format::Csv | Format::Text) {
            return match is_same(&written.columns, &names.columns) {
                true => Ok(()),
                false => refused(format!("{of_table}, whose files know columns by their position, has other ones")),
            };
        }
        let now: BTreeMap<&str, &str> =
            names.columns.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
        for (name, kind) in &written.columns {
            match now.get(name.as_str()) {
                None => return refused(format!("{of_table} has no column {name} any more")),
                Some(now) if !is_same_type(now, kind) => {
                    return refused(format!("column {name} of {of_table} is {now} and was {kind}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Names {
    fn of(table: &Table) -> Result<Self> {
        let pairs = |columns: &[Column]| {
            columns.iter().map(|column| (column.name.clone(), column.type_name.clone())).collect::<Vec<_>>()
        };
        Ok(Self { columns: pairs(&spark::columns(table)?), keys: pairs(&table.partition_keys) })
    }
}

impl Columns {
    fn of(names: &Names) -> Result<Self> {
        let text = json(names)?;
        if text.len() <= COLUMNS_BYTES_MAX { Ok(Self::Named(names.clone())) } else { Ok(Self::Sha256(sha256(&text))) }
    }
}

fn is_same(one: &[(String, String)], other: &[(String, String)]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.0 == other.0 && is_same_type(&one.1, &other.1))
}

/// Whether values of both types are the same in files.
fn is_same_type(one: &str, other: &str) -> bool {
    one == other || matches!((arrow_type(one), arrow_type(other)), (Ok(one), Ok(other)) if one == other)
}

fn layout(table: &Table, storage: &Storage) -> Result<String> {
    let format = Format::of_table(table, storage)?;
    if format == Format::Parquet {
        return Ok(format.extension().to_owned());
    }
    let storage = spark::storage_of_files(table, storage);
    let of_serde: BTreeMap<_, _> = storage.serde.parameters.iter().filter(|(key, _)| *key != SPARKS_LOCATION).collect();
    let of_table = TEXT_PARAMETERS.map(|key| table.parameters.get(key));
    let options = json(&(&storage.serde.library, of_serde, &storage.parameters, of_table))?;
    Ok(format!("{}:{}", format.extension(), sha256(&options)))
}

fn json(what: &impl Serialize) -> Result<String> {
    serde_json::to_string(what)
        .map_err(|error| Error::internal("what a table is cannot be said in JSON").with_source(error))
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut digits, byte| {
        // Text takes whatever is written to it.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use tereza_catalog::model::Parameters;
    use tereza_runtime::ErrorKind;

    use super::*;

    fn column(name: &str, type_name: &str) -> Column {
        Column { name: name.into(), type_name: type_name.into(), comment: None }
    }

    fn table(format: Format, columns: &[(&str, &str)]) -> Table {
        let columns = columns.iter().map(|(name, kind)| column(name, kind)).collect();
        Table {
            database: "d".into(),
            name: "t".into(),
            kind: tereza_catalog::model::TableKind::Managed,
            owner: None,
            create_time_s: 0,
            last_access_time_s: 0,
            retention: 0,
            storage: format.storage(columns, Some("file:///t".into()), &Parameters::new()).unwrap(),
            partition_keys: vec![column("k", "string")],
            parameters: Parameters::new(),
            view_original_text: None,
            view_expanded_text: None,
            owner_kind: Default::default(),
        }
    }

    fn token(table: &Table) -> Token {
        Token::of(table, &table.storage, Some(vec!["ä=/%".into()])).unwrap()
    }

    /// What a table says to the file that was written when it was another.
    fn check(before: &Table, now: &Table) -> Result<()> {
        token(before).check(now, &now.storage)
    }

    fn refused(before: &Table, now: &Table, why: &str) {
        let error = check(before, now).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.message().contains(why), "{why} is not in: {error}");
    }

    #[test]
    fn a_token_survives_as_text() {
        let token = token(&table(Format::Parquet, &[("a", "int")]));
        let text = token.encode().unwrap();
        assert_eq!(Token::decode(&text).unwrap(), token);
        assert_eq!(Token::decode("").unwrap_err().kind(), ErrorKind::Internal);
        let later = text.replacen(r#""version":1"#, r#""version":2"#, 1);
        assert_eq!(Token::decode(&later).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn columns_may_be_added_and_moved_but_not_dropped_or_changed() {
        let before = table(Format::Parquet, &[("a", "int"), ("b", "varchar(3)")]);
        check(&before, &table(Format::Parquet, &[("c", "date"), ("b", "varchar(5)"), ("a", "INT")])).unwrap();
        refused(&before, &table(Format::Parquet, &[("a", "int")]), "has no column b any more");
        let other = table(Format::Parquet, &[("a", "bigint"), ("b", "varchar(3)")]);
        refused(&before, &other, "column a of table d.t is bigint and was int");
        let mut rekeyed = before.clone();
        rekeyed.partition_keys[0].type_name = "int".into();
        refused(&before, &rekeyed, "other partition keys");
        rekeyed.partition_keys.clear();
        refused(&before, &rekeyed, "other partition keys");
    }

    #[test]
    fn text_knows_columns_by_their_position() {
        let before = table(Format::Text, &[("a", "int")]);
        check(&before, &before).unwrap();
        refused(&before, &table(Format::Text, &[("a", "int"), ("b", "int")]), "by their position");
        let json = table(Format::Json, &[("a", "int")]);
        check(&json, &table(Format::Json, &[("b", "int"), ("a", "int")])).unwrap();
    }

    #[test]
    fn files_of_another_format_are_refused() {
        let before = table(Format::Text, &[("a", "int")]);
        refused(&before, &table(Format::Parquet, &[("a", "int")]), "another format");
        let mut now = before.clone();
        now.storage.serde.parameters.insert("field.delim".into(), ";".into());
        refused(&before, &now, "other delimiters");
        let mut now = before.clone();
        now.parameters.insert("numRows".into(), "7".into());
        check(&before, &now).unwrap();
        now.parameters.insert("skip.header.line.count".into(), "1".into());
        refused(&before, &now, "other delimiters");
    }

    #[test]
    fn a_token_of_many_columns_is_short() {
        let names: Vec<String> = (0..1000).map(|n| format!("column_{n}")).collect();
        let columns: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "bigint")).collect();
        let before = table(Format::Parquet, &columns);
        assert!(token(&before).encode().unwrap().len() < 512);
        check(&before, &before).unwrap();
        refused(&before, &table(Format::Parquet, &columns[1..]), "other columns");
    }
}
