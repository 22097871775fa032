//! How names are folded, and how long they may be: the lengths of the metastore's columns, which SQLite does not enforce
//! and MySQL does, so that a catalog can move between them.

use std::collections::HashSet;

use tereza_runtime::{Error, Result};

use crate::model::Column;

/// Characters that `DBS.NAME` holds.
pub(crate) const DATABASE_CHARS: usize = 128;
/// Characters that `TBLS.TBL_NAME` holds.
pub(crate) const TABLE_CHARS: usize = 256;
/// Characters that `HIVE_LOCKS.HL_TABLE` holds.
pub(crate) const LOCK_TABLE_CHARS: usize = 128;
/// Characters that `COLUMNS_V2.COLUMN_NAME` holds.
pub(crate) const COLUMN_CHARS: usize = 767;
/// Characters that `PARTITION_KEYS.PKEY_NAME` holds.
pub(crate) const PARTITION_KEY_CHARS: usize = 128;
/// Characters that `PARTITIONS.PART_NAME` holds.
pub(crate) const PARTITION_NAME_CHARS: usize = 767;
/// Characters that `PARTITION_KEY_VALS.PART_KEY_VAL` holds.
pub(crate) const PARTITION_VALUE_CHARS: usize = 256;
/// Characters that locations, class names and descriptions hold.
pub(crate) const TEXT_CHARS: usize = 4000;
/// Characters that `TBLS.OWNER` and `PARTITION_KEYS.PKEY_TYPE` hold.
pub(crate) const KEY_TEXT_CHARS: usize = 767;
/// Characters that `DBS.OWNER_NAME` and `SERDES.NAME` hold.
pub(crate) const SHORT_TEXT_CHARS: usize = 128;
/// Characters that `KEY_CONSTRAINTS.CONSTRAINT_NAME` and `KEY_CONSTRAINTS.DEFAULT_VALUE` hold.
pub(crate) const CONSTRAINT_CHARS: usize = 400;
/// Characters that `SKEWED_COL_NAMES.SKEWED_COL_NAME` and `SKEWED_STRING_LIST_VALUES.STRING_LIST_VALUE` hold.
pub(crate) const SKEWED_CHARS: usize = 256;
/// Characters that `TZ_WRITES.OWNER`, `TZ_JOBS.NAME` and `TZ_JOBS.USER_NAME` hold.
pub(crate) const OWNER_CHARS: usize = 256;
/// Characters that ids of writes, commits and jobs hold.
pub(crate) const ID_CHARS: usize = 128;
/// Characters of a column's comment that the metastore keeps; it cuts off the rest without a word, and so does Tereza.
const COMMENT_CHARS: usize = 256;
/// Characters of a too long value that an error shows.
const SHOWN_CHARS: usize = 64;

/// A name as it is looked up: in lower case.
pub(crate) fn fold(name: &str) -> String {
    name.to_lowercase()
}

/// Folds and checks a name that is about to be kept; `what` says what it names.
pub(crate) fn new_name(what: &str, name: &str, max_chars: usize) -> Result<String> {
    if name.is_empty() {
        return Err(Error::invalid_input(format!("the name of a {what} is empty")));
    }
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return Err(Error::invalid_input(format!("the name of a {what} holds the control character {control:?}")));
    }
    // A name becomes a folder's: it must be one folder, and not the one above.
    let is_folder = matches!(what, "database" | "table");
    if is_folder && (name.contains(['/', '\\']) || matches!(name, "." | "..")) {
        return Err(Error::invalid_input(format!("the name '{name}' of a {what} cannot be that of a folder")));
    }
    let folded = fold(name);
    check_chars(&format!("the name of a {what}"), &folded, max_chars)?;
    Ok(folded)
}

/// Refuses a value that is longer than its column.
pub(crate) fn check_chars(what: &str, value: &str, max_chars: usize) -> Result<()> {
    // A text has at most as many characters as bytes, so most values need no counting.
    if value.len() <= max_chars {
        return Ok(());
    }
    let chars = value.chars().count();
    if chars <= max_chars {
        return Ok(());
    }
    let shown: String = value.chars().take(SHOWN_CHARS).collect();
    Err(Error::invalid_input(format!("{what} has {chars} characters, more than {max_chars}: '{shown}…'")))
}

/// Refuses a partition whose name or values are longer than a catalog keeps: for those who write files for it first.
///
/// # Errors
/// `InvalidInput`.
pub fn check_partition(name: &str, values: &[String]) -> Result<()> {
    check_chars("the name of a partition", name, PARTITION_NAME_CHARS)?;
    values.iter().try_for_each(|value| check_chars("a value of a partition key", value, PARTITION_VALUE_CHARS))
}

/// [`check_chars`] for a value that may be missing.
pub(crate) fn check_optional_chars(what: &str, value: Option<&String>, max_chars: usize) -> Result<()> {
    value.map_or(Ok(()), |value| check_chars(what, value, max_chars))
}

/// Checks that a number fits the metastore's 32-bit column.
pub(crate) fn check_i32(what: &str, value: i64) -> Result<()> {
    match i32::try_from(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::invalid_input(format!("{what} is {value}, which does not fit 32 bits"))),
    }
}

/// Folds and checks the columns of a storage.
pub(crate) fn new_columns(columns: &[Column]) -> Result<Vec<Column>> {
    let mut folded = fold_columns("column", columns, COLUMN_CHARS)?;
    for comment in folded.iter_mut().filter_map(|column| column.comment.as_mut()) {
        if let Some((end, _)) = comment.char_indices().nth(COMMENT_CHARS) {
            comment.truncate(end);
        }
    }
    Ok(folded)
}

/// Folds and checks partition keys.
pub(crate) fn new_partition_keys(keys: &[Column]) -> Result<Vec<Column>> {
    let folded = fold_columns("partition key", keys, PARTITION_KEY_CHARS)?;
    for key in &folded {
        check_chars(&format!("the type of the partition key '{}'", key.name), &key.type_name, KEY_TEXT_CHARS)?;
        check_optional_chars(
            &format!("the comment of the partition key '{}'", key.name),
            key.comment.as_ref(),
            TEXT_CHARS,
        )?;
    }
    Ok(folded)
}

fn fold_columns(what: &str, columns: &[Column], max_chars: usize) -> Result<Vec<Column>> {
    let mut folded = Vec::with_capacity(columns.len());
    let mut seen = HashSet::with_capacity(columns.len());
    for column in columns {
        let name = new_name(what, &column.name, max_chars)?;
        if !seen.insert(name.clone()) {
            return Err(Error::invalid_input(format!("the {what} '{name}' is there twice")));
        }
        folded.push(Column { name, ..column.clone() });
    }
    Ok(folded)
}
