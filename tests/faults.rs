//! Writers that die. At every step of the commit, and at random moments, a table shows all of a statement or nothing of
//! it, to Tereza and to a reader that knows nothing of Tereza, and the next start leaves no trace of the dead one.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use tereza_engine::fail_point;
use tereza_runtime::{clock, ids};

use crate::support::{self, Look, Minio, Numbers, Python, numbers};

/// `abort`, as the fail points do it.
const SIGABRT: i32 = 6;
/// Kills of a long INSERT at random moments.
const KILLS: u64 = 8;
/// The rows that statements write, in a table with two columns and a partition key with five values, one with a space.
const ROWS: &str = "SELECT o_orderkey AS k, o_totalprice AS price, o_orderpriority AS priority FROM tpch.tiny.orders";
const HALF: &str = "WHERE o_orderkey % 2 = 0";

#[test]
fn a_write_on_files_that_dies_at_any_step_is_all_or_nothing() {
    if let Some(world) = World::on_files() {
        world.die_at_every_step();
    }
}

#[test]
fn a_write_on_minio_that_dies_at_any_step_is_all_or_nothing() {
    if let Some(world) = World::on_minio() {
        world.die_at_every_step();
    }
}

#[test]
fn a_write_of_large_files_on_minio_that_dies_is_all_or_nothing() {
    if let Some(world) = World::on_minio() {
        world.die_with_large_files();
    }
}

#[test]
fn an_insert_on_files_that_is_killed_at_random_moments_is_all_or_nothing() {
    if let Some(world) = World::on_files() {
        world.kill_at_random();
    }
}

