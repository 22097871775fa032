//! One task of a write: keeps a bounded number of files open, one for each partition of the table that rows go to.
//!
//! A file is ended, and the next rows of its partition begin a new one, when it has reached its size, when too many files
//! are open, or when memory is short.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::memory_pool::MemoryReservation;
use tereza_catalog::model::{Storage, partition_name};
use tereza_catalog::store::check_partition;
use tereza_runtime::{Error, Result, ids};

use super::child_url;
use super::encoder::Encoder;
use super::output::Output;
use super::sink::Sink;
use super::split::{Part, PartitionKey, Splitter};
use super::written::WrittenFile;
use crate::error::from_datafusion;

/// Bytes that file systems take for the name of a folder.
const FOLDER_BYTES_MAX: usize = 255;
/// Characters of a name that is too long that a message shows.
const FOLDER_CHARS_SHOWN: usize = 64;

/// Bounds of one task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Files open at once.
    open_files_max: usize,
    /// A file is ended at about this size.
    file_bytes: u64,
    /// Partitions that get rows.
    partitions_max: usize,
    /// When memory is short, a file is ended early only if that frees as much: smaller ones would become a flood.
    relief_bytes: usize,
}

impl Limits {
    pub(super) const DEFAULT: Self =
        Self { open_files_max: 64, file_bytes: 512 << 20, partitions_max: 10_000, relief_bytes: 4 << 20 };
}

/// The files of one partition of the input.
pub(super) struct Task {
    output: Arc<Output>,
    limits: Limits,
    splitter: Splitter,
    reservation: MemoryReservation,
    /// Begins the name of every file: unique for each attempt of each task of each write.
    name_prefix: String,
    files_begun: usize,
    homes: HashMap<PartitionKey, Arc<Home>>,
    open: HashMap<PartitionKey, OpenFile>,
    /// Goes up with each write to a file.
    turn: u64,
    finished: Vec<WrittenFile>,
}

/// Where the files of a partition (or of an unpartitioned table) go.
#[derive(Debug)]
struct Home {
    values: Option<Vec<String>>,
    /// URL of the folder.
    location: String,
    /// Format of its files.
    storage: Storage,
}

struct OpenFile {
    home: Arc<Home>,
    encoder: Encoder,
    sink: Sink,
    rows: u64,
    bytes: u64,
    last_turn: u64,
}

impl OpenFile {
    fn memory_bytes(&self) -> usize {
        self.encoder.memory_bytes() + self.sink.memory_bytes()
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.encoder.write(rows)?;
        self.rows += rows.num_rows() as u64;
        self.put_encoded().await
    }

    async fn put_encoded(&mut self) -> Result<()> {
        let bytes = self.encoder.take();
        self.bytes += bytes.len() as u64;
        self.sink.write(&bytes).await
    }

    async fn finish(mut self) -> Result<WrittenFile> {
        let bytes = self.encoder.finish()?;
        self.bytes += bytes.len() as u64;
        self.sink.write(&bytes).await?;
        let partition = self.home.values.clone();
        Ok(WrittenFile { file: self.sink.finish().await?, rows: self.rows, bytes: self.bytes, partition })
    }
}

impl Task {
    /// The task for partition `number` of the input; what its open files hold is taken from `reservation`.
    pub(super) fn new(
        output: &Arc<Output>,
        number: usize,
        limits: Limits,
        reservation: MemoryReservation,
    ) -> Result<Self> {
        let attempt = ids::new_id();
        Ok(Self {
            output: Arc::clone(output),
            limits,
            splitter: Splitter::new(&output.columns, &output.keys)?.with_lengths_of(&output.table)?,
            reservation,
            name_prefix: format!("part-{number:05}-{}-{attempt}", output.id),
            files_begun: 0,
            homes: HashMap::new(),
            open: HashMap::new(),
            turn: 0,
            finished: Vec::new(),
        })
    }

    /// What the names of its files begin with.
    pub(super) fn name_prefix(&self) -> &str {
        &self.name_prefix
    }

