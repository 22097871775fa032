//! The backslash commands: what a person at a prompt asks for that is not SQL.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use clap::ValueEnum;
use tereza_engine::query::{QueryService, SessionId, TableEntry, TableFilter};
use tereza_runtime::{Error, Result};

use super::lexer::{self, Kind};
use super::shell::{Outcome, Shell};
use crate::output::Format;

const HELP: &str = r"\d            tables of the current schema
\d NAME       columns of a table
\dn           schemas of the current catalog
\l            catalogs
\i FILE       run the statements of a file
\format NAME  write results as table, csv, json or arrow
\x            list each row's columns below each other, or stop it
\timing       print the time of each statement, or stop it
\q            leave (also Ctrl-D)
\?            this help
A statement ends with ; and Ctrl-C cancels it.
";

impl Shell {
    /// Runs a backslash command, given without its backslash.
    pub(super) async fn command(&mut self, text: &str) -> Outcome {
        let text = text.trim().trim_end_matches(';').trim_end();
        let (name, argument) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match (name, argument.trim()) {
            ("q", "") => Outcome::Quit,
            ("?", "") => self.print(HELP),
            ("d", "") => self.list_tables().await,
            ("d", table) => self.list_columns(table).await,
            ("dn", "") => self.list_schemas().await,
            ("l", "") => self.list_catalogs().await,
            ("i", "") => self.fail(&Error::invalid_input(r"\i needs the name of a file")),
            ("i", file) => match super::read_script(Path::new(file)) {
                Ok(script) => self.script(Some(file), &script).await,
                Err(error) => self.fail(&error),
            },
            ("format", format) => self.set_format(format),
            ("x", value) => {
                let expanded = switched(self.view.expanded, value);
                self.switch("expanded", expanded, |shell, on| shell.view.expanded = on)
            }
            ("timing", value) => {
                let timing = switched(self.view.timing, value);
                self.switch("timing", timing, |shell, on| shell.view.timing = on)
            }
            _ => self.fail(
                &Error::invalid_input(format!(r"there is no command \{text}")).with_hint(r"\? lists the commands"),
            ),
        }
    }

    fn set_format(&mut self, name: &str) -> Outcome {
        match Format::from_str(name, true) {
            Ok(format) => {
                self.view.format = format;
                Outcome::Done
            }
            Err(_) => self.fail(
                &Error::invalid_input(format!("there is no format '{name}'"))
                    .with_hint("the formats are table, csv, json and arrow"),
            ),
        }
    }

    fn switch(&mut self, what: &str, value: Result<bool>, set: impl FnOnce(&mut Self, bool)) -> Outcome {
        match value {
            Ok(on) => {
                set(self, on);
                self.note(&format!("{what} is {}", if on { "on" } else { "off" }));
                Outcome::Done
            }
            Err(error) => self.fail(&error),
        }
    }

    async fn list_catalogs(&mut self) -> Outcome {
        let (service, session) = self.asked();
        match self.until_interrupt(service.catalogs(&session)).await {
            Ok(catalogs) => self.print_list(&["catalog"], catalogs.into_iter().map(|name| [name]).collect()),
            Err(outcome) => outcome,
        }
    }

    async fn list_schemas(&mut self) -> Outcome {
        let (service, session) = self.asked();
        let listing = async {
            let place = Place::of(&*service, &session).await?;
            service.schemas(&session, Some(&place.catalog), None).await
        };
        match self.until_interrupt(listing).await {
            Ok(schemas) => self.print_list(
                &["catalog", "schema"],
                schemas.into_iter().map(|(catalog, name)| [catalog, name]).collect(),
            ),
            Err(outcome) => outcome,
        }
    }

    async fn list_tables(&mut self) -> Outcome {
        let (service, session) = self.asked();
        let listing = async {
            let place = Place::of(&*service, &session).await?;
            let filter = TableFilter {
                catalog: Some(place.catalog),
                schema_pattern: Some(place.schema.clone()),
                ..TableFilter::default()
            };
            let tables = service.tables(&session, &filter).await?;
            // The pattern takes the schema's own _ and % for wildcards.
            Ok(tables.into_iter().filter(|entry| entry.schema == place.schema).collect::<Vec<_>>())
        };
        match self.until_interrupt(listing).await {
            Ok(tables) => {
                let rows = tables.into_iter().map(|entry| [entry.schema, entry.table, entry.kind]).collect();
                self.print_list(&["schema", "table", "kind"], rows)
            }
            Err(outcome) => outcome,
        }
    }

