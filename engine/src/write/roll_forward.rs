//! After the commit: files to their places, replaced files away. Every step may be repeated, by anyone, at once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use tereza_catalog::store::{Commit, StagedFile};
use tereza_runtime::{Error, Result};

use super::{fail_point, files, recover};
use crate::engine::Engine;
use crate::stores::Place;

/// Requests to an object store at once.
const REQUESTS_IN_FLIGHT_MAX: usize = 16;

/// Rolls commits forward, in their order, and marks them finished.
pub(crate) async fn finish_pending(engine: &Engine, pending: &[Commit]) -> Result<()> {
    for commit in pending {
        finish(engine, commit).await?;
    }
    Ok(())
}

/// Rolls one commit forward and marks it finished; harmless when repeated, also by several processes at once.
///
/// `Internal`, naming it, if a file of a commit that is still pending is nowhere: rows are lost then.
pub(crate) async fn finish(engine: &Engine, commit: &Commit) -> Result<()> {
    // Whoever reads the table meanwhile waits for the copies instead of making them once more.
    let turn = engine.roll_forwards.of(&commit.id);
    let _turn = turn.lock().await;
    roll_forward(engine, commit).await?;
    fail_point::hit(fail_point::BEFORE_FINISH);
    engine.catalog.finish_commit(&commit.id).await
}

