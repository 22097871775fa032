//! What the tasks of a write know: enough to make its files, in this process or in another.
//!
//! In the process of the catalog a task names each file there before its first byte, and asks it where the files of a
//! partition go. An executor has no catalog: its tasks get a list of the partitions that lie elsewhere, and the folders that
//! they write into are named before the first of them begins.

use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{FieldRef, SchemaRef};
use serde::{Deserialize, Serialize};
use tereza_catalog::Store;
use tereza_catalog::model::{DEFAULT_PARTITION, Storage, Table, partition_name};
use tereza_catalog::store::{PartitionFilter, StagedFile};
use tereza_runtime::{Error, Result};
use tokio_util::task::TaskTracker;

use super::encoder::Encoder;
use super::lines::{LineFormat, LinesEncoder};
use super::{STAGING_FOLDER, child_url, folder_of_partition, folder_of_table};
use crate::engine::Engine;
use crate::formats::Format;
use crate::stores::ObjectStores;
use crate::types::table_fields;

/// Partitions in folders of their own that travel to executors; with more of them a table is written by this process.
const ELSEWHERE_MAX: usize = 1_000;

/// At the end of the name of an empty object, which says that the object without it is being uploaded in parts. Such uploads are
/// not listed by the folder they are for, by some stores (MinIO) at all.
pub(super) const ANNOUNCEMENT: &str = ".upload";

/// Where the files of one write go, and how they look.
#[derive(Debug)]
pub(super) struct Output {
    /// Id of the write in the catalog, part of the name of each of its files.
    pub(super) id: String,
    pub(super) table: Table,
    /// URL of the table's folder, without a slash at its end.
    pub(super) location: String,
    /// Columns of the files.
    pub(super) columns: SchemaRef,
    /// Partition keys.
    pub(super) keys: Vec<FieldRef>,
    pub(super) stores: Arc<ObjectStores>,
    /// Whatever may still touch a file of this write; closed when nothing may begin any more.
    pub(super) tasks: TaskTracker,
    places: Places,
    /// Of a folder that no catalog knows.
    folder: Option<OfFolder>,
}

/// What the files of a folder are like that no catalog knows.
#[derive(Debug, Clone)]
pub(super) struct OfFolder {
    /// Lines of this format; none is what the storage of the table says.
    pub(super) lines: Option<Arc<dyn LineFormat>>,
    /// In the names of partitions, for NULL and for a text without characters.
    pub(super) null_partition: String,
}

/// Who knows where partitions are.
#[derive(Debug)]
enum Places {
    /// The catalog; of a table that is not there yet, nobody needs to ask.
    Catalog { catalog: Arc<dyn Store>, is_new: bool },
    /// This list of those that are not below the table, or have files of another format.
    Listed(Vec<Elsewhere>),
}

/// A partition with a folder or a format of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Elsewhere {
    values: Vec<String>,
    storage: Storage,
}

/// An [`Output`] on its way to executors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OutputMessage {
    id: String,
    table: Table,
    location: String,
    elsewhere: Vec<Elsewhere>,
}

impl Output {
    /// The output of a write in the process of the catalog.
    pub(super) fn new(engine: &Engine, id: String, table: Table, is_new: bool) -> Result<Self> {
        let location = folder_of_table(&table).map(str::to_owned).ok_or_else(|| {
            Error::invalid_input(format!("table {}.{} has no location to write to", table.database, table.name))
        })?;
        let places = Places::Catalog { catalog: Arc::clone(&engine.catalog), is_new };
        Self::with(id, table, location, Arc::clone(&engine.stores), places)
    }

    /// The same in another process.
    pub(crate) fn of_message(message: OutputMessage, stores: Arc<ObjectStores>) -> Result<Self> {
        let OutputMessage { id, table, location, elsewhere } = message;
        Self::with(id, table, location, stores, Places::Listed(elsewhere))
    }

    fn with(id: String, table: Table, location: String, stores: Arc<ObjectStores>, places: Places) -> Result<Self> {
        let (columns, keys) = table_fields(&table)?;
        // A format that cannot be written is refused before the first row is read.
        Encoder::new(&table, &table.storage, &columns)?;
        Ok(Self { id, table, location, columns, keys, stores, tasks: TaskTracker::new(), places, folder: None })
    }