#[test]
fn an_insert_on_minio_that_is_killed_at_random_moments_is_all_or_nothing() {
    if let Some(world) = World::on_minio() {
        world.kill_at_random();
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Insert,
    Create,
    Overwrite,
}

/// One data folder, with its warehouse on files or in a bucket of its own.
struct World {
    data: TempDir,
    bucket: Option<(&'static Minio, String)>,
    python: Python,
}

impl World {
    fn on_files() -> Option<Self> {
        Some(Self { data: tempfile::tempdir().unwrap(), bucket: None, python: support::python()? })
    }

    fn on_minio() -> Option<Self> {
        let (minio, python) = (support::minio()?, support::python()?);
        let bucket = minio.fresh_bucket();
        Some(Self { data: tempfile::tempdir().unwrap(), bucket: Some((minio, bucket)), python })
    }

    fn die_at_every_step(&self) {
        let half = numbers(&self.sql(&[&format!("SELECT count(*), sum(k) FROM ({ROWS} {HALF}) AS h")]));
        let all = numbers(&self.sql(&[&format!("SELECT count(*), sum(k) FROM ({ROWS}) AS h")]));
        assert!(0 < half.0 && half.0 < all.0, "{half:?} of {all:?}");
        let steps = fail_point::BEFORE_COMMIT_POINT.map(|step| (step, false)).into_iter();
        for (step, is_committed) in steps.chain(fail_point::AFTER_COMMIT_POINT.map(|step| (step, true))) {
            for kind in [Kind::Insert, Kind::Create, Kind::Overwrite] {
                let case = format!("{kind:?} dies at {step}");
                let table = format!("{kind:?}_{step}").to_lowercase().replace('-', "_");
                let before = if matches!(kind, Kind::Create) { (0, 0) } else { all };
                if !matches!(kind, Kind::Create) {
                    self.create(&table);
                    self.sql(&[&format!("INSERT INTO {table} {ROWS}")]);
                }
                let (statement, after) = match kind {
                    Kind::Insert => (format!("INSERT INTO {table} {ROWS} {HALF}"), (all.0 + half.0, all.1 + half.1)),
                    Kind::Create => (format!("CREATE TABLE {table} AS {ROWS} {HALF}"), half),
                    Kind::Overwrite => (format!("INSERT OVERWRITE {table} {ROWS} {HALF}"), half),
                };

                let died = self.run(&[&statement], Some(step));
                assert_eq!(died.status.signal(), Some(SIGABRT), "{case}: {died:?}");
                let corpse = self.look(&table, &[]);
                if !is_committed {
                    assert_eq!(corpse.numbers, before, "{case}: visible before the commit");
                }
                if [fail_point::AFTER_LAST_CLOSE, fail_point::AFTER_COMMIT].contains(&step) {
                    assert!(!corpse.staged.is_empty(), "{case}: the files that must go are not found");
                }

                let expected = if is_committed { after } else { before };
                assert_eq!(self.numbers_of(&table), expected, "{case}");
                self.check_nothing_is_left(&case, &table, expected, &corpse.keys);
            }
        }
    }

    /// Files of more than one part are uploads on S3, which only the store knows of.
    fn die_with_large_files(&self) {
        let rows = "SELECT l_orderkey AS k, l_comment FROM tpch.\"sf0.3\".lineitem";
        let all = numbers(&self.sql(&[&format!("SELECT count(*), sum(k) FROM ({rows}) AS l")]));
        let steps = [fail_point::AFTER_BEGIN_UPLOAD, fail_point::MID_FILE, "mid-file:3", fail_point::AFTER_LAST_CLOSE];
        let steps = steps.map(|step| (step, false)).into_iter();
        for (step, is_committed) in
            steps.chain([fail_point::AFTER_COMMIT, fail_point::MID_ROLL_FORWARD].map(|step| (step, true)))
        {
            let case = format!("large files, died at {step}");
            let table = format!("large_{step}").replace(['-', ':'], "_");
            let died = self.run(&[&format!("CREATE TABLE {table} AS {rows}")], Some(step));
            assert_eq!(died.status.signal(), Some(SIGABRT), "{case}: {died:?}");
            let corpse = self.look(&table, &[]);
            if [fail_point::AFTER_BEGIN_UPLOAD, fail_point::MID_FILE].contains(&step) {
                assert!(!corpse.uploads.is_empty(), "{case}: the uploads that must go are not found");
            }
            let expected = if is_committed { all } else { (0, 0) };
            assert_eq!(self.numbers_of(&table), expected, "{case}");
            self.check_nothing_is_left(&case, &table, expected, &corpse.keys);
        }
    }

    fn kill_at_random(&self) {
        let seed = std::env::var("TEREZA_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| ids::jitter(u64::MAX));
        eprintln!("TEREZA_TEST_SEED={seed}");
        self.create("killed");
        let insert = format!("INSERT INTO killed {}", ROWS.replace("tiny", "sf1"));
        let began = clock::now();
        self.sql(&[&insert]);
        let whole = began.elapsed();
        let one = self.numbers_of("killed");
        assert!(one.0 > 0);

        let mut expected = one;
        for round in 0..KILLS {
            // Every other time near the end, where the commit is.
            let part = fraction(seed, round);
            let delay = whole.mul_f64(if round % 2 == 0 { part } else { 0.75 + part * 0.35 });
            let case = format!("seed {seed}, round {round}, killed after {delay:?} of {whole:?}");
            let has_ended = self.run_for(&insert, delay);
            let corpse = self.look("killed", &[]);
            let now = self.numbers_of("killed");
            let with_it = (expected.0 + one.0, expected.1 + one.1);
            assert!(now == with_it || (now == expected && !has_ended), "{case}: {now:?} after {expected:?}");
            expected = now;
            self.check_nothing_is_left(&case, "killed", expected, &corpse.keys);
        }
    }

    /// After Tereza has opened the data once more: another reader sees the same rows, and no trace is left.
    fn check_nothing_is_left(&self, case: &str, table: &str, expected: Numbers, keys: &[String]) {
        let look = self.look(table, keys);
        assert_eq!(look.numbers, expected, "{case}: another reader sees other rows");
        assert!(look.strays.is_empty(), "{case}: {:?}", look.strays);
        assert!(look.staged.is_empty(), "{case}: {:?}", look.staged);
        assert!(look.uploads.is_empty(), "{case}: {:?}", look.uploads);
        assert_eq!(look.writes, 0, "{case}: writes in the catalog");
    }

    fn create(&self, table: &str) {
        self.sql(&[&format!("CREATE TABLE {table} (k BIGINT, price DOUBLE) PARTITIONED BY (priority STRING)")]);
    }

    /// The numbers of a table in Tereza's eyes; nothing for one that does not exist.
    fn numbers_of(&self, table: &str) -> Numbers {
        let exists = format!("SELECT count(*), 0 FROM information_schema.tables WHERE table_name = '{table}'");
        if numbers(&self.sql(&[&exists])).0 == 0 {
            return (0, 0);
        }
        numbers(&self.sql(&[&format!("SELECT count(*), coalesce(sum(k), 0) FROM {table}")]))
    }

    /// Runs statements that must succeed and returns what they print.
    fn sql(&self, statements: &[&str]) -> String {
        let output = self.run(statements, None);
        assert!(output.status.success(), "{statements:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn run(&self, statements: &[&str], fail_point: Option<&str>) -> Output {
        let mut command = self.command(statements);
        if let Some(name) = fail_point {
            command.env(fail_point::VARIABLE, name);
        }
        command.output().unwrap()
    }

    /// Runs a statement and kills its process after `delay`. Returns whether it had succeeded before.
    fn run_for(&self, statement: &str, delay: Duration) -> bool {
        let mut child = self.command(&[statement]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (ended, at_end) = mpsc::sync_channel(1);
        let reader = std::thread::spawn(move || {
            let _ = stdout.read_to_end(&mut Vec::new());
            let _ = ended.send(());
        });
        // The end of its output is the end of the process, whichever comes first.
        let _ = at_end.recv_timeout(delay);
        child.kill().unwrap();
        let status = child.wait().unwrap();
        reader.join().unwrap();
        status.success()
    }

    fn command(&self, statements: &[&str]) -> Command {
        let mut command = support::tereza();
        command.arg("sql").arg("--data").arg(self.data.path()).args(["--format", "csv"]);
        for statement in statements {
            command.args(["-c", statement]);
        }
        if let Some((minio, bucket)) = &self.bucket {
            command.args(minio.arguments()).args(["--set", &format!("warehouse.url=s3://{bucket}/warehouse")]);
        }
        command
    }

    fn look(&self, table: &str, keys: &[String]) -> Look {
        let bucket = self.bucket.as_ref().map(|(minio, bucket)| (*minio, bucket.as_str()));
        support::look(&self.python, self.data.path(), bucket, table, keys)
    }
}

/// A number from 0 to 1, the same for the same seed and round (SplitMix64).
fn fraction(seed: u64, round: u64) -> f64 {
    let mut z = seed.wrapping_add((round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
