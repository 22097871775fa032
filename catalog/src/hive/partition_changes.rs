//! Partitions: adding, altering, renaming and dropping them.

use std::collections::{HashMap, HashSet};

use tereza_runtime::{Error, ErrorKind, ids};
use tereza_thrift::hive::{
    self, AddPartitionsRequest, AlreadyExistsException, AlterPartitionsRequest, AppendPartitionsRequest,
    DropPartitionRequest, DropPartitionsRequest, Exception, InvalidObjectException, InvalidOperationException,
    MetaException, NoSuchObjectException, RequestPartsSpec,
};

use super::names::{self, qualified};
use super::partitions::{Asked, AskedTable, is_missing};
use super::{Answer, Session, below, convert};
use crate::model::{Partition, Storage, partition_name};
use crate::store::places;

impl Session {
    /// Adds partitions of one table and returns those that are new.
    async fn add(&self, asked: &AskedTable, new: Vec<hive::Partition>, if_not_exists: bool) -> Answer<Vec<Partition>> {
        let keys = &asked.keys;
        let mut partitions = Vec::with_capacity(new.len());
        for partition in new {
            check_parent(asked, &partition)?;
            let mut partition = convert::partition_from(partition);
            if partition.values.len() != keys.len() || keys.is_empty() {
                return Err(names::wrong_values(keys, &partition.values));
            }
            asked.complete(&mut partition);
            partitions.push(partition);
        }
        let names: Vec<String> = partitions.iter().map(|partition| partition_name(keys, &partition.values)).collect();
        let known = self.store().partitions_by_names(&asked.database, &asked.name, &names).await?;
        let known: HashSet<String> = known.iter().map(|partition| partition_name(keys, &partition.values)).collect();
        if !if_not_exists && let Some(name) = names.iter().find(|name| known.contains(*name)) {
            return Err(partition_exists(name, asked));
        }
        self.place_new(asked, &mut partitions, &names).await?;
        let new = partitions.iter().zip(&names).filter(|(_, name)| !known.contains(*name));
        let folders: Vec<String> = new.filter_map(|(partition, _)| partition.storage.location.clone()).collect();
        self.wait_for_removal(&folders).await;
        self.make_folders(folders, true).await?;
        let added = self.store().add_partitions(&asked.database, &asked.name, &partitions, if_not_exists).await;
        added.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                AlreadyExistsException::new(format!("Partition already exists: {error}")).into()
            }
            ErrorKind::InvalidInput => InvalidObjectException::new(error.to_string()).into(),
            _ => Exception::from(error),
        })?;
        let new: Vec<String> = names.into_iter().filter(|name| !known.contains(name)).collect();
        Ok(self.store().partitions_by_names(&asked.database, &asked.name, &new).await?)
    }

    /// Says where the files of new partitions go that do not say it themselves: below their table, and where nothing is, as
    /// a partition that was renamed has its files there still.
    async fn place_new(&self, asked: &AskedTable, partitions: &mut [Partition], names: &[String]) -> Answer<()> {
        let Some(folder) = &asked.table.storage.location else { return Ok(()) };
        let to_place = |partition: &Partition| partition.storage.location.is_none();
        let unplaced = partitions.iter().zip(names).filter(|(partition, _)| to_place(partition));
        let defaults: Vec<String> = unplaced.map(|(_, name)| below(folder, name)).collect();
        self.wait_for_removal(&defaults).await;
        let taken: HashSet<String> = self.store().locations_in_use(&defaults).await?.into_iter().collect();
        let unplaced = partitions.iter_mut().filter(|partition| to_place(partition));
        for (partition, location) in unplaced.zip(defaults) {
            let is_taken = taken.contains(&location);
            let location = if is_taken { format!("{location}_{}", ids::new_id()) } else { location };
            partition.storage.location = Some(location);
        }
        Ok(())
    }

    /// Adds partitions that say themselves whose they are: all of one table.
    pub(super) async fn add_partitions_of_one(&self, new: Vec<hive::Partition>) -> Answer<Vec<hive::Partition>> {
        let Some(first) = new.first() else { return Ok(Vec::new()) };
        names::check_catalog(first.cat_name.as_deref())?;
        let asked = self.to_change(first.db_name.clone(), first.table_name.clone()).await?;
        let added = self.add(&asked, new, false).await?;
        Ok(asked.convert(added))
    }

    /// Adds one partition.
    pub(super) async fn add_one_partition(&self, new: Option<hive::Partition>) -> Answer<hive::Partition> {
        let new = new.ok_or_else(|| InvalidObjectException::new("there is no partition to add"))?;
        let added = self.add_partitions_of_one(vec![new]).await?;
        added.into_iter().next().ok_or_else(|| MetaException::new("the new partition was dropped at once").into())
    }

    pub(super) async fn add_partitions_as(
        &self,
        request: AddPartitionsRequest,
    ) -> Answer<Option<Vec<hive::Partition>>> {
        names::check_catalog(request.cat_name.as_deref())?;
        let asked = self.to_change(Some(request.db_name), Some(request.tbl_name)).await?;
        let added = self.add(&asked, request.parts, request.if_not_exists).await?;
        Ok(request.need_result.unwrap_or(true).then(|| asked.convert(added)))
    }

    /// Adds a partition that has all from its table.
    pub(super) async fn append(
        &self,
        database: Option<String>,
        table: Option<String>,
        values: Option<Vec<String>>,
    ) -> Answer<hive::Partition> {
        let asked = self.to_change(database, table).await?;
        let new = hive::Partition { values, ..hive::Partition::default() };
        let added = self.add(&asked, vec![new], false).await?;
        let mut added = asked.convert(added);
        added.pop().ok_or_else(|| MetaException::new("the new partition was dropped at once").into())
    }

    pub(super) async fn append_by_name(
        &self,
        database: Option<String>,
        table: Option<String>,
        name: Option<String>,
    ) -> Answer<hive::Partition> {
        let asked = self.to_change(database.clone(), table.clone()).await?;
        let values = asked.values_of(&name.unwrap_or_default()).map_err(|exception| match exception {
            Exception::NoSuchObject(missing) => InvalidObjectException { message: missing.message }.into(),
            other => other,
        })?;
        self.append(database, table, Some(values)).await
    }

    pub(super) async fn append_as(&self, request: AppendPartitionsRequest) -> Answer<hive::Partition> {
        names::check_catalog(request.catalog_name.as_deref())?;
        let (database, table) = (Some(request.db_name), Some(request.table_name));
        match request.part_vals {
            Some(values) if !values.is_empty() => self.append(database, table, Some(values)).await,
            _ => self.append_by_name(database, table, request.name).await,
        }
    }

    pub(super) async fn change_partitions(
        &self,
        database: Option<String>,
        table: Option<String>,
        new: Vec<hive::Partition>,
    ) -> Answer<()> {
        let asked = self.to_alter(database, table).await?;
        let mut partitions = Vec::with_capacity(new.len());
        for partition in new {
            check_parent(&asked, &partition)?;
            partitions.push(convert::partition_from(partition));
        }
        // What a client leaves out stays as it is.
        let keys = &asked.keys;
        let lacks =
            |partition: &Partition| partition.storage.location.is_none() || partition.storage.columns.is_empty();
        let is_whole = |partition: &Partition| partition.values.len() == keys.len();
        let lacking = partitions.iter().filter(|partition| lacks(partition) && is_whole(partition));
        let names: Vec<String> = lacking.map(|partition| partition_name(keys, &partition.values)).collect();
        let known = self.store().partitions_by_names(&asked.database, &asked.name, &names).await?;
        let known: HashMap<String, Storage> =
            known.into_iter().map(|old| (partition_name(keys, &old.values), old.storage)).collect();
        for partition in partitions.iter_mut().filter(|partition| lacks(partition)) {
            let name = if is_whole(partition) { partition_name(keys, &partition.values) } else { String::new() };
            match known.get(&name) {
                Some(old) => complete(partition, old),
                // Says which one is missing.
                None => complete(partition, &self.old_partition(&asked, &partition.values).await?.storage),
            }
        }
        let altered = self.store().alter_partitions(&asked.database, &asked.name, &partitions).await;
        if altered.as_ref().is_err_and(is_missing) {
            // Says which one in a metastore's words.
            for partition in &partitions {
                self.old_partition(&asked, &partition.values).await?;
            }
        }
        altered.map_err(not_altered)
    }

    pub(super) async fn change_partitions_as(&self, request: AlterPartitionsRequest) -> Answer<()> {
        names::check_catalog(request.cat_name.as_deref())?;
        self.change_partitions(Some(request.db_name), Some(request.table_name), request.partitions).await
    }

    /// Gives a partition other values. Its files stay where they are, as those of a table do. Engines that write to the folder of
    /// the old values without asking would mix their rows with these, so a managed table's partition that is in that folder is
    /// not renamed.
    pub(super) async fn rename_one_partition(
        &self,
        database: Option<String>,
        table: Option<String>,
        values: Option<Vec<String>>,
        new: Option<hive::Partition>,
    ) -> Answer<()> {
        let asked = self.to_alter(database, table).await?;
        let values = values.unwrap_or_default();
        let old = self.kept_partition(&asked, &values).await.map_err(|exception| match exception {
            Exception::NoSuchObject(_) => {
                InvalidOperationException::new("Unable to rename partition because old partition does not exist").into()
            }
            other => other,
        })?;
        let mut new = convert::partition_from(new.unwrap_or_default());
        complete(&mut new, &old.storage);
        let keys = &asked.keys;
        if new.values.len() != keys.len() {
            return Err(names::wrong_values(keys, &new.values));
        }
        let new_name = partition_name(keys, &new.values);
        let is_taken = new_name != partition_name(keys, &values)
            && !self
                .store()
                .partitions_by_names(&asked.database, &asked.name, std::slice::from_ref(&new_name))
                .await?
                .is_empty();
        if is_taken {
            return Err(InvalidOperationException::new(format!(
                "Partition already exists:{}.{}.[{}]",
                asked.database,
                asked.name,
                new.values.join(", ")
            ))
            .into());
        }
        let old_name = partition_name(keys, &values);
        let default = asked.table.storage.location.as_deref().map(|folder| below(folder, &old_name));
        let is_default = default.zip(old.storage.location).is_some_and(|(default, is)| places::is_same(&default, &is));
        if is_default && new_name != old_name && asked.table.owns_files() {
            return Err(InvalidOperationException::new(format!(
                "partition {old_name} of {} is not renamed: its files would stay where engines write rows of the old \
                 values, which would be in both then; add a partition and drop this one",
                qualified(&asked.database, &asked.name)
            ))
            .into());
        }
        let renamed = self.store().rename_partition(&asked.database, &asked.name, &values, &new).await;
        renamed.map_err(not_altered)
    }

    /// Drops partitions of one table and returns them as they were.
    async fn drop(
        &self,
        asked: &Asked,
        values: &[Vec<String>],
        if_exists: bool,
        delete_data: bool,
    ) -> Answer<Vec<Partition>> {
        let (database, name) = (&asked.database, &asked.name);
        let keys = &asked.keys;
        if let Some(wrong) = values.iter().find(|values| values.len() != keys.len() || keys.is_empty()) {
            return Err(names::wrong_values(keys, wrong));
        }
        let dropped = if delete_data {
            self.store().drop_partitions_with_files(database, name, values, if_exists).await
        } else {
            self.store().drop_partitions(database, name, values, if_exists).await
        };
        let dropped = dropped.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidInput => match values {
                [only] => names::no_partition(only),
                _ => NoSuchObjectException::new("Some partitions to drop are missing").into(),
            },
            _ => Exception::from(error),
        })?;
        if delete_data {
            let locations = dropped.iter().filter_map(|partition| partition.storage.location.clone());
            self.wait_for_removal(&locations.collect::<Vec<_>>()).await;
        }
        Ok(dropped)
    }

    pub(super) async fn drop_partition_with(
        &self,
        database: Option<String>,
        table: Option<String>,
        values: Option<Vec<String>>,
        delete_data: Option<bool>,
    ) -> Answer<bool> {
        let asked = self.asked(database, table).await?;
        self.drop(&asked, &[values.unwrap_or_default()], false, delete_data.unwrap_or_default()).await?;
        Ok(true)
    }

    pub(super) async fn drop_partition_named(
        &self,
        database: Option<String>,
        table: Option<String>,
        name: Option<String>,
        delete_data: Option<bool>,
    ) -> Answer<bool> {
        let asked = self.asked(database, table).await?;
        let values = asked.values_of(&name.unwrap_or_default())?;
        self.drop(&asked, &[values], false, delete_data.unwrap_or_default()).await?;
        Ok(true)
    }

    pub(super) async fn drop_partition_as(&self, request: DropPartitionRequest) -> Answer<bool> {
        names::check_catalog(request.cat_name.as_deref())?;
        let (database, table) = (Some(request.db_name), Some(request.tbl_name));
        match request.part_vals {
            Some(values) if !values.is_empty() => {
                self.drop_partition_with(database, table, Some(values), request.delete_data).await
            }
            _ => self.drop_partition_named(database, table, request.part_name, request.delete_data).await,
        }
    }

    pub(super) async fn drop_partitions_as(
        &self,
        request: DropPartitionsRequest,
    ) -> Answer<Option<Vec<hive::Partition>>> {
        names::check_catalog(request.cat_name.as_deref())?;
        let asked = self.asked(Some(request.db_name), Some(request.tbl_name)).await?;
        let RequestPartsSpec::Names(names) = request.parts else {
            let message = "partitions are dropped by their names: an expression of Hive's own cannot be read here";
            return Err(MetaException::new(message).into());
        };
        let values = names.iter().map(|name| asked.values_of(name)).collect::<Answer<Vec<_>>>()?;
        let if_exists = request.if_exists.unwrap_or(true);
        let dropped = self.drop(&asked, &values, if_exists, request.delete_data.unwrap_or_default()).await?;
        Ok(request.need_result.unwrap_or(true).then(|| asked.convert(dropped)))
    }

    /// The table to which partitions are added.
    async fn to_change(&self, database: Option<String>, table: Option<String>) -> Answer<AskedTable> {
        self.asked_table(database, table).await.map_err(|exception| match exception {
            Exception::NoSuchObject(_) => {
                InvalidObjectException::new("Unable to add partition because table or database do not exist").into()
            }
            other => other,
        })
    }

    /// The table whose partitions are altered.
    async fn to_alter(&self, database: Option<String>, table: Option<String>) -> Answer<AskedTable> {
        self.asked_table(database, table).await.map_err(|exception| match exception {
            Exception::NoSuchObject(_) => {
                let message = "Unable to alter partition because table or database does not exist.";
                InvalidOperationException::new(message).into()
            }
            other => other,
        })
    }

    async fn old_partition(&self, asked: &Asked, values: &[String]) -> Answer<Partition> {
        self.kept_partition(asked, values).await.map_err(|exception| match exception {
            Exception::NoSuchObject(missing) => {
                let message = missing.message.unwrap_or_default();
                InvalidOperationException::new(format!("alter is not possible: {message}")).into()
            }
            other => other,
        })
    }
}

