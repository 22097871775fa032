//! Columns in a box, or one block of lines per row.
//!
//! The first [`SIZING_ROWS`] rows decide how wide the columns are; later rows are written as they come and run over
//! where they are wider, so that memory stays bounded and nothing is lost.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::util::display::FormatOptions;
use nu_ansi_term::Color;
use tereza_runtime::Result;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Column, Style, failed_write};

/// Rows that are held back to size the columns.
pub(crate) const SIZING_ROWS: usize = 1000;
/// A column is never padded to more than this, so that one long value does not blow up every line.
const PAD_LIMIT: usize = 256;
/// Text columns are not cut below this on a terminal.
const CUT_FLOOR: usize = 8;
const NULL: &str = "NULL";

pub(super) struct Writer<W> {
    out: W,
    style: Style,
    columns: Vec<Heading>,
    /// Batches that wait until the columns are sized, with the number of their rows.
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    is_sized: bool,
    rows: u64,
}

struct Heading {
    name: String,
    is_number: bool,
    /// Columns of the terminal that values are padded to.
    width: usize,
    /// Columns of the terminal that values are cut to.
    limit: Option<usize>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(style: Style, schema: &Schema, out: W) -> Self {
        let heading = |field: &arrow::datatypes::FieldRef| {
            let name = escape(field.name()).replace('\n', "\\n");
            Heading { width: name.width(), name, is_number: field.data_type().is_numeric(), limit: None }
        };
        let columns = schema.fields().iter().map(heading).collect();
        Self { out, style, columns, waiting: Vec::new(), waiting_rows: 0, is_sized: false, rows: 0 }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.style.expanded {
            return self.print_records(batch);
        }
        if self.is_sized {
            return self.print_rows(batch);
        }
        self.waiting.push(batch.clone());
        self.waiting_rows += batch.num_rows();
        if self.waiting_rows >= SIZING_ROWS { self.start() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<W> {
        if !self.style.expanded {
            if !self.is_sized {
                self.start()?;
            }
            self.print_rule('└', '┴', '┘')?;
        }
        Ok(self.out)
    }

    /// Sizes the columns by the rows that wait, and writes the heading and these rows.
    fn start(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let mut rows_left = SIZING_ROWS;
        for batch in &waiting {
            self.measure(&batch.slice(0, batch.num_rows().min(rows_left)))?;
            rows_left = rows_left.saturating_sub(batch.num_rows());
        }
        if let Some(width) = self.style.width {
            self.fit(width);
        }
        for column in &mut self.columns {
            column.width = column.width.min(column.limit.unwrap_or(PAD_LIMIT));
        }
        self.is_sized = true;
        self.print_heading()?;
        waiting.iter().try_for_each(|batch| self.print_rows(batch))
    }

    fn measure(&mut self, batch: &RecordBatch) -> Result<()> {
        let values = Column::of(batch, &options())?;
        let mut text = String::new();
        for (column, values) in self.columns.iter_mut().zip(&values) {
            for row in 0..batch.num_rows() {
                let width = if values.read(row, &mut text)? { width_of(&escape(&text)) } else { NULL.len() };
                column.width = column.width.max(width);
            }
        }
        Ok(())
    }

    /// Cuts the widest text columns so that a line fits the terminal. Numbers are never cut, for a cut number is wrong.
    fn fit(&mut self, terminal_width: usize) {
        let borders = 3 * self.columns.len() + 1;
        let numbers: usize = self.columns.iter().filter(|column| column.is_number).map(|column| column.width).sum();
        let room = terminal_width.saturating_sub(borders + numbers);
        let mut texts: Vec<&mut Heading> = self.columns.iter_mut().filter(|column| !column.is_number).collect();
        let needed = |limit: usize| texts.iter().map(|column| column.width.min(limit)).sum::<usize>();
        if needed(usize::MAX) <= room {
            return;
        }
        let limit = (CUT_FLOOR..=room).rev().find(|limit| needed(*limit) <= room).unwrap_or(CUT_FLOOR);
        for column in &mut texts {
            column.limit = Some(limit);
        }
    }

    fn print_heading(&mut self) -> Result<()> {
        self.print_rule('┌', '┬', '┐')?;
        let mut line = String::new();
        for column in &self.columns {
            line.push_str("│ ");
            let name = cut(&column.name, column.limit);
            push_padded(&mut line, &name, name.width(), column.width, false);
            line.push(' ');
        }
        line.push_str("│\n");
        self.out.write_all(line.as_bytes()).map_err(failed_write)?;
        self.print_rule('├', '┼', '┤')
    }

    fn print_rule(&mut self, left: char, middle: char, right: char) -> Result<()> {
        let mut line = String::new();
        for (at, column) in self.columns.iter().enumerate() {
            line.push(if at == 0 { left } else { middle });
            line.extend(std::iter::repeat_n('─', column.width + 2));
        }
        line.push(right);
        line.push('\n');
        self.out.write_all(line.as_bytes()).map_err(failed_write)
    }

    /// Writes rows; a value of several lines makes its row as high.
    fn print_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        let values = Column::of(batch, &options())?;
        let mut cells: Vec<Option<String>> = vec![None; values.len()];
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            let mut height = 1;
            for (cell, values) in cells.iter_mut().zip(&values) {
                *cell = values.read(row, &mut text)?.then(|| escape(&text));
                height = height.max(cell.as_ref().map_or(1, |text| text.split('\n').count()));
            }
            for at in 0..height {
                let line = self.line(&cells, at);
                self.out.write_all(line.as_bytes()).map_err(failed_write)?;
            }
        }
        Ok(())
    }

