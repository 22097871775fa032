//! The nouns of the catalog to those of the interface and back.
//!
//! What the catalog does not keep is not in what comes back: skewed values, the type of an owner (always USER), privileges
//! that come with a new table, bit vectors of statistics, and of a serde all but its name, class and parameters.

use std::collections::HashMap;

use tereza_thrift::codec::Shared;
use tereza_thrift::hive;

use super::names::{self, CATALOG};
use crate::model::{
    Column, Database, Function, Parameters, Partition, Principal, PrincipalKind, Serde, Skewed, Storage, Table,
    TableKind,
};

/// Bytes that a partition takes in memory besides its texts.
const PARTITION_BYTES: usize = 1_000;
/// Bytes that an entry of a map or list takes besides its texts.
const ENTRY_BYTES: usize = 64;
/// How many entries a column is worth.
const COLUMN_ENTRIES: usize = 3;
/// The parameter by which an external table is told.
pub(super) const EXTERNAL: &str = "EXTERNAL";

pub(super) fn database_to(database: Database) -> hive::Database {
    hive::Database {
        name: Some(database.name),
        description: database.description,
        location_uri: Some(database.location),
        parameters: Some(database.parameters),
        owner_type: database.owner.is_some().then_some(kind_to(database.owner_kind)),
        owner_name: database.owner,
        catalog_name: Some(CATALOG.to_owned()),
        ..hive::Database::default()
    }
}

/// What Hive 4 asks for a new database with, as what all others do.
pub(super) fn new_database(request: hive::CreateDatabaseRequest) -> hive::Database {
    hive::Database {
        name: Some(request.database_name),
        description: request.description,
        location_uri: request.location_uri,
        parameters: request.parameters,
        owner_name: request.owner_name,
        owner_type: request.owner_type,
        catalog_name: request.catalog_name,
        ..hive::Database::default()
    }
}

/// The name is for the caller to say; so is the location if there is none.
pub(super) fn database_from(name: String, database: hive::Database) -> Database {
    Database {
        name,
        description: database.description,
        location: database.location_uri.unwrap_or_default(),
        owner: database.owner_name,
        owner_kind: kind_from(database.owner_type),
        parameters: database.parameters.unwrap_or_default(),
    }
}

pub(super) fn columns_to(columns: Vec<Column>) -> Vec<hive::FieldSchema> {
    let column = |column: Column| hive::FieldSchema {
        name: Some(column.name),
        r#type: Some(column.type_name),
        comment: column.comment,
    };
    columns.into_iter().map(column).collect()
}

fn columns_from(columns: Option<Vec<hive::FieldSchema>>) -> Vec<Column> {
    let column = |column: hive::FieldSchema| Column {
        name: names::object(column.name),
        type_name: column.r#type.unwrap_or_default(),
        comment: column.comment,
    };
    columns.unwrap_or_default().into_iter().map(column).collect()
}

/// The column lists of an answer, each kept once: partitions have nearly always those of their table.
#[derive(Default)]
pub(super) struct ColumnLists {
    known: HashMap<Vec<Column>, Shared<Vec<hive::FieldSchema>>>,
}

impl ColumnLists {
    fn one(&mut self, columns: Vec<Column>) -> Shared<Vec<hive::FieldSchema>> {
        if let Some(known) = self.known.get(&columns) {
            return known.clone();
        }
        let list = Shared::from(columns_to(columns.clone()));
        self.known.insert(columns, list.clone());
        list
    }
}

