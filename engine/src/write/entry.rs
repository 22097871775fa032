//! What a commit says: the files of a write, the partitions and numbers they bring, and what an OVERWRITE takes away.
//!
//! Numbers (`numRows`, `numFiles`, `totalSize`) are kept for each partition of a partitioned table and for the table of an
//! unpartitioned one, as Hive keeps them. INSERT adds to the numbers that are there: a table whose size nobody knows has
//! an unknown size afterwards, not that of the new rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use object_store::path::Path;
use tereza_catalog::model::{Column, Parameters, Partition, Table, partition_name};
use tereza_catalog::store::{Commit, PartitionFilter, VersionedTable};
use tereza_runtime::{Error, Result};

use super::written::WrittenFile;
use super::{
    Mode, SPARKS_LOCATION, Target, Writing, child_url, files, folder_of_partition, folder_of_table, roll_forward,
};
use crate::jobs::JobStep;

const NUM_ROWS: &str = "numRows";
const NUM_FILES: &str = "numFiles";
const TOTAL_SIZE: &str = "totalSize";
/// Hive's mark that says which statistics hold; writing makes those of columns old.
const STATISTICS_ACCURATE: &str = "COLUMN_STATS_ACCURATE";
const BASIC_STATISTICS: &str = r#"{"BASIC_STATS":"true"}"#;

/// Values of one partition key that are asked for by name; with more of them, all partitions are read.
const FILTER_VALUES_MAX: usize = 500;

/// What a commit says whatever it brings.
pub(super) struct Entry<'a> {
    /// Id of the write.
    pub(super) id: &'a str,
    pub(super) table: &'a Table,
    /// URL of the table's folder, without a slash at its end.
    pub(super) location: &'a str,
    /// The store's own number of the table, if it exists.
    pub(super) expected_table: Option<i64>,
    pub(super) step: Option<JobStep>,
}

impl Writing {
    fn entry(&self) -> Entry<'_> {
        Entry {
            id: self.id(),
            table: self.table(),
            location: &self.output.location,
            expected_table: match &self.target {
                Target::Existing(read) => Some(read.id),
                Target::New(_) => None,
            },
            step: self.step.clone(),
        }
    }
}

/// The commit of a write that made `files`, or `None` if there is nothing to commit.
///
/// For an OVERWRITE, commits that are not rolled forward are finished first, so that what it removes is all there is, and
/// nothing of them appears later; the version that it expects keeps new ones away until its own commit.
pub(super) async fn prepare(writing: &Writing, files: Vec<WrittenFile>) -> Result<Option<Commit>> {
    let table = writing.table();
    let partitioned = !table.partition_keys.is_empty();
    let Target::Existing(read) = &writing.target else {
        return Ok(Some(create(writing, files)));
    };
    let overwrite = writing.mode == Mode::Overwrite;
    if files.is_empty() && (partitioned || !overwrite) {
        return Ok(None);
    }

    let values: BTreeSet<&Vec<String>> = files.iter().filter_map(|file| file.partition.as_ref()).collect();
    let filter = exact_filter(table.partition_keys.len(), &values);
    let snapshot = writing.engine.catalog.snapshot(&table.database, &table.name, &filter).await?;
    let existing: HashMap<Vec<String>, Partition> =
        snapshot.partitions.into_iter().map(|partition| (partition.values.clone(), partition)).collect();
    if !overwrite {
        check_places(writing, &files, &snapshot.table, &existing)?;
        return Ok(Some(append(&writing.entry(), files, &snapshot.table.table.parameters, &existing)));
    }

    if snapshot.table.version != read.version {
        let (database, name) = (&table.database, &table.name);
        return Err(Error::conflict(format!("table {database}.{name} was changed while it was being overwritten"))
            .with_hint("run the statement again"));
    }
    roll_forward::finish_pending(&writing.engine, &snapshot.pending).await?;
    let mut folders = BTreeSet::new();
    if partitioned {
        for values in values {
            folders.insert(child_url(&writing.output.location, &partition_name(&table.partition_keys, values)));
            let elsewhere = existing.get(values).and_then(|partition| folder_of_partition(&partition.storage));
            folders.extend(elsewhere.map(str::to_owned));
        }
    } else {
        folders.insert(writing.output.location.clone());
    }
    let mut remove_files = BTreeSet::new();
    for folder in &folders {
        remove_files.extend(visible_files(writing, folder).await?);
    }
    Ok(Some(replace(writing, files, &existing, read.version, remove_files.into_iter().collect())))
}