    /// Writes the rows of `batch`.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for part in self.splitter.split(batch)? {
            self.write_part(part).await?;
            self.account().await?;
        }
        Ok(())
    }

    /// Ends all files and returns what this task wrote.
    pub(super) async fn finish(mut self) -> Result<Vec<WrittenFile>> {
        let open: Vec<PartitionKey> = self.open.keys().cloned().collect();
        for key in open {
            self.end_file(&key).await?;
        }
        Ok(self.finished)
    }

    async fn write_part(&mut self, part: Part) -> Result<()> {
        if !self.open.contains_key(&part.key) {
            if self.open.len() >= self.limits.open_files_max
                && let Some(oldest) = self.oldest()
            {
                self.end_file(&oldest).await?;
            }
            let home = self.home(&part).await?;
            let file = self.begin_file(home).await?;
            self.open.insert(part.key.clone(), file);
        }
        self.turn += 1;
        let Some(file) = self.open.get_mut(&part.key) else {
            return Err(Error::internal("a file that was just opened is not open"));
        };
        file.last_turn = self.turn;
        file.write(&part.rows).await?;
        if file.bytes + file.encoder.unwritten_bytes() as u64 >= self.limits.file_bytes {
            self.end_file(&part.key).await?;
        }
        Ok(())
    }

    async fn begin_file(&mut self, home: Arc<Home>) -> Result<OpenFile> {
        let (encoder, extension) = self.output.begin_file(&home.storage)?;
        let name = format!("{}-{}.{extension}", self.name_prefix, self.files_begun);
        self.files_begun += 1;
        let root = self.output.root(&home.location);
        let sink = Sink::create(&self.output, child_url(&home.location, &name), root).await?;
        Ok(OpenFile { home, encoder, sink, rows: 0, bytes: 0, last_turn: 0 })
    }

    async fn end_file(&mut self, key: &PartitionKey) -> Result<()> {
        if let Some(file) = self.open.remove(key) {
            self.finished.push(file.finish().await?);
        }
        Ok(())
    }

    /// Keeps the reservation at what the open files hold, ending the largest ones when the pool has no more.
    async fn account(&mut self) -> Result<()> {
        loop {
            let held = self.open.values().map(OpenFile::memory_bytes).sum();
            let Err(error) = self.reservation.try_resize(held) else { return Ok(()) };
            let Some(largest) = self.largest().filter(|(bytes, _)| *bytes >= self.limits.relief_bytes) else {
                return Err(from_datafusion(error));
            };
            self.end_file(&largest.1).await?;
        }
    }

    /// The open file that holds most memory, and how much.
    fn largest(&self) -> Option<(usize, PartitionKey)> {
        self.open.iter().map(|(key, file)| (file.memory_bytes(), key.clone())).max()
    }

    /// The open file that was written to least recently.
    fn oldest(&self) -> Option<PartitionKey> {
        self.open.iter().min_by_key(|(_, file)| file.last_turn).map(|(key, _)| key.clone())
    }

    async fn home(&mut self, part: &Part) -> Result<Arc<Home>> {
        if let Some(home) = self.homes.get(&part.key) {
            return Ok(Arc::clone(home));
        }
        if self.homes.len() >= self.limits.partitions_max {
            let max = self.limits.partitions_max;
            return Err(Error::resource_exhausted(format!("one statement writes to more than {max} partitions"))
                .with_hint("write fewer partitions at a time"));
        }
        let home = Arc::new(Home::find(&self.output, part).await?);
        self.homes.insert(part.key.clone(), Arc::clone(&home));
        Ok(home)
    }
}

impl Home {
    /// Of the partition that `part` belongs to.
    async fn find(output: &Output, part: &Part) -> Result<Self> {
        let table = &output.table;
        if table.partition_keys.is_empty() {
            return Ok(Self { values: None, location: output.location.clone(), storage: table.storage.clone() });
        }
        let values = part.texts()?;
        check_partition(&partition_name(&table.partition_keys, &values), &values)?;
        let (location, storage) = output.place(&values).await?;
        check_folders(output, &location)?;
        Ok(Self { values: Some(values), location, storage })
    }
}

/// Refuses a folder that could not be made when rows for it are committed already.
fn check_folders(output: &Output, url: &str) -> Result<()> {
    match url.split('/').find(|name| name.len() > FOLDER_BYTES_MAX) {
        Some(long) if output.stores.place(url)?.bucket.is_none() => Err(Error::invalid_input(format!(
            "the name of the folder of a partition has {} bytes, more than {FOLDER_BYTES_MAX}: '{}…'",
            long.len(),
            long.chars().take(FOLDER_CHARS_SHOWN).collect::<String>()
        ))),
        _ => Ok(()),
    }
}
