//! `tereza sql` as its users run it: a process with its output, its exit status, and its prompt on a terminal.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// No process of these tests takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// A statement that is not over before the test is.
const ENDLESS: &str = "select count(*) as n from generate_series(1, 1000000000000) where value % 7 = 3";

/// A data folder with everything else that a process could find in its surroundings.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear().kill_on_drop(true);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).env("XDG_STATE_HOME", self.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn sql(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_tereza"));
        command.arg("sql").arg("--data").arg(self.path().join("data")).args(arguments);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.sql(arguments)).await
    }

    async fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.sql(arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        Ended::from(timeout(LIMIT, child.wait_with_output()).await.expect("tereza hangs").unwrap())
    }
}

struct Ended {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ended {
    fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Its results, if all went well.
    fn results(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap()
    }

    fn bytes(&self) -> &[u8] {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        &self.stdout
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).unwrap();
        Self { status: output.status.code(), stdout: output.stdout, stderr }
    }
}

async fn ended(mut command: Command) -> Ended {
    Ended::from(timeout(LIMIT, command.output()).await.expect("the process hangs").unwrap())
}

#[tokio::test]
async fn a_table_is_the_default_and_its_row_count_is_beside_it() {
    let run = Home::new().run(&["-c", "select 1 as n, '東京' as place, cast(null as varchar) as nothing"]).await;
    let expected = "\
┌───┬───────┬─────────┐
│ n │ place │ nothing │
├───┼───────┼─────────┤
│ 1 │ 東京  │ NULL    │
└───┴───────┴─────────┘
";
    assert_eq!(run.results(), expected);
    assert_eq!(run.stderr, "(1 row)\n");
}

#[tokio::test]
async fn csv_tells_null_from_empty_and_quotes() {
    let sql = "select 1 as n, cast(null as varchar) as nothing, '' as empty, 'x,\"y' as quoted";
    let run = Home::new().run(&["--format", "csv", "-c", sql]).await;
    assert_eq!(run.results(), "n,nothing,empty,quoted\n1,,\"\",\"x,\"\"y\"\n");
    assert_eq!(run.stderr, "");
}

#[tokio::test]
async fn json_has_numbers_for_decimals_and_every_key() {
    let sql = "select 1 as n, cast(null as varchar) as s, cast(1.5 as decimal(10, 2)) as d, \
               timestamp '2024-01-02 03:04:05' as t";
    let run = Home::new().run(&["--format", "json", "-c", sql]).await;
    assert_eq!(run.results(), "{\"n\":1,\"s\":null,\"d\":1.50,\"t\":\"2024-01-02T03:04:05\"}\n");
}

#[tokio::test]
async fn arrow_is_a_stream_that_any_reader_takes() {
    let run = Home::new().run(&["--format", "arrow", "-c", "select value from generate_series(1, 3)"]).await;
    let batches: Vec<RecordBatch> = StreamReader::try_new(run.bytes(), None).unwrap().map(Result::unwrap).collect();
    let values: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(values, [1, 2, 3]);
}

#[tokio::test]
async fn a_large_result_is_whole() {
    let run = Home::new().run(&["--format", "csv", "-c", "select value from generate_series(1, 300000)"]).await;
    assert_eq!(run.results().lines().count(), 300_001);
    assert!(run.results().ends_with("\n300000\n"));
}

#[tokio::test]
async fn inputs_run_in_the_order_given_in_one_session() {
    let home = Home::new();
    std::fs::write(home.path().join("two.sql"), "-- second\nselect 2 as x;\n").unwrap();
    let arguments =
        ["--format", "csv", "-c", "select 1 as x; ", "-f", "two.sql", "-c", "select ';' as x; select 4 as x"];
    assert_eq!(home.run(&arguments).await.results(), "x\n1\nx\n2\nx\n;\nx\n4\n");
}

#[tokio::test]
async fn standard_input_is_a_script() {
    let home = Home::new();
    let script = "select 1 as x;\nselect 2 as x\n";
    assert_eq!(home.run_with_input(&["--format", "csv"], script).await.results(), "x\n1\nx\n2\n");
    assert_eq!(home.run_with_input(&["--format", "csv", "-f", "-"], script).await.results(), "x\n1\nx\n2\n");
    assert_eq!(home.run_with_input(&[], "").await.results(), "");
}

#[tokio::test]
async fn the_first_error_ends_the_script_and_points_at_its_place() {
    let run = Home::new()
        .run(&["--format", "csv", "-c", "select 1 as x; selec 2; select 3 as x", "-c", "select 4 as x"])
        .await;
    assert_eq!((run.status, run.stdout()), (Some(1), "x\n1\n"));
    assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
    assert!(run.stderr.contains("(line 1, column 1)"), "{}", run.stderr);
    assert!(run.stderr.contains("\n  selec 2\n  ^\n"), "{}", run.stderr);
}

