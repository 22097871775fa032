//! Bytes to one file that no reader sees: a multipart upload that is not completed, or a file in the staging folder.
//!
//! Whatever touches the file runs in a task of its own, tracked by the write: dropping a statement never stops it half
//! way, and the clean-up waits for it, so that nothing appears after it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::PutPayload;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use tereza_catalog::store::{StagedFile, Staging};
use tereza_runtime::{Error, Result};
use tokio::task::JoinHandle;

use super::{STAGING_FOLDER, Writing, child_url, fail_point, files};
use crate::stores::Place;

/// Bytes of a part of an upload; stores take no less than 5 MiB but for the last one, and no more than 10 000 parts.
const PART_BYTES: usize = 8 << 20;
/// Parts of one file on their way at once.
const PARTS_IN_FLIGHT_MAX: usize = 2;
/// Bytes written to a local file at once.
const FILE_CHUNK_BYTES: usize = 1 << 20;

/// One file being written.
pub(super) struct Sink {
    writing: Arc<Writing>,
    target: String,
    buffer: BytesMut,
    medium: Medium,
}

enum Medium {
    Upload(Upload),
    File { url: String, path: Arc<PathBuf>, file: Arc<File> },
}

impl Sink {
    /// A new file that readers will find at `target`. It is in the catalog when this returns; staging folders are below
    /// `root`, which is in the same file system as `target`.
    pub(super) async fn create(writing: &Arc<Writing>, target: String, root: &str) -> Result<Self> {
        let place = writing.engine.stores.place(&target)?;
        let (owned, owned_target, owned_root) = (Arc::clone(writing), target.clone(), root.to_owned());
        let created = writing.tasks.spawn(async move {
            match &place.uploads {
                Some(uploads) => {
                    Upload::create(&owned, &owned_target, &place, Arc::clone(uploads)).await.map(Medium::Upload)
                }
                None => create_file(&owned, owned_target, &owned_root).await,
            }
        });
        Ok(Self { writing: Arc::clone(writing), target, buffer: BytesMut::new(), medium: joined(created).await? })
    }

    /// Adds bytes; they are written when there are enough of them.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        let chunk_bytes = match &self.medium {
            Medium::Upload(_) => PART_BYTES,
            Medium::File { .. } => FILE_CHUNK_BYTES,
        };
        while self.buffer.len() >= chunk_bytes {
            let chunk = self.buffer.split_to(chunk_bytes).freeze();
            self.put(chunk).await?;
        }
        Ok(())
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        let in_flight = match &self.medium {
            Medium::Upload(upload) => upload.in_flight.len() * PART_BYTES,
            Medium::File { .. } => 0,
        };
        self.buffer.len() + in_flight
    }

    /// Ends the file, durable and still invisible.
    pub(super) async fn finish(mut self) -> Result<StagedFile> {
        let rest = self.buffer.split().freeze();
        if !rest.is_empty() {
            self.put(rest).await?;
        }
        let staging = match self.medium {
            Medium::Upload(upload) => upload.finish().await?,
            Medium::File { url, path, file } => {
                let sync = move || {
                    file.sync_all()
                        .and_then(|()| files::sync_parent(&path))
                        .map_err(|error| files::io_error(error, &path))
                };
                joined(self.writing.tasks.spawn_blocking(sync)).await?;
                Staging::Moved { url }
            }
        };
        Ok(StagedFile { target: self.target, staging })
    }

    async fn put(&mut self, chunk: Bytes) -> Result<()> {
        match &mut self.medium {
            Medium::Upload(upload) => upload.put(&self.writing, chunk).await,
            Medium::File { path, file, .. } => {
                let (path, file) = (Arc::clone(path), Arc::clone(file));
                let write = move || (&*file).write_all(&chunk).map_err(|error| files::io_error(error, &path));
                joined(self.writing.tasks.spawn_blocking(write)).await?;
                fail_point::hit(fail_point::MID_FILE);
                Ok(())
            }
        }
    }
}

async fn create_file(writing: &Writing, target: String, root: &str) -> Result<Medium> {
    let name = target.rsplit('/').next().unwrap_or_default();
    let url = child_url(&child_url(&child_url(root, STAGING_FOLDER), &writing.id), name);
    let path = files::local_path(&writing.engine.stores.place(&url)?)?;
    let staged = StagedFile { target, staging: Staging::Moved { url: url.clone() } };
    writing.engine.catalog.stage(&writing.id, &staged).await?;
    fail_point::hit(fail_point::AFTER_STAGE);
    let file = {
        let path = path.clone();
        let create = move || {
            let folder = path.parent().unwrap_or(&path);
            files::create_dir(folder)
                .and_then(|()| File::create_new(&path))
                .map_err(|error| files::io_error(error, &path))
        };
        files::blocking(create).await?
    };
    Ok(Medium::File { url, path: Arc::new(path), file: Arc::new(file) })
}

/// A multipart upload.
struct Upload {
    uploads: Arc<dyn MultipartStore>,
    /// For messages.
    url: String,
    path: Path,
    upload_id: String,
    /// Entity tags of the parts that arrived, in order.
    parts: Vec<String>,
    /// The parts after those, in order.
    in_flight: VecDeque<JoinHandle<object_store::Result<PartId>>>,
}

impl Upload {
    async fn create(writing: &Writing, target: &str, place: &Place, uploads: Arc<dyn MultipartStore>) -> Result<Self> {
        let created = uploads.create_multipart(&place.path).await;
        let upload_id = created.map_err(|error| files::store_error(error, target))?;
        let staging = Staging::Upload { upload_id: upload_id.clone(), parts: Vec::new() };
        let staged = StagedFile { target: target.to_owned(), staging };
        if let Err(error) = writing.engine.catalog.stage(&writing.id, &staged).await {
            // No record names it, so nobody else can.
            if let Err(abort) = uploads.abort_multipart(&place.path, &upload_id).await {
                tracing::warn!(url = target, error = %abort, "an upload without bytes is left");
            }
            return Err(error);
        }
        fail_point::hit(fail_point::AFTER_STAGE);
        let (url, path) = (target.to_owned(), place.path.clone());
        Ok(Self { uploads, url, path, upload_id, parts: Vec::new(), in_flight: VecDeque::new() })
    }

    async fn put(&mut self, writing: &Writing, chunk: Bytes) -> Result<()> {
        if self.in_flight.len() >= PARTS_IN_FLIGHT_MAX {
            self.await_oldest().await?;
        }
        let number = self.parts.len() + self.in_flight.len();
        let (uploads, path, upload_id) = (Arc::clone(&self.uploads), self.path.clone(), self.upload_id.clone());
        self.in_flight.push_back(writing.tasks.spawn(async move {
            let part = uploads.put_part(&path, &upload_id, number, PutPayload::from_bytes(chunk)).await;
            fail_point::hit(fail_point::MID_FILE);
            part
        }));
        Ok(())
    }

    async fn finish(mut self) -> Result<Staging> {
        while !self.in_flight.is_empty() {
            self.await_oldest().await?;
        }
        Ok(Staging::Upload { upload_id: self.upload_id, parts: self.parts })
    }

    async fn await_oldest(&mut self) -> Result<()> {
        if let Some(part) = self.in_flight.pop_front() {
            let part = part.await.map_err(|error| Error::internal("an upload did not end").with_source(error))?;
            self.parts.push(part.map_err(|error| files::store_error(error, &self.url))?.content_id);
        }
        Ok(())
    }
}

async fn joined<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    task.await.map_err(|error| Error::internal("writing a file did not end").with_source(error))?
}
