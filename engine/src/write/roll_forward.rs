//! After the commit: files to their places, replaced files away. Every step may be repeated, by anyone, at once.

use std::path::PathBuf;

use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tereza_catalog::store::{Commit, Staging};
use tereza_runtime::{Error, Result};

use super::{fail_point, files};
use crate::engine::Engine;

/// Requests to an object store at once.
const REQUESTS_IN_FLIGHT_MAX: usize = 16;

/// Brings the files of a commit to their places; harmless when repeated, also by several processes at once.
///
/// The caller marks the commit finished afterwards, or calls [`finish_pending`] instead. `Internal`, naming it, if a file
/// of a commit that is still pending is nowhere: rows are lost then, and the commit is not to be marked finished.
pub(crate) async fn roll_forward(engine: &Engine, commit: &Commit) -> Result<()> {
    let mut moves = Vec::new();
    let mut moved_targets = Vec::new();
    let mut uploads = Vec::new();
    for file in &commit.add_files {
        match &file.staging {
            Staging::Moved { url } => {
                let to = files::local_path(&engine.stores.place(&file.target)?)?;
                moves.push((files::local_path(&engine.stores.place(url)?)?, to));
                moved_targets.push(file.target.clone());
            }
            Staging::Upload { upload_id, parts } => {
                uploads.push((file.target.clone(), upload_id.clone(), parts.clone()))
            }
        }
    }
    let staged: Vec<PathBuf> = moves.iter().map(|(from, _)| from.clone()).collect();

    let not_moved = files::blocking(move || {
        let first = moves.first().map(|(_, to)| to.clone()).unwrap_or_default();
        files::move_all(&moves, || fail_point::hit(fail_point::MID_ROLL_FORWARD))
            .map_err(|error| files::io_error(error, &first))
    })
    .await?;
    let completions = uploads.into_iter().map(|(target, upload_id, parts)| async move {
        let place = engine.stores.place(&target)?;
        let uploads = place
            .uploads
            .as_deref()
            .ok_or_else(|| Error::internal(format!("{target} is an upload in a store that has none")))?;
        let is_there = complete(uploads, place.store.as_ref(), &place.path, &upload_id, &parts).await;
        let is_there = is_there.map_err(|error| files::store_error(error, &target))?;
        fail_point::hit(fail_point::MID_ROLL_FORWARD);
        Ok::<_, Error>((!is_there).then_some(target))
    });
    // One after another: MinIO was seen to lose the parts of an upload whose completion was cut off by a dying client
    // (`InvalidPart` from then on), so as few as possible are under way at any moment.
    let completed: Vec<Option<String>> = stream::iter(completions).buffered(1).try_collect().await?;

    let not_moved = not_moved.into_iter().map(|at| moved_targets[at].clone()).next();
    if let Some(lost) = not_moved.or(completed.into_iter().flatten().next()) {
        // Somebody else may have finished this commit, and a later OVERWRITE may have removed the file since.
        if engine.catalog.pending_commits().await?.iter().any(|pending| pending.id == commit.id) {
            let (id, database, table) = (&commit.id, &commit.database, &commit.table);
            let error =
                format!("rows are lost: {lost} of commit {id} of table {database}.{table} is nowhere to be found");
            tracing::error!("{error}");
            return Err(Error::internal(error).with_hint("restore the file, or restore the table from a backup"));
        }
        return Ok(());
    }
    fail_point::hit(fail_point::BEFORE_DELETES);
    remove(engine, &commit.remove_files).await?;
    files::blocking(move || {
        files::remove_staging_folders(staged);
        Ok(())
    })
    .await
}

/// Rolls commits forward, in their order, and marks them finished.
pub(crate) async fn finish_pending(engine: &Engine, pending: &[Commit]) -> Result<()> {
    for commit in pending {
        finish(engine, commit).await?;
    }
    Ok(())
}

/// Rolls one commit forward and marks it finished.
pub(super) async fn finish(engine: &Engine, commit: &Commit) -> Result<()> {
    roll_forward(engine, commit).await?;
    fail_point::hit(fail_point::BEFORE_FINISH);
    engine.catalog.finish_commit(&commit.id).await
}

/// Completes an upload and returns whether its object is there. Names are made once, so an object under the name is what
/// the upload became.
async fn complete(
    uploads: &dyn MultipartStore,
    store: &dyn ObjectStore,
    path: &Path,
    upload_id: &String,
    parts: &[String],
) -> object_store::Result<bool> {
    let parts = parts.iter().map(|part| PartId { content_id: part.clone() }).collect();
    let Err(error) = uploads.complete_multipart(path, upload_id, parts).await else { return Ok(true) };
    match (store.head(path).await, error) {
        (Ok(_), _) => Ok(true),
        (Err(object_store::Error::NotFound { .. }), object_store::Error::NotFound { .. }) => Ok(false),
        (Err(_), error) => Err(error),
    }
}

/// Removes files; those that are gone already are fine.
async fn remove(engine: &Engine, urls: &[String]) -> Result<()> {
    let mut paths = Vec::new();
    let mut objects = Vec::new();
    for url in urls {
        let place = engine.stores.place(url)?;
        if place.uploads.is_some() {
            objects.push((url.clone(), place))
        } else {
            paths.push(files::local_path(&place)?)
        }
    }
    files::blocking(move || {
        let first = paths.first().cloned().unwrap_or_default();
        files::remove_all(&paths).map_err(|error| files::io_error(error, &first))
    })
    .await?;
    let deletions = objects.into_iter().map(|(url, place)| async move {
        match place.store.delete(&place.path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(files::store_error(error, &url)),
        }
    });
    stream::iter(deletions).buffer_unordered(REQUESTS_IN_FLIGHT_MAX).try_collect().await
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn an_upload_is_invisible_until_completed_and_may_be_completed_again() {
        let store = InMemory::new();
        let path = Path::from("t/part-0");
        let id = store.create_multipart(&path).await.unwrap();
        let part = store.put_part(&path, &id, 0, "rows".into()).await.unwrap().content_id;
        assert!(store.head(&path).await.is_err());

        let parts = [part];
        assert!(complete(&store, &store, &path, &id, &parts).await.unwrap());
        assert!(complete(&store, &store, &path, &id, &parts).await.unwrap());
        let object = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(object, "rows");
    }

    #[tokio::test]
    async fn an_upload_that_is_gone_without_its_object_is_not_called_done() {
        let store = InMemory::new();
        let path = Path::from("t/part-0");
        assert!(!matches!(complete(&store, &store, &path, &"0".to_owned(), &[]).await, Ok(true)));
    }
}
