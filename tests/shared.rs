//! One catalog in MySQL, several processes with SQL: they see what the others did, none loses rows, and the dead are cleaned up
//! after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;

use tempfile::TempDir;
use tereza_engine::fail_point;

use crate::support::{self, Server, mariadb, wait_for};

/// A process that is not heard of for a second is dead.
const LEASE: &str = "catalog.lease_ms=1000";
const ROWS: &str = "SELECT l_orderkey AS k, l_comment FROM tpch.\"sf0.01\".lineitem";

/// A database for the catalog, and a folder for the tables and for each process.
struct World {
    url: String,
    folder: TempDir,
}

impl World {
    fn new() -> Option<Self> {
        Some(Self { url: mariadb::new_database()?, folder: tempfile::tempdir().unwrap() })
    }

    fn settings(&self) -> Vec<String> {
        let warehouse = self.warehouse();
        let all = [
            format!("catalog.url={}", self.url),
            "catalog.create=true".into(),
            LEASE.into(),
            format!("warehouse.url={}", warehouse.display()),
        ];
        all.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
    }

    fn warehouse(&self) -> PathBuf {
        self.folder.path().join("warehouse")
    }

    fn server(&self, name: &str) -> Server {
        let settings = self.settings();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Server::start(&self.folder.path().join(name), &settings)
    }

    /// A process for some statements; it dies at the place, if one is given.
    fn run(&self, name: &str, statements: &[&str], dies_at: Option<&str>) -> Output {
        let mut command = support::tereza();
        command.arg("sql").arg("--data").arg(self.folder.path().join(name)).args(["--format", "csv"]);
        command.args(self.settings());
        for statement in statements {
            command.args(["-c", statement]);
        }
        if let Some(place) = dies_at {
            command.env(fail_point::VARIABLE, place);
        }
        command.output().unwrap()
    }

    fn staged_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        files_below(&self.warehouse(), &mut found);
        found.retain(|path| path.iter().any(|part| part == "_tereza"));
        found
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files_below(&path, found),
            path => found.push(path),
        }
    }
}

/// Runs a statement on a server and returns what it prints, without the header.
fn ask(server: &Server, statement: &str) -> String {
    let output = try_ask(server, statement);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statement}\n{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().skip(1).map(|line| format!("{line}\n")).collect()
}

fn try_ask(server: &Server, statement: &str) -> Output {
    let mut command = support::tereza();
    command.args(["sql", "--url", &server.flight_sql, "--format", "csv", "-c", statement]);
    command.output().unwrap()
}

#[test]
fn several_processes_write_one_table() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 5;
    let Some(world) = World::new() else { return };
    let servers = [world.server("here"), world.server("there")];
    let [here, there] = &servers;
    ask(here, "CREATE TABLE t (id bigint) PARTITIONED BY (p int)");
    ask(there, "INSERT INTO t VALUES (0, 0)");
    assert_eq!(ask(here, "SELECT id, p FROM t"), "0,0\n");

    thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let server = &servers[writer % 2];
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    ask(server, &format!("INSERT INTO t VALUES ({writer}, {round}), ({writer}, {writer})"));
                }
            });
        }
    });
    let expected = format!("{},{}\n", 1 + 2 * WRITERS * ROUNDS, WRITERS * (WRITERS + 1) * ROUNDS);
    for server in &servers {
        assert_eq!(ask(server, "SELECT count(*), sum(id) FROM t"), expected);
    }
    ask(there, "INSERT OVERWRITE t VALUES (7, 0)");
    assert_eq!(ask(here, "SELECT id FROM t WHERE p = 0"), "7\n");
    ask(here, "ALTER TABLE t ADD COLUMN name string");
    ask(there, "INSERT INTO t VALUES (8, 'eight', 0)");
    assert_eq!(ask(here, "SELECT id, name FROM t WHERE p = 0 ORDER BY id"), "7,\n8,eight\n");
    ask(there, "DROP TABLE t");
    assert!(!try_ask(here, "SELECT * FROM t").status.success());
}

