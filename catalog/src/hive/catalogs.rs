//! Catalogs, of which there is one, and other things that a metastore has and that are refused.

use std::collections::HashSet;

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::hive::{self, Exception, MetaException, NoSuchObjectException};

use super::names::{self, CATALOG, qualified};
use super::{Answer, Session, convert};
use crate::model::Partition;
use crate::store::PartitionFilter;

impl Session {
    pub(super) async fn new_catalog(&self, _: hive::CreateCatalogArgs) -> Answer<()> {
        Err(unsupported("catalogs besides the one: make a database"))
    }

    pub(super) async fn change_catalog(&self, _: hive::AlterCatalogArgs) -> Answer<()> {
        Err(unsupported("changing the catalog"))
    }

    pub(super) async fn remove_catalog(&self, args: hive::DropCatalogArgs) -> Answer<()> {
        names::check_catalog(args.cat_name.unwrap_or_default().name.as_deref())?;
        Err(MetaException::new(format!("Can not drop {CATALOG} catalog")).into())
    }

    pub(super) async fn catalog_id(&self) -> Answer<String> {
        Ok(self.store().catalog_id().await?)
    }

    pub(super) async fn delegation_token(&self, _: hive::GetDelegationTokenArgs) -> Answer<String> {
        Err(unsupported("delegation tokens, as nobody signs in with Kerberos"))
    }

    /// There are no indexes since Hive 3.
    pub(super) async fn remove_index(&self, args: hive::DropIndexByNameArgs) -> Answer<bool> {
        let of = qualified(&names::database(args.db_name)?, &names::object(args.tbl_name));
        let message = format!("{of} index={} not found", args.index_name.unwrap_or_default());
        Err(NoSuchObjectException::new(message).into())
    }

    pub(super) async fn empty_table(&self, args: hive::TruncateTableArgs) -> Answer<()> {
        self.empty(args.db_name, args.table_name).await
    }

    pub(super) async fn empty_table_as(&self, args: hive::TruncateTableReqArgs) -> Answer<hive::TruncateTableResponse> {
        let request = args.req.unwrap_or_default();
        self.empty(Some(request.db_name), Some(request.table_name)).await?;
        Ok(hive::TruncateTableResponse {})
    }

    /// A metastore deletes the files one by one while others read and write them. Here files go only with what they are of.
    async fn empty(&self, database: Option<String>, table: Option<String>) -> Answer<()> {
        let (database, table) = (names::database(database)?, names::object(table));
        self.table(&database, &table).await?;
        let what = "removing the files of a table that stays (truncate_table): delete its rows with an engine, or drop it \
                    or its partitions with their data";
        Err(unsupported(what))
    }

    /// Gives partitions of one table to another one. No file is moved: they keep their locations.
    pub(super) async fn exchange(&self, args: hive::ExchangePartitionsArgs) -> Answer<Vec<hive::Partition>> {
        let (source_database, source) = (names::database(args.source_db)?, names::object(args.source_table_name));
        let (database, name) = (names::database(args.dest_db)?, names::object(args.dest_table_name));
        let from = self.table(&source_database, &source).await?;
        let to = self.table(&database, &name).await?;
        let types = |columns: &[crate::model::Column]| {
            columns.iter().map(|column| (column.name.clone(), column.type_name.clone())).collect::<Vec<_>>()
        };
        if types(&from.storage.columns) != types(&to.storage.columns)
            || types(&from.partition_keys) != types(&to.partition_keys)
            || from.partition_keys.is_empty()
        {
            let message = "The tables have different schemas. Their partitions cannot be exchanged.";
            return Err(MetaException::new(message).into());
        }
        let spec = args.partition_specs.unwrap_or_default();
        let known: HashSet<&str> = from.partition_keys.iter().map(|key| key.name.as_str()).collect();
        if let Some(key) = spec.keys().find(|key| !known.contains(key.to_lowercase().as_str())) {
            let message = format!("{key} is no partition key of {}", qualified(&source_database, &source));
            return Err(MetaException::new(message).into());
        }
        let value = |key: &str| {
            let found = spec.iter().find(|(name, _)| name.to_lowercase() == key);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let values = from.partition_keys.iter().map(|key| value(&key.name).map(|value| vec![value])).collect();
        let filter = PartitionFilter { values };
        let found = self.store().partitions(&source_database, &source, &filter, None).await?;
        if found.is_empty() {
            return Err(MetaException::new("No partition is found with the given spec").into());
        }
        let values: Vec<Vec<String>> = found.into_iter().map(|partition| partition.values).collect();
        let given = self.store().give_partitions((&source_database, &source), (&database, &name), &values).await;
        let given: Vec<Partition> = given.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => MetaException::new(error.to_string()).into(),
            _ => Exception::from(error),
        })?;
        let mut lists = convert::ColumnLists::default();
        Ok(given.into_iter().map(|own| convert::partition_to(&database, &name, own, &mut lists)).collect())
    }
}

fn unsupported(what: &str) -> Exception {
    MetaException::new(Error::unsupported(what).to_string()).into()
}
