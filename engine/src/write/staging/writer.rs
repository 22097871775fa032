//! Rows to complete files in a folder that no reader looks into.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::memory_pool::MemoryConsumer;
use tereza_runtime::{Error, Result};

use super::super::output::{ANNOUNCEMENT, Output};
use super::super::task::{Limits, Task};
use super::super::written::WrittenFile;
use super::super::{BACKGROUND, CLEANUP_TIMEOUT, fail_point, recover, roll_forward, sink};
use super::token::Token;
use super::{CompleteFile, folder};
use crate::engine::Engine;

/// Characters of a name: with the ids that are added, that of a file stays below what file systems take (255).
const NAME_CHARS_MAX: usize = 160;

/// Writes the files of one name. If it is dropped before [`StagingWriter::finish`] has ended, they are removed: nobody knows of
/// them.
pub struct StagingWriter {
    engine: Arc<Engine>,
    output: Arc<Output>,
    /// Gone when a call failed or was dropped: what the files hold then is not known.
    task: Option<Task>,
    /// What the names of its files begin with; no other writer's do.
    prefix: String,
    /// The last schema of rows that was found to fit.
    checked: Option<SchemaRef>,
    is_finished: bool,
}

impl StagingWriter {
    pub(super) fn begin(engine: &Arc<Engine>, table: &Output, name: &str) -> Result<Self> {
        check_name(name)?;
        let output = Arc::new(table.of_write(name)?);
        let reservation = MemoryConsumer::new(format!("StagingWriter[{name}]")).register(&engine.runtime.memory_pool);
        let task = Task::new(&output, 0, Limits::DEFAULT, reservation)?;
        let prefix = task.name_prefix().to_owned();
        Ok(Self { engine: Arc::clone(engine), output, task: Some(task), prefix, checked: None, is_finished: false })
    }

    /// Adds rows, with the columns of [`StagingTable::schema`](super::StagingTable::schema) by position.
    ///
    /// # Errors
    /// `InvalidInput` for rows that cannot become those of the table. After one while they are written it takes no more.
    pub async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if !self.checked.as_ref().is_some_and(|checked| Arc::ptr_eq(checked, rows.schema_ref())) {
            self.output.check(rows.schema_ref())?;
            self.checked = Some(rows.schema());
        }
        let mut task = self.task.take().ok_or_else(broken)?;
        task.write(rows).await?;
        self.task = Some(task);
        Ok(())
    }

    /// Completes the files: durable, and still invisible. None if there were no rows.
    pub async fn finish(mut self) -> Result<Vec<CompleteFile>> {
        let written = self.task.take().ok_or_else(broken)?.finish().await?;
        fail_point::hit(fail_point::AFTER_LAST_CLOSE);
        let mut files = Vec::with_capacity(written.len());
        for file in written {
            withdraw_announcement(&self.output, &file).await;
            files.push(describe(&self.output, file).await?);
        }
        self.is_finished = true;
        Ok(files)
    }
}

impl Drop for StagingWriter {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // Files that are open end here, and what they have begun is waited for below.
        self.task = None;
        let (engine, output, prefix) = (Arc::clone(&self.engine), Arc::clone(&self.output), self.prefix.clone());
        // Without a runtime the process is ending; then the files are orphans.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            BACKGROUND.spawn_on(async move { remove(&engine, &output, &prefix).await }, &runtime);
        }
    }
}

async fn describe(output: &Output, written: WrittenFile) -> Result<CompleteFile> {
    let WrittenFile { file, rows, bytes, partition } = written;
    if output.is_folder() {
        return Ok(CompleteFile { path: file.staged, size: bytes, rows, token: folder::token(partition.as_deref())? });
    }
    let storage = match &partition {
        None => output.table.storage.clone(),
        Some(values) => output.place(values).await?.1,
    };
    let token = Token::of(&output.table, &storage, partition)?.encode()?;
    Ok(CompleteFile { path: file.staged, size: bytes, rows, token })
}

/// An object that is complete has no upload that only the store knows of.
async fn withdraw_announcement(output: &Output, written: &WrittenFile) {
    if written.bytes < sink::PART_BYTES as u64 {
        return;
    }
    let url = format!("{}{ANNOUNCEMENT}", written.file.staged);
    let withdrawn = match output.stores.place(&url) {
        Ok(place) if place.bucket.is_some() => roll_forward::delete(&place).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = withdrawn {
        tracing::debug!(url, %error, "an empty object stays");
    }
}

async fn remove(engine: &Engine, output: &Output, prefix: &str) {
    let removed = tokio::time::timeout(CLEANUP_TIMEOUT, async {
        output.tasks.close();
        output.tasks.wait().await;
        for folder in output.staging_folders() {
            recover::remove_from_folder(engine, &folder, |name| name.starts_with(prefix)).await?;
        }
        Ok::<_, Error>(())
    });
    let error = match removed.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not done after {} s", CLEANUP_TIMEOUT.as_secs()),
    };
    tracing::warn!(name = output.id, error, "files of a stream that nobody knows of are left");
}

fn broken() -> Error {
    Error::internal("files that could not be written take no more rows")
}

fn check_name(name: &str) -> Result<()> {
    let fits = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= NAME_CHARS_MAX;
    if fits {
        return Ok(());
    }
    Err(Error::invalid_input(format!("files cannot be named '{name}'")).with_hint(format!(
        "a name begins with a letter or digit of ASCII, has these, '-', '_' and '.' only, and at most {NAME_CHARS_MAX} characters"
    )))
}