impl AskedTable {
    /// Fills in what a client leaves out of a new partition, but for its place.
    fn complete(&self, partition: &mut Partition) {
        let location = partition.storage.location.take();
        complete(partition, &self.table.storage);
        partition.storage.location = location;
    }
}

/// Fills in what a client leaves out of a partition.
fn complete(partition: &mut Partition, like: &Storage) {
    let storage = &mut partition.storage;
    let location = storage.location.take().or_else(|| like.location.clone());
    if storage.input_format.is_none() && storage.serde.library.is_none() && storage.columns.is_empty() {
        storage.clone_from(like);
    }
    if storage.columns.is_empty() {
        storage.columns.clone_from(&like.columns);
    }
    storage.location = location;
}

/// Refuses a partition that says it is another table's.
fn check_parent(asked: &Asked, partition: &hive::Partition) -> Answer<()> {
    let database = match &partition.db_name {
        Some(name) => names::database(Some(name.clone()))?,
        None => asked.database.clone(),
    };
    let table = partition.table_name.as_deref().map_or_else(|| asked.name.clone(), str::to_lowercase);
    if (&database, &table) == (&asked.database, &asked.name) {
        return Ok(());
    }
    let target = qualified(&asked.database, &asked.name);
    Err(MetaException::new(format!("Partition does not belong to target table {target}: it is of {database}.{table}"))
        .into())
}

fn partition_exists(name: &str, asked: &Asked) -> Exception {
    let target = qualified(&asked.database, &asked.name);
    AlreadyExistsException::new(format!("Partition already exists: {name} of {target}")).into()
}

fn not_altered(error: Error) -> Exception {
    if is_missing(&error) || error.kind() == ErrorKind::AlreadyExists {
        InvalidOperationException::new(format!("alter is not possible: {error}")).into()
    } else {
        error.into()
    }
}
