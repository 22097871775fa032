//! Files of a stream in a folder of this machine that no catalog knows.

use std::fs;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use tempfile::TempDir;
use tereza_runtime::{ErrorKind, Settings};

use super::super::super::lines::LineEncoder;
use super::*;

const KEY: &str = "tereza.7d1c.0";

/// Lines with the texts of the first column.
#[derive(Debug)]
struct Numbers;

impl LineFormat for Numbers {
    fn extension(&self) -> &'static str {
        "txt"
    }

    fn encoder(&self) -> Result<Box<dyn LineEncoder>> {
        Ok(Box::new(Self))
    }
}

impl LineEncoder for Numbers {
    fn encode(&mut self, rows: &RecordBatch, lines: &mut Vec<u8>) -> Result<()> {
        let numbers = rows.column(0).as_any().downcast_ref::<Int64Array>().expect("numbers");
        numbers.iter().for_each(|number| lines.extend(format!("{}\n", number.unwrap_or_default()).bytes()));
        Ok(())
    }
}

struct Fixture {
    engine: Arc<Engine>,
    folder: TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { engine: Engine::open(&Settings::in_folder(folder.path()).unwrap()).await.unwrap(), folder }
    }

    fn open(&self, name: &str, lines: Option<Arc<dyn LineFormat>>, options: &[(&str, &str)]) -> Result<StagingFolder> {
        let columns =
            Schema::new(vec![Field::new("day", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]);
        let folder = Folder {
            name: name.to_owned(),
            location: self.folder.path().join("out").to_str().unwrap().to_owned(),
            columns: Arc::new(columns),
            partition_keys: vec!["day".to_owned()],
            lines,
            null_partition: "__NONE__".to_owned(),
            options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        StagingFolder::open(&self.engine, folder)
    }

    fn lines(&self) -> StagingFolder {
        self.open("tereza.default.t", Some(Arc::new(Numbers)), &[]).unwrap()
    }

    /// What readers see: all that is in no file or folder whose name begins with `_` or `.`.
    fn seen(&self) -> Vec<(String, String)> {
        let mut seen = Vec::new();
        let mut folders = vec![self.folder.path().join("out")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                match path.file_name().unwrap().to_str().unwrap() {
                    name if name.starts_with(['_', '.']) => {}
                    _ if path.is_dir() => folders.push(path),
                    _ => {
                        let place = path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
                        seen.push((place, fs::read_to_string(&path).unwrap()));
                    }
                }
            }
        }
        seen.sort();
        seen
    }
}

/// Rows in the order of the folder's own columns.
fn rows(days: &[Option<&str>], numbers: &[i64]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] =
        [("n", Arc::new(Int64Array::from(numbers.to_vec()))), ("day", Arc::new(StringArray::from(days.to_vec())))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

async fn written(folder: &StagingFolder, name: &str, days: &[Option<&str>], numbers: &[i64]) -> Vec<CompleteFile> {
    let mut writer = folder.begin(name).unwrap();
    writer.write(&rows(days, numbers)).await.unwrap();
    writer.finish().await.unwrap()
}

fn texts(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(place, text)| ((*place).to_owned(), (*text).to_owned())).collect()
}