    /// That of a folder. `table` has its name, its format and the names of its partition keys; `columns` and `keys` say what they are.
    pub(super) fn of_folder(
        table: Table,
        (columns, keys): (SchemaRef, Vec<FieldRef>),
        stores: Arc<ObjectStores>,
        folder: OfFolder,
    ) -> Result<Self> {
        let location = folder_of_table(&table).map(str::to_owned).unwrap_or_default();
        let (id, tasks, places) = (String::new(), TaskTracker::new(), Places::Listed(Vec::new()));
        let output = Self { id, table, location, columns, keys, stores, tasks, places, folder: Some(folder) };
        // A column that cannot be written is refused before the first row comes.
        output.begin_file(&output.table.storage)?;
        Ok(output)
    }

    /// Whether no catalog knows of the files.
    pub(super) fn is_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// What makes the bytes of a file of a partition's format, and how its name ends.
    pub(super) fn begin_file(&self, storage: &Storage) -> Result<(Encoder, &'static str)> {
        if let Some(OfFolder { lines: Some(lines), .. }) = &self.folder {
            return Ok((Encoder::Lines(LinesEncoder::new(lines)?), lines.extension()));
        }
        let extension = Format::of_table(&self.table, storage)?.extension();
        Ok((Encoder::new(&self.table, storage, &self.columns)?, extension))
    }

    /// The same, for tasks that have no catalog.
    pub(super) fn listed(&self, elsewhere: Vec<Elsewhere>) -> Result<Self> {
        let (id, table, location) = (self.id.clone(), self.table.clone(), self.location.clone());
        Self::with(id, table, location, Arc::clone(&self.stores), Places::Listed(elsewhere))
    }

    /// Refuses input that cannot become the table's columns by position.
    pub(super) fn check(&self, input: &SchemaRef) -> Result<()> {
        let table = format!("{}.{}", self.table.database, self.table.name);
        let wanted: Vec<&FieldRef> = self.columns.fields().iter().chain(&self.keys).collect();
        if input.fields().len() != wanted.len() {
            let (got, wanted) = (input.fields().len(), wanted.len());
            return Err(Error::invalid_input(format!(
                "{got} columns are written to table {table}, which has {wanted}"
            )));
        }
        for (got, wanted) in input.fields().iter().zip(wanted) {
            if !can_cast_types(got.data_type(), wanted.data_type()) {
                let (name, got, wanted) = (wanted.name(), got.data_type(), wanted.data_type());
                return Err(Error::invalid_input(format!("column {name} of table {table} is {wanted}, not {got}"))
                    .with_hint(format!("cast it to {wanted}")));
            }
        }
        Ok(())
    }

    /// A listed one for the files of another write.
    pub(super) fn of_write(&self, id: &str) -> Result<Self> {
        if let Some(folder) = &self.folder {
            let columns = (Arc::clone(&self.columns), self.keys.clone());
            let output = Self::of_folder(self.table.clone(), columns, Arc::clone(&self.stores), folder.clone())?;
            return Ok(Self { id: id.to_owned(), ..output });
        }
        let mut message =
            self.message().ok_or_else(|| Error::internal("an output that asks the catalog is one write's"))?;
        id.clone_into(&mut message.id);
        Self::of_message(message, Arc::clone(&self.stores))
    }

    /// What travels of it; nothing of an output that asks the catalog.
    pub(crate) fn message(&self) -> Option<OutputMessage> {
        let Places::Listed(elsewhere) = &self.places else { return None };
        Some(OutputMessage {
            id: self.id.clone(),
            table: self.table.clone(),
            location: self.location.clone(),
            elsewhere: elsewhere.clone(),
        })
    }