pub(super) fn storage_to(storage: Storage, lists: &mut ColumnLists) -> hive::StorageDescriptor {
    let order = |(column, order)| hive::Order { col: Some(column), order: Some(order) };
    hive::StorageDescriptor {
        cols: Some(lists.one(storage.columns)),
        location: storage.location,
        input_format: storage.input_format,
        output_format: storage.output_format,
        compressed: Some(storage.compressed),
        num_buckets: Some(storage.num_buckets),
        serde_info: Some(hive::SerDeInfo {
            name: storage.serde.name,
            serialization_lib: storage.serde.library,
            parameters: Some(storage.serde.parameters),
            ..hive::SerDeInfo::default()
        }),
        bucket_cols: Some(storage.bucket_columns),
        sort_cols: Some(storage.sort_columns.into_iter().map(order).collect()),
        parameters: Some(storage.parameters),
        // Hive's own client does not expect it to be absent.
        skewed_info: Some(hive::SkewedInfo {
            skewed_col_names: Some(storage.skewed.columns),
            skewed_col_values: Some(storage.skewed.values),
            skewed_col_value_location_maps: Some(storage.skewed.locations),
        }),
        stored_as_sub_directories: Some(storage.stored_as_sub_directories),
    }
}

pub(super) fn storage_from(storage: Option<hive::StorageDescriptor>) -> Storage {
    let storage = storage.unwrap_or_default();
    let serde = storage.serde_info.unwrap_or_default();
    let skewed = storage.skewed_info.unwrap_or_default();
    let order = |order: hive::Order| (order.col.unwrap_or_default(), order.order.unwrap_or_default());
    Storage {
        columns: columns_from(storage.cols.map(Shared::into_inner)),
        location: storage.location.filter(|location| !location.is_empty()),
        input_format: storage.input_format,
        output_format: storage.output_format,
        compressed: storage.compressed.unwrap_or_default(),
        num_buckets: storage.num_buckets.unwrap_or_default(),
        bucket_columns: storage.bucket_cols.unwrap_or_default(),
        sort_columns: storage.sort_cols.unwrap_or_default().into_iter().map(order).collect(),
        serde: Serde {
            name: serde.name,
            library: serde.serialization_lib,
            parameters: serde.parameters.unwrap_or_default(),
        },
        parameters: storage.parameters.unwrap_or_default(),
        stored_as_sub_directories: storage.stored_as_sub_directories.unwrap_or_default(),
        skewed: Skewed {
            columns: skewed.skewed_col_names.unwrap_or_default(),
            values: skewed.skewed_col_values.unwrap_or_default(),
            locations: skewed.skewed_col_value_location_maps.unwrap_or_default(),
        },
    }
}

pub(super) fn table_to(table: Table) -> hive::Table {
    hive::Table {
        table_name: Some(table.name),
        db_name: Some(table.database),
        owner: table.owner,
        create_time: Some(seconds(table.create_time_s)),
        last_access_time: Some(seconds(table.last_access_time_s)),
        retention: Some(table.retention),
        sd: Some(storage_to(table.storage, &mut ColumnLists::default())),
        partition_keys: Some(columns_to(table.partition_keys)),
        parameters: Some(table.parameters),
        view_original_text: table.view_original_text,
        view_expanded_text: table.view_expanded_text,
        table_type: Some(table.kind.as_str().to_owned()),
        rewrite_enabled: Some(false),
        cat_name: Some(CATALOG.to_owned()),
        owner_type: Some(kind_to(table.owner_kind)),
        ..hive::Table::default()
    }
}

/// The names are for the caller to say.
pub(super) fn table_from(database: String, name: String, table: hive::Table) -> Table {
    let parameters = table.parameters.unwrap_or_default();
    let kind = TableKind::parse(table.table_type.as_deref());
    // The parameter decides, so that setting it alone makes a table external or managed.
    let kind = match (kind, parameters.get(EXTERNAL).map(|value| value.eq_ignore_ascii_case("true"))) {
        (TableKind::Managed, Some(true)) => TableKind::External,
        (TableKind::External, Some(false)) => TableKind::Managed,
        (kind, _) => kind,
    };
    Table {
        database,
        name,
        kind,
        owner: table.owner,
        owner_kind: kind_from(table.owner_type),
        create_time_s: 0,
        last_access_time_s: i64::from(table.last_access_time.unwrap_or_default()),
        retention: table.retention.unwrap_or_default(),
        storage: storage_from(table.sd),
        partition_keys: columns_from(table.partition_keys),
        parameters,
        view_original_text: table.view_original_text,
        view_expanded_text: table.view_expanded_text,
    }
}