#[tokio::test]
async fn an_error_in_a_file_names_file_and_line() {
    let home = Home::new();
    std::fs::write(home.path().join("bad.sql"), "select 1;\n\nselect 2;\nselec 3;\n").unwrap();
    let run = home.run(&["--format", "csv", "-f", "bad.sql"]).await;
    assert_eq!(run.status, Some(1));
    assert!(run.stderr.starts_with("error in bad.sql, line 4: "), "{}", run.stderr);

    let run = home.run(&["-f", "none.sql"]).await;
    assert_eq!((run.status, run.stderr.as_str()), (Some(1), "error: there is no file none.sql\n"));
}

#[tokio::test]
async fn writes_tell_their_rows_and_outlive_the_process() {
    let home = Home::new();
    let run = home.run(&["-c", "create table kept (a int); insert into kept values (1), (2)"]).await;
    assert_eq!((run.results(), run.stderr.as_str()), ("", "ok\n2 rows\n"));
    let run =
        home.run(&["--format", "csv", "-c", "select sum(a) as total from kept", "-c", r"\d", "-c", r"\d kept"]).await;
    assert_eq!(run.results(), "total\n3\nschema,table,kind\ndefault,kept,TABLE\ncolumn,type,nullable\na,Int32,yes\n");
}

#[tokio::test]
async fn backslash_commands_work_without_a_prompt() {
    let run = Home::new().run(&["--format", "csv", "-c", r"\l"]).await;
    assert!(run.results().lines().any(|line| line == "tereza"), "{}", run.stdout());
    let run = Home::new().run(&["-c", r"\nope", "-c", "select 1"]).await;
    assert_eq!((run.status, run.stdout()), (Some(1), ""));
    assert!(run.stderr.contains(r"there is no command \nope"), "{}", run.stderr);
}

#[tokio::test]
async fn the_schema_of_a_session_can_be_chosen() {
    let home = Home::new();
    home.run(&["-c", "create schema other; create table other.t (a int)"]).await.results();
    let run = home.run(&["--schema", "other", "--format", "csv", "-c", "select count(*) as n from t"]).await;
    assert_eq!(run.results(), "n\n0\n");
}

#[tokio::test]
async fn timing_is_beside_the_results() {
    let run = Home::new().run(&["--timing", "--format", "csv", "-c", "select 1 as x"]).await;
    assert_eq!(run.results(), "x\n1\n");
    let seconds = run.stderr.trim().strip_prefix("time ").and_then(|rest| rest.strip_suffix(" s"));
    assert!(seconds.is_some_and(|seconds| seconds.parse::<f64>().is_ok()), "{}", run.stderr);
}

#[tokio::test]
async fn wrong_usage_is_status_2() {
    let home = Home::new();
    for arguments in [
        ["--format", "xml", "-c", "select 1"],
        ["--no-such-flag", "1", "-c", "select 1"],
        ["--set", "no.such=1", "-c", "select 1"],
        ["--url", "http://localhost:1", "-c", "select 1"],
    ] {
        let run = home.run(&arguments).await;
        assert_eq!((run.status, run.stdout()), (Some(2), ""), "{arguments:?} {}", run.stderr);
        assert!(!run.stderr.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_status_3_and_named() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut command = home.command(env!("CARGO_BIN_EXE_tereza"));
    command.args(["sql", "--url", &format!("http://ana:hidden@{address}"), "-c", "select 1"]);
    let run = timeout(Duration::from_secs(10), ended(command)).await.expect("refused connections are told at once");
    assert_eq!((run.status, run.stdout()), (Some(3), ""));
    assert!(run.stderr.contains(&address) && !run.stderr.contains("hidden"), "{}", run.stderr);
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_process_quietly() {
    let home = Home::new();
    for format in ["table", "csv", "json", "arrow"] {
        let sql = "select value from generate_series(1, 100000000000)";
        let mut child = home.sql(&["--format", format, "-c", sql]).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        assert!(!timeout(LIMIT, stdout.fill_buf()).await.unwrap().unwrap().is_empty());
        drop(stdout);
        let run = Ended::from(timeout(LIMIT, child.wait_with_output()).await.expect("tereza runs on").unwrap());
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{format}");
    }
}

#[tokio::test]
async fn an_interrupt_is_status_130() {
    let home = Home::new();
    let script = format!("select 1 as x; {ENDLESS}; select 2 as x");
    let mut child = home.sql(&["--format", "csv", "-c", &script]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    timeout(LIMIT, stdout.read_line(&mut line)).await.unwrap().unwrap();
    timeout(LIMIT, stdout.read_line(&mut line)).await.unwrap().unwrap();
    let process = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &process]).status().await.unwrap().success());
    let run = Ended::from(timeout(LIMIT, child.wait_with_output()).await.expect("the interrupt is lost").unwrap());
    assert_eq!((run.status, run.stderr.as_str()), (Some(130), "interrupted\n"));
    assert_eq!(line, "x\n1\n");
}

/// Runs the program of its arguments on a terminal: waits for each text of the steps in turn and types what goes with
/// it, then prints all that the terminal was shown and ends like the program.
const TERMINAL: &str = r#"
import fcntl, json, os, pty, select, struct, sys, termios, time
steps, limit, program = json.loads(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
process, terminal = pty.fork()
if process == 0:
    os.execv(program[0], program)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))