    /// The partitions whose files do not go where their names say; `Unsupported` if they are too many to travel.
    pub(super) async fn elsewhere(&self) -> Result<Vec<Elsewhere>> {
        let table = &self.table;
        match &self.places {
            Places::Catalog { catalog, is_new: false } if !table.partition_keys.is_empty() => {
                let all = catalog.partitions(&table.database, &table.name, &PartitionFilter::default(), None).await?;
                let is_elsewhere = |values: &[String], storage: &Storage| {
                    folder_of_partition(storage) != Some(self.usual_folder(values).as_str())
                        || storage.serde != table.storage.serde
                        || storage.input_format != table.storage.input_format
                };
                let elsewhere = all.into_iter().filter(|partition| is_elsewhere(&partition.values, &partition.storage));
                let elsewhere: Vec<Elsewhere> = elsewhere
                    .map(|partition| Elsewhere { values: partition.values, storage: partition.storage })
                    .collect();
                match elsewhere.len() > ELSEWHERE_MAX {
                    true => Err(Error::unsupported(format!(
                        "{} of its partitions lie elsewhere or have a format of their own",
                        elsewhere.len()
                    ))),
                    false => Ok(elsewhere),
                }
            }
            Places::Catalog { .. } => Ok(Vec::new()),
            Places::Listed(elsewhere) => Ok(elsewhere.clone()),
        }
    }

    /// The folder and the format of a partition's files: what the catalog says of it, or below the table.
    pub(super) async fn place(&self, values: &[String]) -> Result<(String, Storage)> {
        let known = match &self.places {
            Places::Catalog { is_new: true, .. } => None,
            Places::Catalog { catalog, is_new: false } => {
                let filter = PartitionFilter { values: values.iter().map(|value| Some(vec![value.clone()])).collect() };
                let found = catalog.partitions(&self.table.database, &self.table.name, &filter, None).await?;
                found.into_iter().find(|partition| partition.values == values).map(|partition| partition.storage)
            }
            Places::Listed(elsewhere) => {
                elsewhere.iter().find(|known| known.values == values).map(|known| known.storage.clone())
            }
        };
        let known = known.and_then(|storage| Some((folder_of_partition(&storage)?.to_owned(), storage)));
        Ok(known.unwrap_or_else(|| (self.usual_folder(values), self.table.storage.clone())))
    }

    /// The folder of a partition below the table.
    pub(super) fn usual_folder(&self, values: &[String]) -> String {
        let Some(OfFolder { null_partition, .. }) = &self.folder else {
            return child_url(&self.location, &partition_name(&self.table.partition_keys, values));
        };
        let named = |value: &String| if value == DEFAULT_PARTITION { null_partition.clone() } else { value.clone() };
        let values: Vec<String> = values.iter().map(named).collect();
        child_url(&self.location, &partition_name(&self.table.partition_keys, &values))
    }

    /// Names a file in the catalog. Without one its folder is named there already.
    pub(super) async fn stage(&self, file: &StagedFile) -> Result<()> {
        match &self.places {
            Places::Catalog { catalog, .. } => catalog.stage(&self.id, file).await,
            Places::Listed(_) => Ok(()),
        }
    }

    /// Whether an upload in parts is to be announced, since its object is not named in the catalog.
    pub(super) fn announces_uploads(&self) -> bool {
        matches!(self.places, Places::Listed(_))
    }

    /// The folder, of the files of a partition in `folder`, that a file is staged below: a partition with a folder of its own
    /// may be on another file system.
    pub(super) fn root<'a>(&'a self, folder: &'a str) -> &'a str {
        if folder == self.location || folder.starts_with(&child_url(&self.location, "")) {
            &self.location
        } else {
            folder
        }
    }

    /// The folder below `root` in which no reader looks, and which is this write's own.
    pub(super) fn staging_folder(&self, root: &str) -> String {
        child_url(&child_url(root, STAGING_FOLDER), &self.id)
    }

    /// All folders below which tasks without a catalog stage files.
    pub(super) fn roots(&self) -> Vec<&str> {
        let Places::Listed(elsewhere) = &self.places else { return Vec::new() };
        let others = elsewhere.iter().filter_map(|other| folder_of_partition(&other.storage));
        let mut roots: Vec<&str> =
            std::iter::once(self.location.as_str()).chain(others).map(|folder| self.root(folder)).collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// All folders that they stage files in, each with a slash at its end.
    pub(super) fn staging_folders(&self) -> Vec<String> {
        self.roots().into_iter().map(|root| child_url(&self.staging_folder(root), "")).collect()
    }
}