/// Refuses an INSERT whose files are where the table's readers do not look any more: its rows would be lost.
fn check_places(
    writing: &Writing,
    files: &[WrittenFile],
    now: &VersionedTable,
    existing: &HashMap<Vec<String>, Partition>,
) -> Result<()> {
    let (database, name) = (&now.table.database, &now.table.name);
    let changed = |what: &str| {
        Err(Error::conflict(format!("table {database}.{name} {what} while rows were written to it"))
            .with_hint("run the statement again"))
    };
    if matches!(&writing.target, Target::Existing(read) if read.id != now.id) {
        return changed("was dropped and made again");
    }
    if folder_of_table(&now.table) != Some(writing.output.location.as_str()) {
        return changed("got another location");
    }
    match files.iter().all(|file| is_in_place(file, &writing.output.location, &now.table.partition_keys, existing)) {
        true => Ok(()),
        false => changed("got another location for a partition"),
    }
}

/// Whether a file is in the folder that its partition has, or will have if the commit makes it.
fn is_in_place(
    file: &WrittenFile,
    table_location: &str,
    keys: &[Column],
    existing: &HashMap<Vec<String>, Partition>,
) -> bool {
    let folder = match &file.partition {
        None => table_location.to_owned(),
        Some(values) => match existing.get(values).and_then(|partition| folder_of_partition(&partition.storage)) {
            Some(folder) => folder.to_owned(),
            None => child_url(table_location, &partition_name(keys, values)),
        },
    };
    file.file.target.rsplit_once('/').is_some_and(|(parent, _)| parent == folder)
}

/// URLs of the files in a folder that readers see. Sub-folders are not part of a table, nor are hidden files.
async fn visible_files(writing: &Writing, folder: &str) -> Result<Vec<String>> {
    let place = writing.engine.stores.place(folder)?;
    let listed = place.store.list_with_delimiter(Some(&place.path)).await;
    let listed = listed.map_err(|error| files::store_error(error, folder))?;
    let paths = listed.objects.into_iter().map(|object| object.location).filter(|path| *path != place.path);
    Ok(paths.filter(is_visible).map(|path| place.url_of(&path)).collect())
}

/// Whether other engines take a file for data, by its name.
pub(super) fn is_visible(path: &Path) -> bool {
    path.filename().is_some_and(|name| !name.starts_with(['_', '.']))
}

fn create(writing: &Writing, files: Vec<WrittenFile>) -> Commit {
    let mut table = writing.table().clone();
    let numbers = Numbers::by_partition(&files);
    let mut commit = skeleton(&writing.entry(), files);
    if table.partition_keys.is_empty() {
        table.parameters.extend(numbers.get(&None).copied().unwrap_or_default().parameters());
    }
    commit.add_partitions = new_partitions(&writing.entry(), &numbers, &HashMap::new(), |numbers| numbers.parameters());
    commit.create_table = Some(table);
    commit
}

