//! What is done when a partition is complete: it comes into the catalog, its small files become larger ones, and a file in its
//! folder says so.
//!
//! All of it may be done again, by anybody: a partition that is there stays as it is, one without small files too, and the file is
//! empty.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use object_store::{ObjectStoreExt, PutPayload};
use tereza_catalog::model::{Partition, Table, partition_name};
use tereza_catalog::store::Snapshot;
use tereza_runtime::{Error, ErrorKind, Result, ids};

use super::super::entry::{self, Entry};
use super::super::{child_url, compact, files, folder_of_partition, folder_of_table, roll_forward};
use super::commit::commit_now;
use super::{PartitionCommit, StagingTable, uuid};
use crate::engine::Engine;

/// A partition on its way into the catalog.
#[derive(Clone)]
pub(super) struct Completing {
    engine: Arc<Engine>,
    catalog: String,
    database: String,
    name: String,
    keys: usize,
    adds: bool,
    compacts: bool,
    success_file: Option<String>,
    /// Of the table that is meant.
    uuid: String,
    values: Vec<String>,
}

impl Completing {
    pub(super) fn new(table: &StagingTable, uuid: &str, values: &[String]) -> Self {
        let policy = table.policy.as_ref();
        Self {
            engine: Arc::clone(&table.engine),
            catalog: table.catalog.clone(),
            database: table.database.clone(),
            name: table.name.clone(),
            keys: table.output.keys.len(),
            // Where the table says nothing any more, what waits comes in.
            adds: policy.is_none_or(PartitionCommit::adds),
            compacts: policy.is_some_and(PartitionCommit::compacts),
            success_file: policy.and_then(PartitionCommit::success_file).map(str::to_owned),
            uuid: uuid.to_owned(),
            values: values.to_vec(),
        }
    }

    /// Adds the partition if the policy wants it, and returns the URL of its folder; none if another changed the table at the same
    /// time.
    pub(super) async fn add(self) -> Result<Option<String>> {
        let engine = &self.engine;
        let filter = entry::exact_filter(self.keys, &BTreeSet::from([&self.values]));
        let Snapshot { table: now, partitions, pending } =
            engine.catalog.snapshot(&self.database, &self.name, &filter).await?;
        let is = uuid(&self.catalog, &now);
        if is != self.uuid {
            let (name, was) = (&self.name, &self.uuid);
            return Err(Error::invalid_input(format!(
                "table {name} is not the one whose partition is complete: its uuid is {is}, it was {was}"
            )));
        }
        let table = &now.table;
        if table.partition_keys.len() != self.values.len() {
            let (name, keys) = (&self.name, table.partition_keys.len());
            return Err(Error::invalid_input(format!("table {name} has {keys} partition keys, and had others")));
        }
        let location = folder_of_table(table)
            .ok_or_else(|| Error::invalid_input(format!("table {}.{} has no location", table.database, table.name)))?;
        let known = partitions.into_iter().find(|partition| partition.values == self.values);
        if known.is_none() && self.adds {
            // What is decided leaves its place, so that the numbers are those of all files.
            roll_forward::finish_pending(engine, &pending).await?;
            let (files, bytes) = self.measure(&self.folder(table, location, None)).await?;
            let id = ids::new_id();
            let entry = Entry { id: &id, table, location, expected_table: Some(now.id), step: None };
            let mut commit = entry::add(&entry, self.values.clone(), files, bytes);
            commit.expected_version = Some(now.version);
            if !commit_now(engine, &commit, now.version).await? {
                return Ok(None);
            }
        }
        Ok(Some(self.folder(table, location, known.as_ref())))
    }

    /// Does in the folder what the policy wants besides.
    pub(super) async fn finish(&self, folder: &str) -> Result<()> {
        if self.compacts {
            self.compact().await?;
        }
        match &self.success_file {
            Some(name) => say(&self.engine, &child_url(folder, name)).await,
            None => Ok(()),
        }
    }

    /// Rewrites small files. What does not pass by itself keeps no partition from being complete.
    async fn compact(&self) -> Result<()> {
        let (name, values) = (&self.name, &self.values);
        match compact(&self.engine, &self.database, name, values).await {
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Unavailable) => Err(error),
            Err(error) => {
                tracing::warn!(table = name, ?values, %error, "a partition is complete and keeps its small files");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// The URL of the partition's folder.
    fn folder(&self, table: &Table, location: &str, known: Option<&Partition>) -> String {
        match known.and_then(|known| folder_of_partition(&known.storage)) {
            Some(folder) => folder.to_owned(),
            None => child_url(location, &partition_name(&table.partition_keys, &self.values)),
        }
    }

    /// Files in a folder that readers would see, and their bytes.
    async fn measure(&self, folder: &str) -> Result<(u64, u64)> {
        let place = self.engine.stores.place(folder)?;
        let listed = place.store.list_with_delimiter(Some(&place.path)).await;
        let listed = listed.map_err(|error| files::store_error(error, folder))?.objects;
        let seen = listed.iter().filter(|file| file.location != place.path && entry::is_visible(&file.location));
        Ok(seen.fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.size)))
    }
}

/// Makes an empty file.
pub(super) async fn say(engine: &Engine, url: &str) -> Result<()> {
    let place = engine.stores.place(url)?;
    if place.bucket.is_some() {
        let put = place.store.put(&place.path, PutPayload::default()).await;
        return put.map(drop).map_err(|error| files::store_error(error, url));
    }
    let path = files::local_path(&place)?;
    files::blocking(move || touch(&path).map_err(|error| files::io_error(error, &path))).await
}

fn touch(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        files::create_dir(folder)?;
    }
    File::create(path)?.sync_all()?;
    files::sync_parent(path)
}
