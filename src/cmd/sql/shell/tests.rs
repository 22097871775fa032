use std::sync::Mutex;

use super::super::fake::FakeService;
use super::*;

/// An output that can be read while a shell writes to it.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Bench {
    service: Arc<FakeService>,
    shell: Shell,
    out: Captured,
    notes: Captured,
    interrupt: mpsc::Sender<()>,
}

fn bench(format: Format) -> Bench {
    let (out, notes) = (Captured::default(), Captured::default());
    let (interrupt, receiver) = mpsc::channel(1);
    let view = View { format, timing: false, expanded: false };
    let service = Arc::new(FakeService::default());
    let shell = Shell::on_outputs(
        service.clone(),
        SessionId("s".into()),
        view,
        Box::new(out.clone()),
        Box::new(notes.clone()),
        receiver,
    );
    Bench { service, shell, out, notes, interrupt }
}

#[tokio::test]
async fn results_go_out_and_counts_beside_them() {
    let mut bench = bench(Format::Table);
    assert_eq!(bench.shell.input("select 1; insert 3; use x; select 2").await, Outcome::Done);
    assert_eq!(bench.out.text(), "┌───┐\n│ n │\n├───┤\n│ 0 │\n└───┘\n┌───┐\n│ n │\n├───┤\n│ 0 │\n│ 1 │\n└───┘\n");
    assert_eq!(bench.notes.text(), "(1 row)\n3 rows\nok\n(2 rows)\n");
}

#[tokio::test]
async fn formats_for_programs_have_no_row_count_beside_them() {
    let mut bench = bench(Format::Csv);
    assert_eq!(bench.shell.input("select 2").await, Outcome::Done);
    assert_eq!((bench.out.text().as_str(), bench.notes.text().as_str()), ("n\n0\n1\n", ""));
}

#[tokio::test]
async fn a_script_stops_at_its_first_error() {
    let mut bench = bench(Format::Csv);
    assert_eq!(bench.shell.input("select 1;\noh\n  no; select 2").await, Outcome::Failed);
    assert_eq!(bench.out.text(), "n\n0\n");
    assert_eq!(bench.notes.text(), "error: unexpected word (line 2, column 3)\n    no\n    ^\n");
}

#[tokio::test]
async fn an_error_in_a_file_names_the_line_of_the_file() {
    let mut bench = bench(Format::Csv);
    let script = "select 1;\n\nselect 1;\noh\n  no;\n";
    assert_eq!(bench.shell.script(Some("a.sql"), script).await, Outcome::Failed);
    assert!(bench.notes.text().starts_with("error in a.sql, line 5: unexpected word"), "{}", bench.notes.text());
}

#[tokio::test]
async fn an_open_quote_fails_before_anything_runs() {
    let mut bench = bench(Format::Csv);
    assert_eq!(bench.shell.input("select 1; select 'a").await, Outcome::Failed);
    assert_eq!(bench.out.text(), "");
    assert!(bench.notes.text().contains("(line 1, column 18)"), "{}", bench.notes.text());
}

#[tokio::test]
async fn an_interrupt_ends_the_statement_and_its_script() {
    let mut bench = bench(Format::Csv);
    let press = async {
        bench.service.hanging().await;
        bench.interrupt.send(()).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(bench.shell.input("hang; select 1"), press);
    assert_eq!(outcome, Outcome::Interrupted);
    assert_eq!((bench.notes.text().as_str(), bench.service.cancelled()), ("interrupted\n", 1));
    assert_eq!(bench.shell.input("select 1").await, Outcome::Done);
}

#[tokio::test]
async fn an_interrupt_between_statements_is_forgotten_at_the_prompt() {
    let mut bench = bench(Format::Csv);
    bench.interrupt.send(()).await.unwrap();
    bench.shell.forget_interrupt();
    assert_eq!(bench.shell.input("select 1").await, Outcome::Done);
}

#[tokio::test]
async fn a_reader_that_left_ends_everything_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut bench = bench(Format::Csv);
    bench.shell.out = Box::new(Closed);
    assert_eq!(bench.shell.input("select 1; insert 1").await, Outcome::Closed);
    assert_eq!(bench.notes.text(), "");
}

#[tokio::test]
async fn backslash_commands_list_names() {
    let mut bench = bench(Format::Csv);
    for (command, listed) in [
        (r"\l", "catalog\nmemory\ntereza\n"),
        (r"\dn", "catalog,schema\ntereza,default\ntereza,sales\n"),
        (r"\d", "schema,table,kind\ndefault,Odd Name,TABLE\ndefault,orders,TABLE\n"),
        (r"\d Orders;", "column,type,nullable\no_id,Int64,yes\no_total,Int64,yes\n"),
        (r#"\d tereza.default."Odd Name""#, "column,type,nullable\nx,Int64,yes\n"),
    ] {
        bench.out.0.lock().unwrap().clear();
        assert_eq!(bench.shell.input(command).await, Outcome::Done, "{command} {}", bench.notes.text());
        assert_eq!(bench.out.text(), listed, "{command}");
    }
}

#[tokio::test]
async fn backslash_commands_switch_the_view() {
    let mut bench = bench(Format::Table);
    for command in [r"\timing", r"\x on", r"\format json"] {
        assert_eq!(bench.shell.input(command).await, Outcome::Done);
    }
    assert_eq!(bench.shell.view, View { format: Format::Json, timing: true, expanded: true });
    assert_eq!(bench.shell.input("select 1").await, Outcome::Done);
    assert!(bench.notes.text().contains("time 0."), "{}", bench.notes.text());
    assert_eq!(bench.shell.input(r"\x").await, Outcome::Done);
    assert!(!bench.shell.view.expanded);
    assert_eq!(bench.shell.input(r"\q").await, Outcome::Quit);
}

#[tokio::test]
async fn what_is_wrong_with_a_command_is_said() {
    let mut bench = bench(Format::Table);
    for (command, said) in [
        (r"\nope", r"there is no command \nope"),
        (r"\format xml", "there is no format 'xml'"),
        (r"\d missing", "table 'missing' not found"),
        (r"\d a.b.c.d", "'a.b.c.d' is not the name of a table"),
        (r"\d a..b", "'a..b' is not the name of a table"),
        (r"\x maybe", "'maybe' is neither on nor off"),
        (r"\i", r"\i needs the name of a file"),
        (r"\i no/such.sql", "there is no file no/such.sql"),
    ] {
        assert_eq!(bench.shell.input(command).await, Outcome::Failed, "{command}");
        assert!(bench.notes.text().contains(said), "{command}: {}", bench.notes.text());
    }
}
