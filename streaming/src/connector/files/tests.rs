use std::path::{Path as FilePath, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tereza_engine::flink::{FlinkStatement, parse};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;

use super::*;
use crate::host::System;
use crate::objects::Objects;

/// Long after all files were written.
const NOW_MS: i64 = 9_000_000_000_000;

fn table(sql: &str) -> Result<FilesTable> {
    let FlinkStatement::CreateTable(create) = parse(sql)? else { panic!("{sql}") };
    let fields = create.table.columns.iter().filter_map(|column| {
        let of = column.data_type()?.to_arrow().unwrap();
        Some(Field::new(&column.name, of, true))
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let store_of = |location: &str| -> Result<(Arc<dyn ObjectStore>, String)> {
        let path = location.strip_prefix("file://").unwrap_or(location).trim_matches('/').to_owned();
        Ok((Arc::new(LocalFileSystem::new()), path))
    };
    FilesTable::new("tereza.default.t", &create.table, &schema, store_of)
}

/// A folder of files, and what is kept of it.
struct Folder {
    dir: TempDir,
    objects: Objects,
}

impl Folder {
    fn new() -> Self {
        let objects = Objects::new(Arc::new(InMemory::new()), Arc::new(System(Clock::fixed(0))));
        Self { dir: tempfile::tempdir().unwrap(), objects }
    }

    fn path(&self) -> &FilePath {
        self.dir.path()
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn table(&self, columns: &str, options: &str) -> FilesTable {
        let path = self.path().to_str().unwrap();
        let (columns, partitioned) = columns.split_once('|').unwrap_or((columns, ""));
        let sql = format!(
            "CREATE TABLE t ({columns}) {partitioned} WITH ('connector' = 'filesystem', 'path' = '{path}', {options})"
        );
        table(&sql).unwrap()
    }

    fn files(&self, table: FilesTable) -> Files {
        Files::new(table, Found::kept(self.objects.clone(), "jobs/1/files/t".to_owned())).unwrap()
    }
}

/// The batches up to the end or up to where there is nothing new, with the positions behind them; whether it is the end.
async fn read(files: &mut Files, now_ms: i64) -> (Vec<(arrow::array::RecordBatch, i64)>, bool) {
    let mut batches = Vec::new();
    loop {
        match files.poll(now_ms).await.unwrap() {
            Read::Rows { records, position } => batches.push((records, position)),
            Read::Idle => return (batches, false),
            Read::End { .. } => return (batches, true),
        }
    }
}

fn texts(batches: &[(arrow::array::RecordBatch, i64)], column: usize) -> Vec<String> {
    let of = |batch: &arrow::array::RecordBatch| {
        let texts = arrow::compute::cast(batch.column(column), &arrow::datatypes::DataType::Utf8).unwrap();
        texts.as_string::<i32>().iter().map(|text| text.unwrap_or("NULL").to_owned()).collect::<Vec<_>>()
    };
    batches.iter().flat_map(|(batch, _)| of(batch)).collect()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[tokio::test]
async fn all_files_are_read_but_hidden_ones() {
    let folder = Folder::new();
    folder.put("a.csv", "\u{feff}1,\"x\ny\"\r\n\n2,z");
    folder.put("deep/er/b.csv", "3,w\n");
    folder.put("empty.csv", "");
    for hidden in [".c.csv", "_d.csv", "deep/_temporary/e.csv", ".staging/f.csv"] {
        folder.put(hidden, "no row of a table\n");
    }
    let table = folder.table(
        "n BIGINT, s STRING, p STRING METADATA FROM 'file.path', `file.name` STRING METADATA, \
         bytes_all BIGINT METADATA FROM 'file.size', written TIMESTAMP_LTZ(3) METADATA FROM 'file.modification-time'",
        "'format' = 'csv', 'csv.ignore-parse-errors' = 'false'",
    );
    let (batches, is_end) = read(&mut folder.files(table), NOW_MS).await;
    assert!(is_end);
    assert_eq!(sorted(texts(&batches, 0)), ["1", "2", "3"]);
    assert_eq!(sorted(texts(&batches, 1)), ["w", "x\ny", "z"]);
    let path = format!("file:{}/deep/er/b.csv", folder.path().to_str().unwrap());
    assert!(texts(&batches, 2).contains(&path), "{path}: {:?}", texts(&batches, 2));
    assert_eq!(sorted(texts(&batches, 3)), ["a.csv", "a.csv", "b.csv"]);
    assert_eq!(sorted(texts(&batches, 4)), ["16", "16", "4"]);
    let times = arrow::compute::cast(batches[0].0.column(5), &arrow::datatypes::DataType::Int64).unwrap();
    assert!(times.as_primitive::<Int64Type>().value(0) > 1_700_000_000_000);
}

#[tokio::test]
async fn a_reader_goes_on_where_another_was() {
    let folder = Folder::new();
    for file in 0..3 {
        let lines: String = (0..30_000).map(|line| format!("{{\"n\": {}}}\n", file * 30_000 + line)).collect();
        folder.put(&format!("{file}.json"), &lines);
    }
    let table = folder.table("n BIGINT", "'format' = 'json'");
    let (all, _) = read(&mut folder.files(table.clone()), NOW_MS).await;
    assert!(all.len() >= 6, "{} batches", all.len());
    let rows = texts(&all, 0);
    assert_eq!(rows.iter().collect::<std::collections::HashSet<_>>().len(), 90_000);
    // What comes after the first look is of no job that ends.
    folder.put("later.json", "{\"n\": -1}\n");
    let mut before = 0;
    for (batch, position) in &all {
        before += batch.num_rows();
        let mut files = folder.files(table.clone());
        files.begin(*position);
        let (rest, is_end) = read(&mut files, NOW_MS).await;
        assert!(is_end);
        assert_eq!(texts(&rest, 0), rows[before..], "from {position}");
    }
    let (now, _) = read(&mut Files::new(table, Found::forgotten()).unwrap(), NOW_MS).await;
    assert_eq!(texts(&now, 0).len(), 90_001);
}

#[tokio::test]
async fn new_files_are_found_once_and_numbered_alike_by_all() {
    let folder = Folder::new();
    let table = folder.table("line STRING", "'format' = 'raw', 'source.monitor-interval' = '1 s'");
    let (mut one, mut other) = (folder.files(table.clone()), folder.files(table.clone()));
    assert_eq!(read(&mut one, NOW_MS).await.0.len(), 0);
    folder.put("b.txt", "b\n");
    assert_eq!(read(&mut one, NOW_MS + 999).await.0.len(), 0, "it is not time to look");
    assert_eq!(texts(&read(&mut one, NOW_MS + 1_000).await.0, 0), ["b"]);
    folder.put("a.txt", "a\n\n");
    // One that looks by itself takes what the first one has found, and finds the rest.
    assert_eq!(texts(&read(&mut other, NOW_MS).await.0, 0), ["b", "a", ""]);
    let (rows, is_end) = read(&mut one, NOW_MS + 2_000).await;
    assert_eq!((texts(&rows, 0), is_end), (vec!["a".to_owned(), String::new()], false));
    let mut next = folder.files(table);
    next.begin(rows[0].1);
    assert_eq!(read(&mut next, NOW_MS).await.0.len(), 0);
    folder.put("c.txt", "c\n");
    assert_eq!(texts(&read(&mut next, NOW_MS + 1_000).await.0, 0), ["c"]);
}

#[tokio::test]
async fn a_file_that_may_still_be_written_waits() {
    let folder = Folder::new();
    let path = folder.put("a.txt", "a\n");
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    let written_ms = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let written_ms = i64::try_from(written_ms).unwrap();
    let mut files = folder.files(folder.table("line STRING", "'format' = 'raw', 'source.monitor-interval' = '10 ms'"));
    assert_eq!(read(&mut files, written_ms + 500).await.0.len(), 0);
    assert_eq!(texts(&read(&mut files, written_ms + 1_500).await.0, 0), ["a"]);
}

#[tokio::test]
async fn folders_say_values_of_partitions_and_a_pattern_chooses_files() {
    let folder = Folder::new();
    folder.put("day=2026-01-02/kind=a%3Ab/x.csv", "1\n");
    folder.put("day=__NONE__/kind=c/y.csv", "2\n");
    folder.put("day=2026-01-03/kind=c/z.txt", "3\n");
    let table = folder.table(
        "kind STRING, n BIGINT, day DATE|PARTITIONED BY (day, kind)",
        "'format' = 'csv', 'partition.default-name' = '__NONE__', 'source.path.regex-pattern' = '/.*/.*\\.csv'",
    );
    let (batches, _) = read(&mut folder.files(table), NOW_MS).await;
    let columns = [0, 1, 2].map(|column| texts(&batches, column));
    let mut rows: Vec<_> = (0..columns[0].len()).map(|row| [0, 1, 2].map(|at| columns[at][row].clone())).collect();
    rows.sort();
    assert_eq!(rows, [["a:b", "1", "2026-01-02"], ["c", "2", "NULL"]]);

    let folder = Folder::new();
    folder.put("x.csv", "1\n");
    let table = folder.table("n BIGINT, day DATE|PARTITIONED BY (day)", "'format' = 'csv'");
    let error = folder.files(table).poll(NOW_MS).await.unwrap_err();
    assert!(error.to_string().contains("in no folder 'day=…'"), "{error}");
    folder.put("day=soon/x.csv", "1\n");
    std::fs::remove_file(folder.path().join("x.csv")).unwrap();
    let table = folder.table("n BIGINT, day DATE|PARTITIONED BY (day)", "'format' = 'csv'");
    let error = Files::new(table, Found::forgotten()).unwrap().poll(NOW_MS).await.unwrap_err();
    assert!(error.to_string().contains("'soon' is no"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_read_is_named_with_its_place() {
    let failed = async |name: &str, text: &str, options: &str| {
        let folder = Folder::new();
        folder.put(name, text);
        let error = folder.files(folder.table("n BIGINT", options)).poll(NOW_MS).await.unwrap_err();
        (error.kind(), error.to_string())
    };
    let (kind, error) = failed("a.json", "{\"n\": 1}\n{\"n\": }\n", "'format' = 'json'").await;
    assert_eq!(kind, ErrorKind::InvalidInput, "{error}");
    assert!(error.contains("a.json, byte 9: ") && error.contains("tereza.default.t"), "{error}");
    let (kind, error) = failed("a.csv.gz", "1\n", "'format' = 'csv'").await;
    assert_eq!(kind, ErrorKind::Unsupported, "{error}");
    assert!(error.contains("*.gz"), "{error}");

    let folder = Folder::new();
    folder.put("a.json", "{\"n\": 1}\n{\"n\": }\n{\"n\": 3}");
    let table = folder.table("n BIGINT", "'format' = 'json', 'json.ignore-parse-errors' = 'true'");
    assert_eq!(texts(&read(&mut folder.files(table), NOW_MS).await.0, 0), ["1", "3"]);

    // A file that is another one by now.
    let folder = Folder::new();
    let path = folder.put("a.csv", "1\n2\n");
    let table = folder.table("n BIGINT", "'format' = 'csv'");
    read(&mut folder.files(table.clone()), NOW_MS).await;
    folder.put("a.csv", "1\n2\n3\n");
    let error = folder.files(table.clone()).poll(NOW_MS).await.unwrap_err();
    assert!(error.to_string().contains("it had 4 bytes and has 6"), "{error}");
    folder.put("a.csv", "");
    let error = folder.files(table.clone()).poll(NOW_MS).await.unwrap_err();
    assert!(error.to_string().contains("it had 4 bytes and has 0"), "{error}");
    std::fs::remove_file(path).unwrap();
    let error = folder.files(table).poll(NOW_MS).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let gone = folder.path().to_str().unwrap().to_owned();
    drop(folder);
    let table = table_at(&gone);
    let error = Files::new(table, Found::forgotten()).unwrap().poll(NOW_MS).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

fn table_at(path: &str) -> FilesTable {
    table(&format!("CREATE TABLE t (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv')"))
        .unwrap()
}

#[tokio::test]
async fn a_path_may_be_a_file() {
    let folder = Folder::new();
    let path = folder.put("_a.csv", "1\n2\n");
    folder.put("b.csv", "3\n");
    let table = table_at(&format!("file://{}", path.to_str().unwrap()));
    assert_eq!(texts(&read(&mut folder.files(table), NOW_MS).await.0, 0), ["1", "2"]);
}

#[test]
fn wrong_options_are_named() {
    for (columns, options, kind, part) in [
        ("n INT", "'format' = 'csv'", ErrorKind::InvalidInput, "option 'path'"),
        ("n INT", "'path' = '/x'", ErrorKind::InvalidInput, "option 'format'"),
        ("n INT", "'path' = '/x', 'format' = 'orc'", ErrorKind::Unsupported, "format 'orc'"),
        ("n INT", "'path' = '/x', 'format' = 'cvs'", ErrorKind::Unsupported, "there are csv, json, raw"),
        ("n INT", "'path' = '/x', 'format' = 'csv', 'pth' = '/y'", ErrorKind::InvalidInput, "did you mean 'path'?"),
        ("n INT", "'path' = '/x', 'format' = 'csv', 'csv.nope' = '1'", ErrorKind::InvalidInput, "csv.nope"),
        ("n INT", "'path' = '/x', 'format' = 'csv', 'json.nope' = '1'", ErrorKind::InvalidInput, "json.nope"),
        (
            "n INT",
            "'path' = '/x', 'format' = 'csv', 'source.monitor-interval' = 'now'",
            ErrorKind::InvalidInput,
            "a duration",
        ),
        (
            "n INT",
            "'path' = '/x', 'format' = 'csv', 'source.monitor-interval' = '0'",
            ErrorKind::InvalidInput,
            "more than 0",
        ),
        (
            "n INT",
            "'path' = '/x', 'format' = 'csv', 'source.path.regex-pattern' = '('",
            ErrorKind::InvalidInput,
            "regular",
        ),
        ("n INT, m INT METADATA", "'path' = '/x', 'format' = 'csv'", ErrorKind::InvalidInput, "no metadata 'm'"),
        ("n STRING", "'path' = '/x', 'format' = 'raw', 'raw.charset' = 'UTF-16LE'", ErrorKind::Unsupported, "UTF-16"),
    ] {
        let sql = format!("CREATE TABLE t ({columns}) WITH ('connector' = 'filesystem', {options})");
        let error = table(&sql).unwrap_err();
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(part), "{part}: {text}");
    }
    let sink = "'path' = '/x', 'format' = 'csv', 'sink.rolling-policy.file-size' = '1 mb', 'auto-compaction' = 'true'";
    table(&format!("CREATE TABLE t (n INT) WITH ('connector' = 'filesystem', {sink})")).unwrap();
}