    /// One line of a row: of each cell the part of that line.
    fn line(&self, cells: &[Option<String>], at: usize) -> String {
        let mut line = String::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            line.push_str("│ ");
            match cell {
                Some(text) => {
                    let part = cut(text.split('\n').nth(at).unwrap_or(""), column.limit);
                    push_padded(&mut line, &part, part.width(), column.width, column.is_number);
                }
                None if at == 0 => {
                    push_padded(&mut line, &self.null(), NULL.len(), column.width, column.is_number);
                }
                None => push_padded(&mut line, "", 0, column.width, false),
            }
            line.push(' ');
        }
        line.push_str("│\n");
        line
    }

    fn print_records(&mut self, batch: &RecordBatch) -> Result<()> {
        let name_width = self.columns.iter().map(|column| column.width).max().unwrap_or(0);
        let values = Column::of(batch, &options())?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            self.rows += 1;
            let mut block = format!("─[ row {} ]─\n", self.rows);
            for (column, values) in self.columns.iter().zip(&values) {
                let value = if values.read(row, &mut text)? { escape(&text) } else { self.null() };
                for (at, part) in value.split('\n').enumerate() {
                    let name = if at == 0 { column.name.as_str() } else { "" };
                    push_padded(&mut block, name, name.width(), name_width, false);
                    block.push_str(" │ ");
                    block.push_str(part);
                    block.push('\n');
                }
            }
            self.out.write_all(block.as_bytes()).map_err(failed_write)?;
        }
        Ok(())
    }

    fn null(&self) -> String {
        if self.style.color { Color::DarkGray.paint(NULL).to_string() } else { NULL.to_string() }
    }
}

fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_null(NULL).with_display_error(true)
}

/// The text with its control characters made visible, so that no value moves the cursor. Line ends stay.
fn escape(text: &str) -> String {
    if !text.contains(|c: char| c.is_control() && c != '\n') {
        return text.to_string();
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Columns of the terminal that the widest line takes.
fn width_of(text: &str) -> usize {
    text.split('\n').map(UnicodeWidthStr::width).max().unwrap_or(0)
}

/// The text in at most `limit` columns of the terminal, with an ellipsis where something is missing.
fn cut(text: &str, limit: Option<usize>) -> String {
    let Some(limit) = limit.filter(|limit| text.width() > *limit) else { return text.to_string() };
    let mut kept = String::new();
    let mut width = 1;
    for c in text.chars() {
        width += c.width().unwrap_or(0);
        if width > limit {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

fn push_padded(line: &mut String, text: &str, text_width: usize, width: usize, to_the_right: bool) {
    let padding = std::iter::repeat_n(' ', width.saturating_sub(text_width));
    if to_the_right {
        line.extend(padding);
        line.push_str(text);
    } else {
        line.push_str(text);
        line.extend(padding);
    }
}
