//! Bytes to one file or object in the staging folder, where no reader sees it.
//!
//! Whatever touches the file runs in a task of its own, tracked by the write: dropping a statement never stops it half
//! way, and the clean-up waits for it, so that nothing appears after it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tereza_catalog::store::StagedFile;
use tereza_runtime::{Error, Result};
use tokio::task::JoinHandle;

use super::output::{ANNOUNCEMENT, Output};
use super::{child_url, fail_point, files};
use crate::stores::{Bucket, Place};

/// Bytes of a part of an upload; stores take no less than 5 MiB but for the last one, and no more than 10 000 parts.
/// What is shorter is put by one request.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Parts of one file on their way at once.
const PARTS_IN_FLIGHT_MAX: usize = 2;
/// Bytes written to a local file at once.
const FILE_CHUNK_BYTES: usize = 1 << 20;

/// One file being written.
pub(super) struct Sink {
    output: Arc<Output>,
    staged: StagedFile,
    buffer: BytesMut,
    medium: Medium,
}

enum Medium {
    Object(Object),
    File { path: Arc<PathBuf>, file: Arc<File> },
}

impl Sink {
    /// A new file that readers will find at `target`. It is in the catalog when this returns; staging folders are below
    /// `root`, which is in the same file system or bucket as `target`.
    pub(super) async fn create(output: &Arc<Output>, target: String, root: &str) -> Result<Self> {
        let name = target.rsplit('/').next().unwrap_or_default();
        let url = child_url(&output.staging_folder(root), name);
        let place = output.stores.place(&url)?;
        let path = match place.bucket {
            Some(_) => PathBuf::new(),
            None => files::local_path(&place)?,
        };
        let staged = StagedFile { target, staged: url };
        let (owned, owned_staged) = (Arc::clone(output), staged.clone());
        let created = output.tasks.spawn(async move {
            owned.stage(&owned_staged).await?;
            fail_point::hit(fail_point::AFTER_STAGE);
            match place.bucket.clone() {
                Some(bucket) => Ok(Medium::Object(Object { place, bucket, upload: None })),
                None => create_file(path).await,
            }
        });
        Ok(Self { output: Arc::clone(output), staged, buffer: BytesMut::new(), medium: joined(created).await? })
    }

    /// Adds bytes; they are written when there are enough of them.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        let chunk_bytes = match &self.medium {
            Medium::Object(_) => PART_BYTES,
            Medium::File { .. } => FILE_CHUNK_BYTES,
        };
        while self.buffer.len() >= chunk_bytes {
            let chunk = self.buffer.split_to(chunk_bytes).freeze();
            match &mut self.medium {
                Medium::Object(object) => object.put_part(&self.output, chunk).await?,
                Medium::File { path, file } => append(&self.output, path, file, chunk).await?,
            }
        }
        Ok(())
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        let in_flight = match &self.medium {
            Medium::Object(object) => object.upload.as_ref().map_or(0, |upload| upload.in_flight.len()) * PART_BYTES,
            Medium::File { .. } => 0,
        };
        self.buffer.len() + in_flight
    }

    /// Ends the file, durable and still invisible.
    pub(super) async fn finish(mut self) -> Result<StagedFile> {
        let rest = self.buffer.split().freeze();
        match self.medium {
            Medium::Object(object) => object.finish(&self.output, rest).await?,
            Medium::File { path, file } => {
                if !rest.is_empty() {
                    append(&self.output, &path, &file, rest).await?;
                }
                let sync = move || {
                    file.sync_all()
                        .and_then(|()| files::sync_parent(&path))
                        .map_err(|error| files::io_error(error, &path))
                };
                joined(self.output.tasks.spawn_blocking(sync)).await?;
            }
        }
        Ok(self.staged)
    }
}

async fn create_file(path: PathBuf) -> Result<Medium> {
    let created = path.clone();
    let create = move || {
        let folder = path.parent().unwrap_or(&path);
        files::create_dir(folder).and_then(|()| File::create_new(&path)).map_err(|error| files::io_error(error, &path))
    };
    let file = files::blocking(create).await?;
    Ok(Medium::File { path: Arc::new(created), file: Arc::new(file) })
}