shown, seen, deadline = b'', 0, time.monotonic() + limit
def read():
    global shown
    if time.monotonic() > deadline:
        os.kill(process, 9)
        sys.stdout.buffer.write(shown)
        sys.exit('the terminal did not show ' + repr(steps[:1]))
    if not select.select([terminal], [], [], 0.2)[0]:
        return True
    try:
        part = os.read(terminal, 65536)
    except OSError:
        return False
    for _ in range(part.count(b'\x1b[6n')):
        os.write(terminal, b'\x1b[1;1R')
    shown += part
    return bool(part)
while steps:
    wanted, typed = steps[0]
    at = shown.find(wanted.encode(), seen)
    if at < 0:
        if not read():
            break
        continue
    seen = at + len(wanted.encode())
    steps.pop(0)
    os.write(terminal, typed.encode())
while read():
    pass
sys.stdout.buffer.write(shown)
_, status = os.waitpid(process, 0)
sys.exit('not shown: ' + repr(steps) if steps else os.waitstatus_to_exitcode(status))
"#;

/// Waits for the first text of each step on the terminal of a prompt, and types the second.
async fn converse(home: &Home, steps: &[(&str, &str)]) -> Ended {
    let mut command = home.command("python3");
    command.env("TERM", "xterm").args(["-c", TERMINAL]).arg(serde_json::to_string(steps).unwrap());
    command.arg((LIMIT.as_secs() / 2).to_string()).arg(env!("CARGO_BIN_EXE_tereza"));
    command.arg("sql").arg("--data").arg(home.path().join("data"));
    ended(command).await
}

#[tokio::test]
async fn the_prompt_runs_statements_of_several_lines_and_outlives_errors() {
    let home = Home::new();
    let run = converse(
        &home,
        &[
            ("tereza.default", "select 'a;b' as x,\r"),
            ("-> ", "40 + 2 as y;\r"),
            ("│ a;b │ 42 │", ""),
            ("(1 row)", ""),
            ("tereza.default", "selec 1;\r"),
            ("error: ", ""),
            ("(line 1, column 1)", ""),
            ("tereza.default", "\\format csv\r"),
            ("tereza.default", "select 7 * 6 as z;\r"),
            ("z\r\n42\r\n", ""),
            ("tereza.default", "\\q\r"),
        ],
    )
    .await;
    assert_eq!(run.status, Some(0), "{}\n{}", run.stdout(), run.stderr);
    let history = std::fs::read_to_string(home.path().join("state/tereza/history")).unwrap();
    assert!(history.contains("select 7 * 6 as z;"), "{history}");
}

#[tokio::test]
async fn ctrl_c_cancels_the_statement_and_ctrl_d_leaves() {
    let endless = format!("{ENDLESS};\r");
    let run = converse(
        &Home::new(),
        &[
            ("tereza.default", "select 1 as dropped\x03"),
            ("tereza.default", &endless),
            // The progress line.
            (" rows, ", "\x03"),
            ("interrupted", ""),
            ("tereza.default", "select 42 as answer;\r"),
            ("│     42 │", ""),
            ("tereza.default", "\x04"),
        ],
    )
    .await;
    assert_eq!(run.status, Some(0), "{}\n{}", run.stdout(), run.stderr);
    assert!(!run.stdout().contains("│ dropped │"), "{}", run.stdout());
}

#[tokio::test]
async fn tab_completes_names_and_learns_new_ones() {
    let run = converse(
        &Home::new(),
        &[
            ("tereza.default", "select * from unmis\t\x03"),
            ("tereza.default", "create table unmistakable (a int);\r"),
            ("ok\r\n", ""),
            ("tereza.default", "insert into unmistakable values (77);\r"),
            ("1 row\r\n", ""),
            ("tereza.default", "select * from unmis\t;\r"),
            ("│ 77 │", ""),
            ("tereza.default", "quit\r"),
        ],
    )
    .await;
    assert_eq!(run.status, Some(0), "{}\n{}", run.stdout(), run.stderr);
}