#[tokio::test]
async fn files_come_with_their_commit_and_once_whoever_repeats_it() {
    let fixture = Fixture::new().await;
    let folder = fixture.lines();
    assert_eq!(folder.places(), [1, 0]);
    let before = folder.load(KEY).await.unwrap();
    assert_eq!(before.marker, 0);
    let first = written(&folder, "7d1c.0.1", &[Some("a"), None, Some("a")], &[1, 2, 3]).await;
    let second = written(&folder, "7d1c.0.2", &[Some("a/b")], &[4]).await;
    assert!(fixture.seen().is_empty());
    folder.commit(KEY, 3, &first).await.unwrap();
    let expected = [("day=__NONE__", "2\n"), ("day=a", "1\n3\n")];
    assert_eq!(fixture.seen(), texts(&expected));
    // Another process, which was told of no commit, and a late one.
    let other = fixture.lines();
    for file in first.iter().chain(&second) {
        assert!(other.has(file).await.unwrap());
    }
    other.commit(KEY, 4, &[first.clone(), second].concat()).await.unwrap();
    folder.commit(KEY, 3, &first).await.unwrap();
    let expected = [("day=__NONE__", "2\n"), ("day=a", "1\n3\n"), ("day=a%2Fb", "4\n")];
    assert_eq!(fixture.seen(), texts(&expected));
    let now = folder.load(KEY).await.unwrap();
    assert_eq!((now.marker, &now.uuid), (4, &before.uuid));
    // Other tables and tasks of the folder have markers of their own.
    assert_eq!(folder.load("tereza.7d1c.1").await.unwrap().marker, 0);
    let same_folder = fixture.open("tereza.default.u", Some(Arc::new(Numbers)), &[]).unwrap();
    assert_eq!(same_folder.load(KEY).await.unwrap().marker, 0);
    folder.forget("tereza.7d1d.").await.unwrap();
    assert_eq!(folder.load(KEY).await.unwrap().marker, 4);
    folder.forget("tereza.7d1c.").await.unwrap();
    assert_eq!(folder.load(KEY).await.unwrap().marker, 0);
}

#[tokio::test]
async fn what_is_gone_is_missed_and_a_folder_made_anew_is_another() {
    let fixture = Fixture::new().await;
    let folder = fixture.lines();
    let uuid = folder.load(KEY).await.unwrap().uuid;
    let files = written(&folder, "7d1c.0.1", &[Some("a")], &[1]).await;
    folder.commit(KEY, 1, &files).await.unwrap();
    fs::remove_dir_all(fixture.folder.path().join("out")).unwrap();
    assert!(!folder.has(&files[0]).await.unwrap());
    let lost = folder.commit(KEY, 2, &files).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Internal);
    assert!(lost.message().contains("rows are lost"), "{lost}");
    assert_ne!(folder.load(KEY).await.unwrap().uuid, uuid);
    fs::write(fixture.folder.path().join("out/_tereza/uuid"), "").unwrap();
    assert!(folder.load(KEY).await.unwrap_err().message().contains("damaged"));
}

#[tokio::test]
async fn a_complete_partition_says_so_and_no_catalog_can_be_asked_for() {
    let fixture = Fixture::new().await;
    let kind = "sink.partition-commit.policy.kind";
    let folder = fixture.open("tereza.default.t", Some(Arc::new(Numbers)), &[(kind, "success-file")]).unwrap();
    folder.complete(&["a b".to_owned()]).await.unwrap();
    folder.complete(&["a b".to_owned()]).await.unwrap();
    assert!(fixture.folder.path().join("out/day=a b/_SUCCESS").is_file());
    for options in
        [[(kind, "metastore,success-file"), ("x", "")], [(kind, "success-file"), ("auto-compaction", "true")]]
    {
        let refused = fixture.open("tereza.default.t", Some(Arc::new(Numbers)), &options).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    }
}

#[tokio::test]
async fn parquet_has_the_columns_that_are_no_partition_keys() {
    let fixture = Fixture::new().await;
    let folder = fixture.open("tereza.default.t", None, &[]).unwrap();
    let files = written(&folder, "7d1c.0.1", &[Some("a"), Some("a")], &[1, 2]).await;
    folder.commit(KEY, 1, &files).await.unwrap();
    let found = fs::read_dir(fixture.folder.path().join("out/day=a")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(found.extension().unwrap(), "parquet");
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(fs::File::open(found).unwrap());
    let batches: Vec<_> = reader.unwrap().build().unwrap().map(|batch| batch.unwrap()).collect();
    assert_eq!(batches[0].schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["n"]);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}
