//! Names as clients of a metastore write them: in any case, and with a catalog before the database (`@hive#web`).

use tereza_thrift::hive::{Exception, InvalidObjectException, MetaException, NoSuchObjectException};

use super::Answer;
use crate::model::{Column, partition_name, unescape_path_name};

/// The one catalog there is.
pub(super) const CATALOG: &str = "hive";

/// A database or a pattern of databases, without the catalog and in lower case; `None` if the client names all of them.
///
/// Source: `MetaStoreUtils.parseDbName`: `@catalog#` alone is all databases, `@catalog#!` the empty name.
pub(super) fn database_or_all(text: Option<String>) -> Answer<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    let Some(qualified) = text.strip_prefix('@') else { return Ok(Some(text.to_lowercase())) };
    let Some((catalog, name)) = qualified.split_once('#') else {
        let message =
            format!("{text} is prepended with the catalog marker but does not appear to have a catalog name in it");
        return Err(MetaException::new(message).into());
    };
    check_catalog(Some(catalog))?;
    match name {
        "" => Ok(None),
        "!" => Ok(Some(String::new())),
        name => Ok(Some(name.to_lowercase())),
    }
}

/// One database; absent is the empty name, which no database has.
pub(super) fn database(text: Option<String>) -> Answer<String> {
    Ok(database_or_all(text)?.unwrap_or_default())
}

/// A table, function or column, in lower case.
pub(super) fn object(text: Option<String>) -> String {
    text.unwrap_or_default().to_lowercase()
}

/// Refuses what is asked of another catalog.
pub(super) fn check_catalog(catalog: Option<&str>) -> Answer<()> {
    match catalog {
        None | Some("") => Ok(()),
        Some(name) if name.eq_ignore_ascii_case(CATALOG) => Ok(()),
        Some(name) => Err(NoSuchObjectException::new(format!("No catalog {name}")).into()),
    }
}

/// Refuses what is to be made in another catalog.
pub(super) fn check_new_in(catalog: Option<&str>) -> Answer<()> {
    check_catalog(catalog).map_err(|_| {
        let catalog = catalog.unwrap_or_default();
        InvalidObjectException::new(format!("No such catalog {catalog}")).into()
    })
}

/// Refuses a name that a metastore gives to nothing new (`MetaStoreUtils.validateName`).
pub(super) fn check_new(name: &str, kind: &str) -> Answer<()> {
    let is_valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_valid {
        Ok(())
    } else {
        Err(InvalidObjectException::new(format!("{name} is not a valid {kind} name")).into())
    }
}

/// How a metastore names a table in messages.
pub(super) fn qualified(database: &str, table: &str) -> String {
    format!("{CATALOG}.{database}.{table}")
}

/// The exception for a table that is not there.
pub(super) fn no_table(database: &str, table: &str) -> Exception {
    NoSuchObjectException::new(format!("{} table not found", qualified(database, table))).into()
}

/// The exception for a partition that is not there; values are shown as Java shows lists.
pub(super) fn no_partition(values: &[String]) -> Exception {
    NoSuchObjectException::new(format!("partition values=[{}]", values.join(", "))).into()
}

/// The exception for values that are more or fewer than the keys of their table.
pub(super) fn wrong_values(keys: &[Column], values: &[String]) -> Exception {
    let list = |items: Vec<&str>| items.into_iter().map(|item| format!("{item}, ")).collect::<String>();
    let keys = list(keys.iter().map(|key| key.name.as_str()).collect());
    let values = list(values.iter().map(String::as_str).collect());
    MetaException::new(format!("Invalid partition key & values; keys [{keys}], values [{values}]")).into()
}

/// The exception for a partition's name that has not all keys.
pub(super) fn incomplete_name(name: &str, keys: &[Column]) -> Exception {
    if name.is_empty() {
        return MetaException::new("Partition name is invalid. ").into();
    }
    let parts = parts_of(name).unwrap_or_default();
    let missing = keys.iter().find(|key| parts.iter().all(|(name, _)| name.to_lowercase() != key.name));
    match missing {
        Some(missing) => {
            NoSuchObjectException::new(format!("incomplete partition name - missing {}", missing.name)).into()
        }
        None => NoSuchObjectException::new(format!("partition name {name} has other keys than the table")).into(),
    }
}

/// Keys and values of a partition's name, unescaped.
pub(super) fn parts_of(name: &str) -> Answer<Vec<(String, String)>> {
    let part = |text: &str| {
        let (key, value) = text.split_once('=')?;
        Some((unescape_path_name(key), unescape_path_name(value)))
    };
    name.split('/').map(part).collect::<Option<Vec<_>>>().ok_or_else(|| {
        MetaException::new(format!("Invalid partition name '{name}': it has to be key=value, joined by '/'")).into()
    })
}

/// The values in a partition's name in the order of the keys; `None` if its keys are not these.
pub(super) fn values_of(name: &str, keys: &[Column]) -> Option<Vec<String>> {
    let parts = parts_of(name).ok()?;
    if parts.len() != keys.len() {
        return None;
    }
    keys.iter()
        .map(|key| parts.iter().find(|(name, _)| name.to_lowercase() == key.name).map(|(_, value)| value.clone()))
        .collect()
}

/// A partition's name as it is kept, whatever way the client escaped it.
pub(super) fn kept_partition_name(name: &str, keys: &[Column]) -> Option<String> {
    values_of(name, keys).map(|values| partition_name(keys, &values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalogs_are_taken_off() {
        let all = |text: &str| database_or_all(Some(text.to_owned())).unwrap();
        assert_eq!(all("Web"), Some("web".into()));
        assert_eq!(all("@hive#Web"), Some("web".into()));
        assert_eq!(all("@HIVE#w*|x"), Some("w*|x".into()));
        assert_eq!(all("@hive#"), None);
        assert_eq!(all("@hive#!"), Some(String::new()));
        assert_eq!(database(None).unwrap(), "");
        let foreign = database_or_all(Some("@other#web".into())).unwrap_err();
        assert_eq!(foreign, NoSuchObjectException::new("No catalog other").into());
    }

    #[test]
    fn partition_names_are_read_in_any_order_and_escaping() {
        let keys: Vec<Column> = ["ds", "k"]
            .iter()
            .map(|name| Column { name: (*name).into(), type_name: "string".into(), comment: None })
            .collect();
        assert_eq!(values_of("K=a%2Fb/ds=1", &keys), Some(vec!["1".into(), "a/b".into()]));
        assert_eq!(kept_partition_name("ds=1:2/k=x", &keys).as_deref(), Some("ds=1%3A2/k=x"));
        assert_eq!(values_of("ds=1", &keys), None);
        assert_eq!(values_of("ds=1/x=2", &keys), None);
        assert!(parts_of("nothing").is_err());
    }
}