async fn append(output: &Output, path: &Arc<PathBuf>, file: &Arc<File>, chunk: Bytes) -> Result<()> {
    let (path, file) = (Arc::clone(path), Arc::clone(file));
    let write = move || (&*file).write_all(&chunk).map_err(|error| files::io_error(error, &path));
    joined(output.tasks.spawn_blocking(write)).await?;
    fail_point::hit(fail_point::MID_FILE);
    Ok(())
}

/// An object of a bucket.
struct Object {
    place: Place,
    bucket: Arc<Bucket>,
    /// Begins with the first full part.
    upload: Option<Upload>,
}

/// A multipart upload.
struct Upload {
    id: String,
    /// Entity tags of the parts that arrived, in order.
    parts: Vec<PartId>,
    /// The parts after those, in order.
    in_flight: VecDeque<JoinHandle<object_store::Result<PartId>>>,
}

impl Object {
    async fn put_part(&mut self, output: &Output, chunk: Bytes) -> Result<()> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => {
                let (place, bucket) = (self.place.clone(), Arc::clone(&self.bucket));
                let announces = output.announces_uploads();
                let begun = output.tasks.spawn(async move {
                    if announces {
                        announce(&bucket, &place).await?;
                    }
                    let begun = bucket.uploads.create_multipart(&place.path).await;
                    fail_point::hit(fail_point::AFTER_BEGIN_UPLOAD);
                    let begun = begun.map_err(|error| files::store_error(error, &place.url()))?;
                    // Who removed the first one meanwhile did not find the upload.
                    if announces {
                        announce(&bucket, &place).await?;
                    }
                    Ok(begun)
                });
                none.insert(Upload { id: joined(begun).await?, parts: Vec::new(), in_flight: VecDeque::new() })
            }
        };
        if upload.in_flight.len() >= PARTS_IN_FLIGHT_MAX {
            upload.await_oldest(&self.place).await?;
        }
        let number = upload.parts.len() + upload.in_flight.len();
        let (bucket, path, id) = (Arc::clone(&self.bucket), self.place.path.clone(), upload.id.clone());
        upload.in_flight.push_back(output.tasks.spawn(async move {
            let part = bucket.uploads.put_part(&path, &id, number, PutPayload::from_bytes(chunk)).await;
            fail_point::hit(fail_point::MID_FILE);
            part
        }));
        Ok(())
    }

    /// Puts what is left and makes the object, at its hidden place.
    async fn finish(mut self, output: &Output, rest: Bytes) -> Result<()> {
        if self.upload.is_some() && !rest.is_empty() {
            self.put_part(output, rest.clone()).await?;
        }
        let Self { place, bucket, upload } = self;
        let url = place.url();
        let made = match upload {
            None => output.tasks.spawn(async move {
                let made = place.store.put(&place.path, PutPayload::from_bytes(rest)).await;
                fail_point::hit(fail_point::MID_FILE);
                made
            }),
            Some(mut upload) => {
                while !upload.in_flight.is_empty() {
                    upload.await_oldest(&place).await?;
                }
                let Upload { id, parts, .. } = upload;
                output.tasks.spawn(async move { bucket.patient.complete_multipart(&place.path, &id, parts).await })
            }
        };
        let made = made.await.map_err(|error| Error::internal("an upload did not end").with_source(error))?;
        made.map(|_| ()).map_err(|error| files::store_error(error, &url))
    }
}

impl Upload {
    async fn await_oldest(&mut self, place: &Place) -> Result<()> {
        if let Some(part) = self.in_flight.pop_front() {
            let part = part.await.map_err(|error| Error::internal("an upload did not end").with_source(error))?;
            self.parts.push(part.map_err(|error| files::store_error(error, &place.url()))?);
        }
        Ok(())
    }
}

/// Says that an object is uploaded in parts.
async fn announce(bucket: &Bucket, place: &Place) -> Result<()> {
    let path = Path::from(format!("{}{ANNOUNCEMENT}", place.path));
    let announced = bucket.store.put(&path, PutPayload::new()).await;
    announced.map(drop).map_err(|error| files::store_error(error, &place.url()))
}

async fn joined<T>(task: JoinHandle<Result<T>>) -> Result<T> {
    task.await.map_err(|error| Error::internal("writing a file did not end").with_source(error))?
}