/// The commit that adds files to a table with these parameters and, of those that get files, these partitions.
pub(super) fn append(
    entry: &Entry<'_>,
    files: Vec<WrittenFile>,
    table_parameters: &Parameters,
    existing: &HashMap<Vec<String>, Partition>,
) -> Commit {
    let numbers = Numbers::by_partition(&files);
    let mut commit = skeleton(entry, files);
    // Partitions begin at nothing and are added to: another statement may have made the same one just before.
    let zero = Numbers::default().parameters();
    commit.add_partitions = new_partitions(entry, &numbers, existing, |_| zero.clone());
    for (values, numbers) in numbers {
        let Some(values) = values else {
            commit.table_increments = numbers.increments(table_parameters);
            commit.table_parameters.extend(without_column_statistics(table_parameters));
            continue;
        };
        let known = existing.get(&values).map_or(&zero, |partition| &partition.parameters);
        let aged: Parameters = without_column_statistics(known).into_iter().collect();
        if !aged.is_empty() {
            commit.partition_parameters.push((values.clone(), aged));
        }
        commit.partition_increments.push((values, numbers.increments(known)));
    }
    commit
}

fn replace(
    writing: &Writing,
    files: Vec<WrittenFile>,
    existing: &HashMap<Vec<String>, Partition>,
    version: i64,
    remove_files: Vec<String>,
) -> Commit {
    let numbers = Numbers::by_partition(&files);
    let mut commit = skeleton(&writing.entry(), files);
    commit.expected_version = Some(version);
    commit.remove_files = remove_files;
    commit.add_partitions = new_partitions(&writing.entry(), &numbers, existing, |numbers| numbers.parameters());
    if writing.table().partition_keys.is_empty() {
        commit.table_parameters = numbers.get(&None).copied().unwrap_or_default().parameters();
    }
    for (values, numbers) in &numbers {
        if let Some(values) = values
            && existing.contains_key(values)
        {
            commit.partition_parameters.push((values.clone(), numbers.parameters()));
        }
    }
    commit
}

fn skeleton(entry: &Entry<'_>, files: Vec<WrittenFile>) -> Commit {
    Commit {
        expected_table: entry.expected_table,
        add_files: files.into_iter().map(|file| file.file).collect(),
        step: entry.step.clone(),
        ..Commit::bare(entry.id.to_owned(), &entry.table.database, &entry.table.name)
    }
}

/// All partitions that get rows. Those that exist are named too, as they are: a statement that drops one just now must
/// not leave the new rows without it.
fn new_partitions(
    entry: &Entry<'_>,
    numbers: &BTreeMap<Option<Vec<String>>, Numbers>,
    existing: &HashMap<Vec<String>, Partition>,
    parameters: impl Fn(&Numbers) -> Parameters,
) -> Vec<Partition> {
    let partitions = numbers.iter().filter_map(|(values, numbers)| Some((values.as_ref()?, numbers)));
    partitions
        .map(|(values, numbers)| match existing.get(values) {
            Some(partition) => partition.clone(),
            None => new_partition(entry.table, entry.location, values.clone(), parameters(numbers)),
        })
        .collect()
}

fn new_partition(table: &Table, table_location: &str, values: Vec<String>, parameters: Parameters) -> Partition {
    let mut storage = table.storage.clone();
    storage.serde.parameters.remove(SPARKS_LOCATION);
    storage.location = Some(child_url(table_location, &partition_name(&table.partition_keys, &values)));
    Partition { values, create_time_s: 0, last_access_time_s: 0, storage, parameters }
}

/// Takes away from a commit the partitions that do not exist yet, with what it says of them: their files come into their folders,
/// and no reader looks there.
pub(super) fn leave_out_new(commit: &mut Commit, existing: &HashMap<Vec<String>, Partition>) {
    commit.add_partitions.retain(|partition| existing.contains_key(&partition.values));
    commit.partition_parameters.retain(|(values, _)| existing.contains_key(values));
    commit.partition_increments.retain(|(values, _)| existing.contains_key(values));
}

/// The commit that adds a partition with the files that are in its folder already. How many rows they have is not known.
pub(super) fn add(entry: &Entry<'_>, values: Vec<String>, files: u64, bytes: u64) -> Commit {
    let numbers = [(NUM_FILES, files), (TOTAL_SIZE, bytes)];
    let numbers = numbers.into_iter().map(|(key, number)| (key.to_owned(), number.to_string()));
    let mut commit = skeleton(entry, Vec::new());
    commit.add_partitions = vec![new_partition(entry.table, entry.location, values, numbers.collect())];
    commit
}