#[test]
fn who_lives_cleans_up_after_who_died() {
    let Some(world) = World::new() else { return };
    let alive = world.server("alive");
    ask(&alive, "CREATE TABLE t (k bigint, l_comment string)");
    let rows: u64 = ask(&alive, &format!("SELECT count(*) FROM ({ROWS}) AS l")).trim().parse().unwrap();
    let mut expected = 0;
    let steps = fail_point::BEFORE_COMMIT_POINT.map(|step| (step, false)).into_iter();
    for (step, is_committed) in steps.chain(fail_point::AFTER_COMMIT_POINT.map(|step| (step, true))) {
        let died = world.run("dying", &[&format!("INSERT INTO t {ROWS}")], Some(step));
        assert_eq!(died.status.code(), None, "{step}: {died:?}");
        let had_staged = !world.staged_files().is_empty();
        if [fail_point::AFTER_LAST_CLOSE, fail_point::AFTER_COMMIT].contains(&step) {
            assert!(had_staged, "{step}: nothing is left to be cleaned up");
        }
        if is_committed {
            expected += rows;
        }
        assert_eq!(ask(&alive, "SELECT count(*) FROM t"), format!("{expected}\n"), "{step}");
        wait_for("the files of the dead to go", || world.staged_files().is_empty().then_some(()));
        assert_eq!(ask(&alive, "SELECT count(*) FROM t"), format!("{expected}\n"), "{step}");
    }
}

/// A process that was taken for dead and was only slow does not commit what others may have removed.
#[test]
fn who_was_taken_for_dead_commits_nothing() {
    let Some(world) = World::new() else { return };
    let (alive, slow) = (world.server("alive"), world.server("slow"));
    ask(&alive, "CREATE TABLE t (k bigint, l_comment string)");
    let signal = |name: &str| {
        let status = std::process::Command::new("kill").args([name, &slow.id().to_string()]).status().unwrap();
        assert!(status.success());
    };
    let rows = "SELECT l_orderkey, l_comment FROM tpch.\"sf1\".lineitem";
    let failed = thread::scope(|scope| {
        let writing = scope.spawn(|| try_ask(&slow, &format!("INSERT INTO t {rows}")));
        wait_for("rows to be written", || (!world.staged_files().is_empty()).then_some(()));
        signal("-STOP");
        wait_for("the files to go", || world.staged_files().is_empty().then_some(()));
        assert_eq!(ask(&alive, "SELECT count(*) FROM t"), "0\n");
        signal("-CONT");
        writing.join().unwrap()
    });
    let errors = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && errors.contains("was given up"), "{errors}");
    for (server, rows) in [(&alive, "0\n"), (&slow, "1\n")] {
        assert_eq!(ask(server, "SELECT count(*) FROM t"), rows);
        ask(server, "INSERT INTO t VALUES (1, 'one')");
    }
    assert_eq!(ask(&alive, "SELECT count(*) FROM t"), "2\n");
}

#[test]
fn a_job_goes_on_in_another_process() {
    let Some(world) = World::new() else { return };
    let alive = world.server("alive");
    let mut dying = world.server("dying");
    ask(&alive, "CREATE TABLE t (k bigint, l_comment string)");
    let script = world.folder.path().join("job.sql");
    fs::write(&script, "INSERT INTO t SELECT l_orderkey, l_comment FROM tpch.\"sf0.3\".lineitem; SELECT 1").unwrap();
    let submit = |server: &Server, arguments: &[&str]| {
        let mut command = support::tereza();
        command.args(arguments).args(["--url", &server.flight_sql]);
        command.output().unwrap()
    };
    let submitted = submit(&dying, &["submit", script.to_str().unwrap(), "--name", "moves"]);
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    wait_for("rows to be written", || (!world.staged_files().is_empty()).then_some(()));
    dying.process().kill();
    let waited = submit(&alive, &["job", "wait", "moves"]);
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    let expected = ask(&alive, "SELECT count(*) FROM tpch.\"sf0.3\".lineitem");
    assert_eq!(ask(&alive, "SELECT count(*) FROM t"), expected);
    wait_for("the files of the dead to go", || world.staged_files().is_empty().then_some(()));
}