    async fn list_columns(&mut self, name: &str) -> Outcome {
        let (service, session) = self.asked();
        let table = match self.until_interrupt(find_table(&*service, &session, name)).await {
            Ok(table) => table,
            Err(outcome) => return outcome,
        };
        let fields = table.columns.iter().flat_map(|schema| schema.fields());
        let row = |field: &arrow::datatypes::FieldRef| {
            let nullable = if field.is_nullable() { "yes" } else { "no" };
            [field.name().clone(), field.data_type().to_string(), nullable.to_string()]
        };
        self.print_list(&["column", "type", "nullable"], fields.map(row).collect())
    }

    fn print_list<const N: usize>(&mut self, names: &[&str; N], rows: Vec<[String; N]>) -> Outcome {
        let column =
            |at: usize| Arc::new(rows.iter().map(|row| Some(row[at].as_str())).collect::<StringArray>()) as ArrayRef;
        let columns = names.iter().enumerate().map(|(at, name)| (*name, column(at)));
        match RecordBatch::try_from_iter(columns) {
            Ok(batch) => self.print_batch(&batch),
            Err(error) => self.fail(&Error::internal(format!("a list cannot be made: {error}")).with_source(error)),
        }
    }

    /// The service and session, for work that is waited for through `self`.
    fn asked(&self) -> (Arc<dyn QueryService>, SessionId) {
        (Arc::clone(&self.service), self.session.clone())
    }
}

/// Where unqualified names are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) catalog: String,
    pub(super) schema: String,
}

impl Place {
    /// The place of a session.
    pub(super) async fn of(service: &dyn QueryService, session: &SessionId) -> Result<Self> {
        let mut place = Self::default();
        for (key, value) in service.options(session).await? {
            match key.as_str() {
                "catalog" => place.catalog = value,
                "schema" => place.schema = value,
                _ => {}
            }
        }
        Ok(place)
    }
}

/// The table that `name` means, with its columns.
async fn find_table(service: &dyn QueryService, session: &SessionId, name: &str) -> Result<TableEntry> {
    let mut parts = name_parts(name)?;
    let place = Place::of(service, session).await?;
    let not_found = || Error::not_found(format!("table '{name}' not found")).with_hint(r"\d lists the tables");
    let table = parts.pop().ok_or_else(not_found)?;
    let schema = parts.pop().unwrap_or(place.schema);
    let catalog = parts.pop().unwrap_or(place.catalog);
    let filter = TableFilter {
        catalog: Some(catalog),
        schema_pattern: Some(schema.clone()),
        table_pattern: Some(table.clone()),
        kinds: Vec::new(),
        with_columns: true,
    };
    let tables = service.tables(session, &filter).await?;
    tables.into_iter().find(|entry| entry.schema == schema && entry.table == table).ok_or_else(not_found)
}

/// `catalog.schema.table` in one to three parts, each as the engine sees it.
fn name_parts(name: &str) -> Result<Vec<String>> {
    let invalid = || {
        Error::invalid_input(format!("'{name}' is not the name of a table"))
            .with_hint("names look like table, schema.table or catalog.schema.table")
    };
    let mut parts = Vec::new();
    for (at, token) in lexer::tokens(name).iter().enumerate() {
        let is_part = matches!(token.kind, Kind::Word | Kind::QuotedName) && !token.open;
        match at % 2 {
            0 if is_part => parts.push(lexer::unquote(token.text)),
            1 if token.text == "." => {}
            _ => return Err(invalid()),
        }
    }
    if parts.is_empty() || parts.len() > 3 || name.ends_with('.') { Err(invalid()) } else { Ok(parts) }
}

/// The state of a switch after `\x`, `\x on` or `\x off`.
fn switched(now: bool, value: &str) -> Result<bool> {
    match value {
        "" => Ok(!now),
        "on" => Ok(true),
        "off" => Ok(false),
        other => Err(Error::invalid_input(format!("'{other}' is neither on nor off"))),
    }
}