/// A filter that lets through the partitions with these values, and perhaps more.
pub(super) fn exact_filter(keys: usize, values: &BTreeSet<&Vec<String>>) -> PartitionFilter {
    let of_key = |at: usize| {
        let distinct: BTreeSet<&String> = values.iter().filter_map(|values| values.get(at)).collect();
        (distinct.len() <= FILTER_VALUES_MAX).then(|| distinct.into_iter().cloned().collect())
    };
    PartitionFilter { values: (0..keys).map(of_key).collect() }
}

/// If Hive's mark claims that column statistics hold, the mark without that claim.
fn without_column_statistics(parameters: &Parameters) -> Option<(String, String)> {
    let mark = parameters.get(STATISTICS_ACCURATE).filter(|mark| mark.contains("COLUMN_STATS"))?;
    let rest = if mark.contains("BASIC_STATS") { BASIC_STATISTICS } else { "{}" };
    Some((STATISTICS_ACCURATE.to_owned(), rest.to_owned()))
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Numbers {
    rows: u64,
    files: u64,
    bytes: u64,
}

impl Numbers {
    fn by_partition(files: &[WrittenFile]) -> BTreeMap<Option<Vec<String>>, Self> {
        let mut numbers: BTreeMap<Option<Vec<String>>, Self> = BTreeMap::new();
        for file in files {
            let of_partition = numbers.entry(file.partition.clone()).or_default();
            of_partition.rows += file.rows;
            of_partition.files += 1;
            of_partition.bytes += file.bytes;
        }
        numbers
    }

    fn named(self) -> [(&'static str, u64); 3] {
        [(NUM_ROWS, self.rows), (NUM_FILES, self.files), (TOTAL_SIZE, self.bytes)]
    }

    /// Parameters that state these numbers, of rows of which all else is unknown.
    fn parameters(self) -> Parameters {
        let mut parameters: Parameters =
            self.named().into_iter().map(|(key, number)| (key.to_owned(), number.to_string())).collect();
        parameters.insert(STATISTICS_ACCURATE.to_owned(), BASIC_STATISTICS.to_owned());
        parameters
    }

    /// What to add to those numbers that `known` holds.
    fn increments(self, known: &Parameters) -> Vec<(String, i64)> {
        let known = self.named().into_iter().filter(|(key, _)| known.contains_key(*key));
        known.map(|(key, number)| (key.to_owned(), i64::try_from(number).unwrap_or(i64::MAX))).collect()
    }
}

#[cfg(test)]
mod tests {
    use tereza_catalog::model::Column;
    use tereza_catalog::store::StagedFile;

    use super::*;

    fn file(partition: Option<&[&str]>, rows: u64) -> WrittenFile {
        let staged = "file:///t/_tereza/w/f".into();
        let partition = partition.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
        WrittenFile { file: StagedFile { target: "file:///t/f".into(), staged }, rows, bytes: 10 * rows, partition }
    }

    #[test]
    fn numbers_are_those_of_each_partition() {
        let files = [file(Some(&["a"]), 1), file(Some(&["b"]), 2), file(Some(&["a"]), 3)];
        let numbers = Numbers::by_partition(&files);
        assert_eq!(numbers[&Some(vec!["a".into()])], Numbers { rows: 4, files: 2, bytes: 40 });
        assert_eq!(numbers[&Some(vec!["b".into()])], Numbers { rows: 2, files: 1, bytes: 20 });
        assert_eq!(Numbers::by_partition(&[file(None, 5)])[&None].rows, 5);
    }

    #[test]
    fn unknown_numbers_stay_unknown() {
        let known = Parameters::from([(NUM_ROWS.into(), "7".into())]);
        let numbers = Numbers { rows: 1, files: 1, bytes: 9 };
        assert_eq!(numbers.increments(&known), [(NUM_ROWS.to_owned(), 1)]);
        assert!(numbers.increments(&Parameters::new()).is_empty());
        assert_eq!(numbers.parameters()[TOTAL_SIZE], "9");
    }

    #[test]
    fn column_statistics_grow_old() {
        let mark = |text: &str| Parameters::from([(STATISTICS_ACCURATE.into(), text.into())]);
        let of = |text: &str| without_column_statistics(&mark(text)).map(|(_, value)| value);
        assert_eq!(of(r#"{"BASIC_STATS":"true","COLUMN_STATS":{"a":"true"}}"#).as_deref(), Some(BASIC_STATISTICS));
        assert_eq!(of(r#"{"COLUMN_STATS":{"a":"true"}}"#).as_deref(), Some("{}"));
        assert_eq!(of(BASIC_STATISTICS), None);
        assert_eq!(without_column_statistics(&Parameters::new()), None);
    }

    #[test]
    fn partitions_are_found_by_their_exact_values_unless_there_are_too_many() {
        let values: Vec<Vec<String>> =
            (0..=FILTER_VALUES_MAX).map(|n| vec![n.to_string(), (n % 2).to_string()]).collect();
        let filter = exact_filter(2, &values.iter().collect());
        assert_eq!(filter.values, [None, Some(vec!["0".into(), "1".into()])]);
        assert_eq!(exact_filter(0, &BTreeSet::new()), PartitionFilter::default());
    }

    #[test]
    fn a_new_partition_lies_below_the_table_under_hives_name() {
        let key = |name: &str| Column { name: name.into(), type_name: "string".into(), comment: None };
        let table = Table {
            database: "d".into(),
            name: "t".into(),
            kind: tereza_catalog::model::TableKind::Managed,
            owner: None,
            create_time_s: 0,
            last_access_time_s: 0,
            retention: 0,
            storage: Default::default(),
            partition_keys: vec![key("ds"), key("k")],
            parameters: Parameters::new(),
            view_original_text: None,
            view_expanded_text: None,
            owner_kind: Default::default(),
        };
        let values = vec!["a/b".to_owned(), tereza_catalog::model::DEFAULT_PARTITION.to_owned()];
        let partition = new_partition(&table, "s3://b/t/", values, Parameters::new());
        let location = partition.storage.location.unwrap();
        assert_eq!(location, "s3://b/t/ds=a%2Fb/k=__HIVE_DEFAULT_PARTITION__");
    }

    #[test]
    fn rows_are_where_their_partition_is() {
        let keys = [Column { name: "k".into(), type_name: "string".into(), comment: None }];
        let placed = |target: &str, partition: Option<&[&str]>| {
            let mut written = file(partition, 1);
            written.file.target = target.into();
            written
        };
        let mut moved = Partition {
            values: vec!["a".into()],
            create_time_s: 0,
            last_access_time_s: 0,
            storage: Default::default(),
            parameters: Parameters::new(),
        };
        moved.storage.location = Some("file:///elsewhere/a/".into());
        let existing = HashMap::from([(moved.values.clone(), moved)]);
        let is_in_place = |file: &WrittenFile| is_in_place(file, "file:///t", &keys, &existing);
        assert!(is_in_place(&placed("file:///t/f", None)));
        assert!(is_in_place(&placed("file:///t/k=b/f", Some(&["b"]))));
        assert!(is_in_place(&placed("file:///elsewhere/a/f", Some(&["a"]))));
        assert!(!is_in_place(&placed("file:///t/k=a/f", Some(&["a"]))), "the partition was given another folder");
        assert!(!is_in_place(&placed("file:///elsewhere/b/f", Some(&["b"]))), "the partition there was dropped");
    }

    #[test]
    fn hidden_files_are_not_the_tables() {
        let is_visible = |path: &str| is_visible(&Path::parse(path).unwrap());
        assert!(is_visible("t/part-0.parquet") && is_visible("_t/part_0"));
        assert!(!is_visible("t/_SUCCESS") && !is_visible("t/.part-0.crc") && !is_visible(""));
    }
}