pub(super) fn partition_to(
    database: &str,
    table: &str,
    partition: Partition,
    lists: &mut ColumnLists,
) -> hive::Partition {
    hive::Partition {
        values: Some(partition.values),
        db_name: Some(database.to_owned()),
        table_name: Some(table.to_owned()),
        create_time: Some(seconds(partition.create_time_s)),
        last_access_time: Some(seconds(partition.last_access_time_s)),
        sd: Some(storage_to(partition.storage, lists)),
        parameters: Some(partition.parameters),
        cat_name: Some(CATALOG.to_owned()),
        ..hive::Partition::default()
    }
}

/// Bytes that a storage has on the wire at least, without its columns, and with them.
fn storage_bytes(storage: &Storage) -> (usize, usize) {
    let serde = &storage.serde;
    let texts = [&storage.location, &storage.input_format, &storage.output_format, &serde.name, &serde.library];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let own = texts + parameter_bytes(&storage.parameters) + parameter_bytes(&serde.parameters);
    let column =
        |column: &Column| column.name.len() + column.type_name.len() + column.comment.as_ref().map_or(0, String::len);
    (own, own + storage.columns.iter().map(column).sum::<usize>())
}

fn parameter_bytes(parameters: &Parameters) -> usize {
    parameters.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// About how many bytes of memory a partition takes in an answer, and how many it has on the wire at least.
pub(super) fn partition_bytes(partition: &Partition) -> (usize, usize) {
    let values: usize = partition.values.iter().map(String::len).sum();
    let texts = values + parameter_bytes(&partition.parameters);
    let (storage, with_columns) = storage_bytes(&partition.storage);
    let entries = partition.parameters.len() + partition.storage.serde.parameters.len() + partition.values.len();
    (texts + storage + PARTITION_BYTES + entries * ENTRY_BYTES + texts + with_columns, texts + with_columns)
}

/// The same of a table.
pub(super) fn table_bytes(table: &Table) -> (usize, usize) {
    let views = [&table.view_original_text, &table.view_expanded_text];
    let views: usize = views.into_iter().flatten().map(String::len).sum();
    let texts = views + parameter_bytes(&table.parameters);
    let (_, with_columns) = storage_bytes(&table.storage);
    let entries = table.parameters.len() + COLUMN_ENTRIES * table.storage.columns.len();
    (2 * (texts + with_columns) + PARTITION_BYTES + entries * ENTRY_BYTES, texts + with_columns)
}

pub(super) fn partition_from(partition: hive::Partition) -> Partition {
    Partition {
        values: partition.values.unwrap_or_default(),
        create_time_s: 0,
        last_access_time_s: i64::from(partition.last_access_time.unwrap_or_default()),
        storage: storage_from(partition.sd),
        parameters: partition.parameters.unwrap_or_default(),
    }
}

pub(super) fn function_to(function: Function) -> hive::Function {
    let resource = |(kind, uri)| hive::ResourceUri { resource_type: Some(hive::ResourceType(kind)), uri: Some(uri) };
    hive::Function {
        function_name: Some(function.name),
        db_name: Some(function.database),
        class_name: function.class_name,
        owner_name: function.owner,
        owner_type: Some(hive::PrincipalType::USER),
        create_time: Some(seconds(function.create_time_s)),
        function_type: Some(hive::FunctionType::JAVA),
        resource_uris: Some(function.resources.into_iter().map(resource).collect()),
        cat_name: Some(CATALOG.to_owned()),
    }
}

/// The names are for the caller to say.
pub(super) fn function_from(database: String, name: String, function: hive::Function) -> Function {
    let resource =
        |resource: hive::ResourceUri| (resource.resource_type.unwrap_or_default().0, resource.uri.unwrap_or_default());
    Function {
        database,
        name,
        class_name: function.class_name,
        owner: function.owner_name,
        create_time_s: 0,
        resources: function.resource_uris.unwrap_or_default().into_iter().map(resource).collect(),
    }
}

pub(super) fn kind_to(kind: PrincipalKind) -> hive::PrincipalType {
    match kind {
        PrincipalKind::User => hive::PrincipalType::USER,
        PrincipalKind::Role => hive::PrincipalType::ROLE,
        PrincipalKind::Group => hive::PrincipalType::GROUP,
    }
}

/// A missing or unknown type is a user's.
pub(super) fn kind_from(kind: Option<hive::PrincipalType>) -> PrincipalKind {
    match kind {
        Some(hive::PrincipalType::ROLE) => PrincipalKind::Role,
        Some(hive::PrincipalType::GROUP) => PrincipalKind::Group,
        _ => PrincipalKind::User,
    }
}

pub(super) fn principal_from(name: Option<String>, kind: Option<hive::PrincipalType>) -> Principal {
    Principal { name: name.unwrap_or_default(), kind: kind_from(kind) }
}

/// The interface has 32 bits for a time.
pub(super) fn seconds(time_s: i64) -> i32 {
    i32::try_from(time_s).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> Storage {
        let column = Column { name: "id".into(), type_name: "bigint".into(), comment: Some(String::new()) };
        Storage {
            columns: vec![column],
            location: Some("s3://b/t".into()),
            input_format: Some("in".into()),
            output_format: None,
            compressed: true,
            num_buckets: -1,
            bucket_columns: vec!["id".into()],
            sort_columns: vec![("id".into(), 1)],
            serde: Serde { name: Some(String::new()), library: Some("lib".into()), parameters: [].into() },
            parameters: [("a".to_owned(), "b".to_owned())].into(),
            stored_as_sub_directories: true,
            skewed: Skewed {
                columns: vec!["id".into()],
                values: vec![vec!["1".into()]],
                locations: [(vec!["1".to_owned()], "s3://b/t/1".to_owned())].into(),
            },
        }
    }

    #[test]
    fn what_goes_out_comes_back() {
        let table = Table {
            database: "web".into(),
            name: "t".into(),
            kind: TableKind::External,
            owner: None,
            owner_kind: PrincipalKind::Role,
            create_time_s: 0,
            last_access_time_s: 7,
            retention: 3,
            storage: storage(),
            partition_keys: vec![Column { name: "ds".into(), type_name: "date".into(), comment: None }],
            parameters: [(EXTERNAL.to_owned(), "TRUE".to_owned()), ("empty".to_owned(), String::new())].into(),
            view_original_text: Some("a".into()),
            view_expanded_text: None,
        };
        assert_eq!(table_from("web".into(), "t".into(), table_to(table.clone())), table);
        let partition = Partition {
            values: vec!["2024-01-01".into()],
            create_time_s: 0,
            last_access_time_s: 1,
            storage: storage(),
            parameters: [("numRows".to_owned(), "1".to_owned())].into(),
        };
        assert_eq!(partition_from(partition_to("web", "t", partition.clone(), &mut ColumnLists::default())), partition);
        let database = Database {
            name: "web".into(),
            description: Some(String::new()),
            location: "file:/w".into(),
            owner: Some("ada".into()),
            owner_kind: PrincipalKind::Group,
            parameters: [("k".to_owned(), "v".to_owned())].into(),
        };
        assert_eq!(database_from("web".into(), database_to(database.clone())), database);
    }

    #[test]
    fn the_parameter_decides_what_is_external() {
        for (table_type, external, expected) in [
            (Some("MANAGED_TABLE"), Some("true"), TableKind::External),
            (Some("EXTERNAL_TABLE"), Some("FALSE"), TableKind::Managed),
            (Some("EXTERNAL_TABLE"), None, TableKind::External),
            (Some("MANAGED_TABLE"), None, TableKind::Managed),
            (Some("VIRTUAL_VIEW"), Some("TRUE"), TableKind::View),
            (None, None, TableKind::External),
        ] {
            let parameters = external.map(|value| [(EXTERNAL.to_owned(), value.to_owned())].into());
            let table = hive::Table { table_type: table_type.map(str::to_owned), parameters, ..hive::Table::default() };
            assert_eq!(table_from(String::new(), String::new(), table).kind, expected, "{table_type:?} {external:?}");
        }
    }
}
