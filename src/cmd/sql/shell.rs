//! One session and where its results go: runs a text of statements or a backslash command.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tereza_engine::query::{Query, QueryService, SessionId, Statement, StatementKind, updated_rows};
use tereza_runtime::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::progress::Line;
use crate::cmd::client;
use crate::output::{self, Format, Style, Writer};

/// A statement that was interrupted is given this long to say so before it is left behind.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// How a text ended; everything but `Done` stops the script it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Everything ran.
    Done,
    /// An error was printed.
    Failed,
    /// An error was printed: the server cannot be reached.
    Unreachable,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads the results any more.
    Closed,
    /// `\q`
    Quit,
}

/// What the user can switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// How results are written.
    pub(super) format: Format,
    /// Whether to print the time of each statement.
    pub(super) timing: bool,
    /// Whether tables list each row's columns.
    pub(super) expanded: bool,
}

/// A session with its view, results going to `out` and everything else to `notes`.
pub(super) struct Shell {
    pub(super) service: Arc<dyn QueryService>,
    pub(super) session: SessionId,
    pub(super) view: View,
    out: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
    out_is_terminal: bool,
    interrupts: Interrupts,
}

/// Ctrl-C, at most one that waits.
pub(super) struct Interrupts {
    receiver: mpsc::Receiver<()>,
    /// Forwards the signals; there is none in tests.
    forwarder: Option<JoinHandle<()>>,
}

/// What a statement gave back.
enum Answer {
    Rows(u64),
    Updated(u64),
    Ok,
}

