//! OPTIONS of one statement, which stand for those that tables of streams have.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use tereza_runtime::{Error, Result};

use crate::catalogs::{HintedCatalogs, OptionHints};
use crate::flink::{self, FlinkStatement, Hint, HintTarget};
use crate::session::Session;
use crate::statement::parse::{Scope, Text};

/// Whether a session lets statements change options.
const ENABLED: &str = "table.dynamic-table-options.enabled";
/// Hints that say how a batch is joined: they change no answer, and joins find their own way.
const ADVICE: [&str; 4] = ["BROADCAST", "NEST_LOOP", "SHUFFLE_HASH", "SHUFFLE_MERGE"];

/// What the hints of a statement say.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Of the table that INSERT writes.
    pub(super) target: BTreeMap<String, String>,
    /// Of the tables that are read.
    sources: OptionHints,
}

impl Hints {
    /// The hints in a text of Flink's SQL; others have none.
    pub(super) fn of(session: &Session, text: &Text) -> Result<Self> {
        if !text.scope.is_flink || !text.sql.contains("/*+") {
            return Ok(Self::default());
        }
        let mut hints = Self::default();
        let mut read = |statement: FlinkStatement| -> Result<()> {
            match statement {
                FlinkStatement::Query(query) => hints.read(&text.scope, &query.hints),
                FlinkStatement::Insert(insert) => {
                    hints.target = insert.options;
                    hints.read(&text.scope, &insert.query.hints)
                }
                _ => Err(Error::unsupported("hints in a statement that is no query and no INSERT")),
            }
        };
        match flink::parse(&text.sql)? {
            FlinkStatement::Explain(explain) => read(*explain.statement)?,
            statement => read(statement)?,
        }
        let is_enabled = session.stream_setting(ENABLED).is_none_or(|value| !value.eq_ignore_ascii_case("false"));
        let has_some = !hints.target.is_empty() || !hints.sources.is_empty();
        if has_some && !is_enabled {
            return Err(Error::denied(format!("the hint OPTIONS: the session has '{ENABLED}' = 'false'")));
        }
        Ok(hints)
    }

    fn read(&mut self, scope: &Scope, hints: &[Hint]) -> Result<()> {
        for hint in hints {
            let HintTarget::Table(parts, place) = &hint.target else {
                if ADVICE.contains(&hint.name.as_str()) {
                    continue;
                }
                return Err(Error::unsupported(format!("the hint {}", hint.name)));
            };
            if hint.name != "OPTIONS" {
                return Err(Error::unsupported(format!("the hint {} on a table", hint.name)).with_location(*place));
            }
            let name = scope.stream_name(parts.clone())?;
            let options = hint.options()?;
            let known =
                self.sources.entry((name.schema.clone(), name.table.clone())).or_insert_with(|| options.clone());
            if *known != options {
                let error = Error::unsupported(format!("two hints OPTIONS with other values on {name}"));
                return Err(error.with_location(*place));
            }
        }
        Ok(())
    }

    /// The session's state in which the tables that are read have these options.
    pub(super) fn state(self, session: &Session) -> SessionState {
        let state = session.context.state();
        if self.sources.is_empty() {
            return state;
        }
        let catalogs = HintedCatalogs::new(session.catalogs(), self.sources);
        let mut state = SessionStateBuilder::new_from_existing(state).with_catalog_list(Arc::new(catalogs)).build();
        if flink::is_spoken(state.config()) {
            flink::register_functions(&mut state);
        }
        state
    }
}
