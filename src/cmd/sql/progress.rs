//! The line on standard error that says how far a long statement is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use tereza_engine::query::ProgressReading;
use tereza_runtime::clock;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// A statement that is over sooner shows no line.
const DELAY: Duration = Duration::from_secs(1);
/// Time between two drawings.
const PERIOD: Duration = Duration::from_millis(200);

/// The line of one statement. Whoever else writes to the terminal wipes it first.
pub(in crate::cmd) struct Line {
    started: Instant,
    ticks: Interval,
    is_wanted: bool,
    is_drawn: bool,
}

impl Line {
    /// A line for a statement that begins now; nothing is ever drawn unless standard error is a terminal.
    pub(in crate::cmd) fn begin() -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { started: clock::now(), ticks, is_wanted: std::io::stderr().is_terminal(), is_drawn: false }
    }

    /// Waits until it is time to draw; may be dropped while it waits.
    pub(super) async fn tick(&mut self) {
        self.ticks.tick().await;
    }

    /// Time since the statement began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Draws the line over itself.
    pub(super) fn draw(&mut self, reading: Option<ProgressReading>) {
        self.say(&text(reading));
    }

    /// Draws a line of this text and the time.
    pub(in crate::cmd) fn say(&mut self, text: &str) {
        let elapsed = self.elapsed();
        if !self.is_wanted || elapsed < DELAY {
            return;
        }
        self.is_drawn = true;
        write(&format!("\r{text} · {:.1} s\x1b[K", elapsed.as_secs_f64()));
    }

    /// Takes the line away.
    pub(in crate::cmd) fn wipe(&mut self) {
        if self.is_drawn {
            self.is_drawn = false;
            write("\r\x1b[K");
        }
    }
}

/// A terminal that cannot be written to misses only this line.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn text(reading: Option<ProgressReading>) -> String {
    let Some(reading) = reading else { return "planning".into() };
    let mut text = format!("{} rows, {}", count(reading.rows), bytes(reading.bytes));
    if let Some(stages) = reading.stages {
        let (done, known) = (stages.stages_done, stages.stages);
        let tasks = format!("{}/{}", stages.partitions_done, stages.partitions);
        text.push_str(&format!(" · stages {done}/{known}, tasks {tasks}"));
    }
    if reading.scanned_rows > 0 || reading.scanned_bytes > 0 {
        let scanned = format!(" · scanned {} rows, {}", count(reading.scanned_rows), bytes(reading.scanned_bytes));
        text.push_str(&scanned);
    }
    text
}

fn count(n: u64) -> String {
    scaled(n, 1000.0, &["", "K", "M", "G", "T"])
}

fn bytes(n: u64) -> String {
    scaled(n, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(n: u64, base: f64, units: &[&str]) -> String {
    let mut value = n as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    if unit == 0 { format!("{n}{}", units[0]) } else { format!("{value:.1}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use tereza_engine::cluster::StageCounts;

    use super::*;

    #[test]
    fn the_line_names_what_was_returned_and_scanned() {
        let reading = ProgressReading { rows: 999, bytes: 2048, scanned_rows: 1_500_000, ..ProgressReading::default() };
        assert_eq!(text(Some(reading)), "999 rows, 2.0 KiB · scanned 1.5M rows, 0 B");
        assert_eq!(text(Some(ProgressReading::default())), "0 rows, 0 B");
        let stages =
            StageCounts { stages: 3, stages_done: 1, partitions: 12, partitions_done: 7, ..StageCounts::default() };
        let reading = ProgressReading { stages: Some(stages), ..ProgressReading::default() };
        assert_eq!(text(Some(reading)), "0 rows, 0 B · stages 1/3, tasks 7/12");
        assert_eq!(text(None), "planning");
    }
}