/// Why a statement gave nothing back.
enum Stop {
    Error(Error),
    Interrupted,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Shell {
    /// A shell on this process' standard output and error, interrupted by SIGINT.
    pub(super) fn on_terminal(service: Arc<dyn QueryService>, session: SessionId, view: View) -> Result<Self> {
        let interrupts = Interrupts::of_process()?;
        let out_is_terminal = io::stdout().is_terminal();
        let out = Box::new(BufWriter::new(io::stdout()));
        Ok(Self { service, session, view, out, notes: Box::new(io::stderr()), out_is_terminal, interrupts })
    }

    /// A shell on other outputs, interrupted by `interrupts`.
    #[cfg(test)]
    pub(super) fn on_outputs(
        service: Arc<dyn QueryService>,
        session: SessionId,
        view: View,
        out: Box<dyn Write + Send>,
        notes: Box<dyn Write + Send>,
        interrupts: mpsc::Receiver<()>,
    ) -> Self {
        let interrupts = Interrupts { receiver: interrupts, forwarder: None };
        Self { service, session, view, out, notes, out_is_terminal: false, interrupts }
    }

    /// Runs what was typed or given by `-c`: a backslash command, or statements.
    pub(super) async fn input(&mut self, text: &str) -> Outcome {
        match text.trim_start().strip_prefix('\\') {
            Some(command) => self.command(command).await,
            None => self.script(None, text).await,
        }
    }

    /// Runs the statements of a text in order until one does not end well. `name` is the file they are from.
    pub(super) async fn script(&mut self, name: Option<&str>, text: &str) -> Outcome {
        let statements = match self.service.split(text) {
            Ok(statements) => statements,
            Err(error) => return self.fail_in(name, text, 0, &error),
        };
        let mut read = 0;
        for statement in statements {
            let start = text[read..].find(&statement).map_or(read, |at| read + at);
            read = (start + statement.len()).min(text.len());
            let outcome = match self.statement(&statement).await {
                Ok(()) => Outcome::Done,
                Err(Stop::Interrupted) => {
                    self.note("interrupted");
                    Outcome::Interrupted
                }
                Err(Stop::Error(error)) => {
                    let line = text[..start].matches('\n').count();
                    self.fail_in(name, &statement, line, &error)
                }
            };
            if outcome != Outcome::Done {
                return outcome;
            }
        }
        Outcome::Done
    }

    /// Prints an error that is in no statement.
    pub(super) fn fail(&mut self, error: &Error) -> Outcome {
        self.fail_in(None, "", 0, error)
    }

    /// Prints a line beside the results, after what was written of them.
    pub(super) fn note(&mut self, text: &str) {
        let _ = self.out.flush();
        // With nowhere left to say anything, there is nothing to do about it.
        let _ = writeln!(self.notes, "{text}");
    }

    /// Writes text of the shell's own, such as its help, to where results go.
    pub(super) fn print(&mut self, text: &str) -> Outcome {
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        written.map_or_else(|error| self.fail(&output::failed_write(error)), |()| Outcome::Done)
    }

    /// Writes a batch of the shell's own, such as a list of tables, as a result in the current format.
    pub(super) fn print_batch(&mut self, batch: &RecordBatch) -> Outcome {
        let style = self.style();
        let written = Writer::new(self.view.format, style, &batch.schema(), &mut self.out)
            .and_then(|mut writer| writer.write(batch).and_then(|()| writer.finish().map(drop)));
        match written {
            Ok(()) => {
                self.conclude(&Answer::Rows(batch.num_rows() as u64));
                Outcome::Done
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Waits for `work` until Ctrl-C: then `Err(Interrupted)` after saying so.
    pub(super) async fn until_interrupt<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T, Outcome> {
        tokio::select! {
            result = work => result.map_err(|error| self.fail(&error)),
            () = self.interrupts.next() => {
                self.note("interrupted");
                Err(Outcome::Interrupted)
            }
        }
    }

    /// Forgets a Ctrl-C that came when nothing ran.
    pub(super) fn forget_interrupt(&mut self) {
        while self.interrupts.receiver.try_recv().is_ok() {}
    }

    async fn statement(&mut self, sql: &str) -> Result<(), Stop> {
        let mut line = Line::begin();
        let answer = self.answer(sql, &mut line).await;
        line.wipe();
        let answer = answer?;
        self.conclude(&answer);
        if self.view.timing {
            self.note(&format!("time {:.3} s", line.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    async fn answer(&mut self, sql: &str, line: &mut Line) -> Result<Answer, Stop> {
        let mut submission = pin!(self.service.submit(&self.session, Statement::new(sql)));
        let query = loop {
            tokio::select! {
                query = &mut submission => break query?,
                () = self.interrupts.next() => return Err(Stop::Interrupted),
                () = line.tick() => line.draw(None),
            }
        };
        match query.kind() {
            StatementKind::Query => {
                let schema = query.schema();
                let style = self.style();
                let mut writer = Writer::new(self.view.format, style, &schema, &mut self.out)?;
                let mut rows = 0;
                let write = |batch: RecordBatch| {
                    rows += batch.num_rows() as u64;
                    writer.write(&batch)
                };
                drain(query, &mut self.interrupts, line, write).await?;
                writer.finish()?;
                Ok(Answer::Rows(rows))
            }
            StatementKind::Update => {
                let mut updated = None;
                let count = |batch: RecordBatch| {
                    updated = Some(updated.unwrap_or(0) + updated_rows(&batch)?);
                    Ok(())
                };
                drain(query, &mut self.interrupts, line, count).await?;
                Ok(updated.map_or(Answer::Ok, Answer::Updated))
            }
            StatementKind::Command => {
                drain(query, &mut self.interrupts, line, |_| Ok(())).await?;
                Ok(Answer::Ok)
            }
        }
    }

    /// Says beside the results how a statement ended.
    fn conclude(&mut self, answer: &Answer) {
        match answer {
            Answer::Rows(rows) if self.view.format == Format::Table => {
                let text = format!("({})", counted(*rows));
                self.note(&text);
            }
            Answer::Rows(_) => {}
            Answer::Updated(rows) => {
                let text = counted(*rows);
                self.note(&text);
            }
            Answer::Ok => self.note("ok"),
        }
    }

    /// Prints an error of `sql`, which begins `line` lines after the start of the file `name`.
    fn fail_in(&mut self, name: Option<&str>, sql: &str, line: usize, error: &Error) -> Outcome {
        if output::is_closed(error) {
            return Outcome::Closed;
        }
        let place = match name {
            Some(name) => {
                let inside = error.location().map_or(0, |location| location.line.saturating_sub(1) as usize);
                format!("error in {name}, line {}", line + inside + 1)
            }
            None => "error".to_string(),
        };
        self.note(&format!("{place}: {}", error.render(sql)));
        if client::is_unreachable(error) { Outcome::Unreachable } else { Outcome::Failed }
    }

    fn style(&self) -> Style {
        let style = if self.out_is_terminal { Style::of_terminal() } else { Style::default() };
        Style { expanded: self.view.expanded, ..style }
    }
}

/// Gives each batch to `take` until the query ends. On Ctrl-C the query is cancelled and given a moment to end.
async fn drain(
    mut query: Query,
    interrupts: &mut Interrupts,
    line: &mut Line,
    mut take: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<(), Stop> {
    let progress = query.progress();
    let cancellation = query.cancellation();
    loop {
        tokio::select! {
            batch = query.next() => match batch {
                Some(batch) => {
                    let batch = batch?;
                    line.wipe();
                    take(batch)?;
                }
                None => return Ok(()),
            },
            () = interrupts.next() => break,
            () = line.tick() => line.draw(Some(progress.read())),
        }
    }
    cancellation.cancel();
    // Whatever comes now is not wanted; after the wait, dropping the query cancels it all the same.
    let _ = timeout(CANCEL_WAIT, async { while let Some(Ok(_)) = query.next().await {} }).await;
    Err(Stop::Interrupted)
}

fn counted(rows: u64) -> String {
    if rows == 1 { "1 row".to_string() } else { format!("{rows} rows") }
}

impl Interrupts {
    fn of_process() -> Result<Self> {
        let mut signals = signal(SignalKind::interrupt())
            .map_err(|error| Error::internal(format!("SIGINT cannot be caught: {error}")).with_source(error))?;
        let (sender, receiver) = mpsc::channel(1);
        let forwarder = tokio::spawn(async move {
            while signals.recv().await.is_some() {
                // A full channel holds an interrupt already.
                let _ = sender.try_send(());
            }
        });
        Ok(Self { receiver, forwarder: Some(forwarder) })
    }

    /// Waits for Ctrl-C; may be dropped while it waits.
    async fn next(&mut self) {
        if self.receiver.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        if let Some(forwarder) = &self.forwarder {
            forwarder.abort();
        }
    }
}

#[cfg(test)]
mod tests;