/// For each commit that this process rolls forward, who does it now.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, commit: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock();
        if let Some(turn) = turns.get(commit).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(commit.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// Brings the files of a commit to their places.
async fn roll_forward(engine: &Engine, commit: &Commit) -> Result<()> {
    let Brought { moved, copied, lost } = bring(engine, &commit.add_files).await?;
    if let Some(lost) = lost {
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
    // Before the commit is marked finished: without its source, no late copy can bring a file back that was replaced.
    delete_all(copied).await?;
    remove(engine, &commit.remove_files).await?;
    for folder in &commit.remove_folders {
        // Nobody reads what is left there: it must not keep the rows from being seen.
        if let Err(error) = recover::remove_folder(engine, folder).await {
            tracing::warn!(commit = commit.id, folder, %error, "a staging folder is not removed yet");
        }
    }
    files::blocking(move || {
        files::remove_staging_folders(moved);
        Ok(())
    })
    .await
}

/// Files that were brought to their places.
pub(super) struct Brought {
    /// The paths that they had, of files.
    pub(super) moved: Vec<PathBuf>,
    /// Objects that are still where they were too.
    pub(super) copied: Vec<Place>,
    /// The place of one that is nowhere.
    pub(super) lost: Option<String>,
}

/// Renames files and copies objects to their places; harmless when repeated, also by several processes at once.
pub(super) async fn bring(engine: &Engine, files: &[StagedFile]) -> Result<Brought> {
    let mut moves = Vec::new();
    let mut moved_targets = Vec::new();
    let mut copies = Vec::new();
    for file in files {
        let (from, to) = (engine.stores.place(&file.staged)?, engine.stores.place(&file.target)?);
        if to.bucket.is_some() {
            copies.push((from, to));
        } else {
            moves.push((files::local_path(&from)?, files::local_path(&to)?));
            moved_targets.push(file.target.clone());
        }
    }
    let moved: Vec<PathBuf> = moves.iter().map(|(from, _)| from.clone()).collect();

    let not_moved = files::blocking(move || {
        let first = moves.first().map(|(_, to)| to.clone()).unwrap_or_default();
        files::move_all(&moves, || fail_point::hit(fail_point::MID_ROLL_FORWARD))
            .map_err(|error| files::io_error(error, &first))
    })
    .await?;
    let copying = copies.clone().into_iter().map(|(from, to)| async move {
        let is_there = copy(&from, &to).await?;
        fail_point::hit(fail_point::MID_ROLL_FORWARD);
        Ok::<_, Error>((!is_there).then(|| to.url()))
    });
    let not_copied: Vec<Option<String>> = stream::iter(copying).buffered(REQUESTS_IN_FLIGHT_MAX).try_collect().await?;
    let not_moved = not_moved.into_iter().map(|at| moved_targets[at].clone()).next();
    let lost = not_moved.or(not_copied.into_iter().flatten().next());
    Ok(Brought { moved, copied: copies.into_iter().map(|(from, _)| from).collect(), lost })
}

/// Deletes objects; those that are gone already are fine.
pub(super) async fn delete_all(places: Vec<Place>) -> Result<()> {
    let deletions = places.into_iter().map(|place| async move { delete(&place).await });
    stream::iter(deletions).buffer_unordered(REQUESTS_IN_FLIGHT_MAX).try_collect().await
}

/// Copies an object within its store, which does it as one step, and returns whether it is there. Names are made once, so
/// an object under the name is what the other one became.
async fn copy(from: &Place, to: &Place) -> Result<bool> {
    let failed = |error| files::store_error(error, &to.url());
    let store: &dyn ObjectStore = match &to.bucket {
        Some(bucket) if from.root == to.root => bucket.patient.as_ref(),
        _ => return Err(Error::internal(format!("{} is not in the bucket of {}", from.url(), to.url()))),
    };
    match store.copy(&from.path, &to.path).await {
        Ok(()) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => exists(store, &to.path).await.map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

async fn exists(store: &dyn ObjectStore, path: &Path) -> object_store::Result<bool> {
    match store.head(path).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Deletes an object; one that is gone already is fine.
pub(super) async fn delete(place: &Place) -> Result<()> {
    match place.store.delete(&place.path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(files::store_error(error, &place.url())),
    }
}

/// Removes files; those that are gone already are fine.
async fn remove(engine: &Engine, urls: &[String]) -> Result<()> {
    let mut paths = Vec::new();
    let mut objects = Vec::new();
    for url in urls {
        let place = engine.stores.place(url)?;
        if place.bucket.is_some() { objects.push(place) } else { paths.push(files::local_path(&place)?) }
    }
    files::blocking(move || {
        let first = paths.first().cloned().unwrap_or_default();
        files::remove_all(&paths).map_err(|error| files::io_error(error, &first))
    })
    .await?;
    delete_all(objects).await
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use tereza_catalog::model::Parameters;
    use tereza_catalog::store::Write;
    use tereza_runtime::Settings;

    use super::*;
    use crate::query::{QueryService, SessionDefaults, Statement};
    use crate::stores::Bucket;
    use crate::{Engine, LocalQueryService};

    fn places(store: &Arc<InMemory>) -> [Place; 2] {
        ["t/_tereza/w/part-0", "t/part-0"].map(|path| Place {
            root: "memory:///".into(),
            store: Arc::clone(store) as Arc<dyn ObjectStore>,
            bucket: Some(Bucket::of(store)),
            path: Path::from(path),
        })
    }

    #[tokio::test]
    async fn an_object_may_be_copied_again_also_when_its_source_is_gone() {
        let store = Arc::new(InMemory::new());
        let [from, to] = places(&store);
        store.put(&from.path, "rows".into()).await.unwrap();
        assert!(copy(&from, &to).await.unwrap());
        assert!(copy(&from, &to).await.unwrap());
        delete(&from).await.unwrap();
        delete(&from).await.unwrap();
        assert!(copy(&from, &to).await.unwrap());
        assert_eq!(store.get(&to.path).await.unwrap().bytes().await.unwrap(), "rows");
    }

    #[tokio::test]
    async fn a_staging_folder_that_cannot_be_removed_keeps_no_rows_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::in_folder(folder.path()).unwrap();
        // Nobody listens there.
        settings.s3.defaults.endpoint = "http://127.0.0.1:1".into();
        settings.s3.defaults.allow_http = true;
        settings.s3.defaults.retries_max = 0;
        let engine = Engine::open(&settings).await.unwrap();
        let service = LocalQueryService::new(Arc::clone(&engine));
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        service.submit(&session, Statement::new("CREATE TABLE t (a INT)")).await.unwrap().run().await.unwrap();
        let write = Write {
            id: "w".into(),
            database: "default".into(),
            table: "t".into(),
            owner: engine.process_id.clone(),
            began_ms: 1,
            staged: Vec::new(),
        };
        engine.catalog.begin_write(&write).await.unwrap();
        let commit = Commit {
            id: write.id,
            database: write.database,
            table: write.table,
            version: 0,
            expected_version: None,
            expected_table: None,
            create_table: None,
            add_files: Vec::new(),
            remove_files: Vec::new(),
            remove_folders: vec!["s3://bucket/t/_tereza/w/".into()],
            add_partitions: Vec::new(),
            drop_partitions: Vec::new(),
            table_parameters: Parameters::new(),
            partition_parameters: Vec::new(),
            table_increments: Vec::new(),
            partition_increments: Vec::new(),
            step: None,
        };
        engine.catalog.commit(&commit).await.unwrap();
        finish(&engine, &commit).await.unwrap();
        assert_eq!(engine.catalog.pending_commits().await.unwrap(), []);
    }

    #[tokio::test]
    async fn an_object_that_is_nowhere_is_not_called_there() {
        let [from, to] = places(&Arc::new(InMemory::new()));
        assert!(!copy(&from, &to).await.unwrap());
        let elsewhere = Place { root: "s3://other/".into(), ..to };
        assert!(copy(&from, &elsewhere).await.is_err());
    }
}
