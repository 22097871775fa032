//! Completion at the prompt: SQL words, and names that the service knows, fetched when they are first asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reedline::{Completer, CompletionResult, Span, Suggestion};
use tereza_engine::query::{QueryService, SessionId, TableFilter};
use tereza_runtime::{Result, clock};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::lexer::{self, Kind, Token};
use super::meta::Place;

/// Suggestions shown for one word.
const SUGGESTIONS_MAX: usize = 100;
/// Lists of names that are kept.
const LISTS_MAX: usize = 64;
/// Names kept of one list.
const NAMES_MAX: usize = 5000;
/// Names are fetched again after this, since others may change them.
const NAMES_AGE: Duration = Duration::from_secs(10);
/// A key press waits no longer than this for names.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// After these words comes the name of a table.
const TABLE_WORDS: [&str; 8] = ["from", "join", "into", "update", "table", "describe", "desc", "analyze"];
/// These words after a table's name are no alias of it.
const NOT_ALIASES: [&str; 22] = [
    "on",
    "using",
    "where",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "join",
    "inner",
    "left",
    "right",
    "full",
    "cross",
    "natural",
    "union",
    "except",
    "intersect",
    "set",
    "values",
    "select",
    "lateral",
];

/// The names of a session, as lists that are kept for a moment. Its methods block, and must not be called from within
/// the runtime.
#[derive(Clone)]
pub(super) struct Names {
    service: Arc<dyn QueryService>,
    session: SessionId,
    runtime: Handle,
    lists: Arc<Mutex<HashMap<List, Fetched>>>,
}

/// When names were fetched, and which.
type Fetched = (Instant, Arc<[String]>);

/// Which names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum List {
    /// The current catalog and the current schema.
    Place,
    Catalogs,
    Schemas {
        catalog: String,
    },
    Tables {
        catalog: String,
        schema: String,
    },
    Columns {
        catalog: String,
        schema: String,
        table: String,
    },
}

impl Names {
    pub(super) fn new(service: Arc<dyn QueryService>, session: SessionId, runtime: Handle) -> Self {
        Self { service, session, runtime, lists: Arc::default() }
    }

    /// Fetches everything anew from now on.
    pub(super) fn forget(&self) {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The names, or none where the service does not say them in time.
    fn list(&self, list: List) -> Arc<[String]> {
        let kept = self.lists.lock().unwrap_or_else(PoisonError::into_inner).get(&list).cloned();
        if let Some((fetched, names)) = kept
            && fetched.elapsed() < NAMES_AGE
        {
            return names;
        }
        let fetched = self.runtime.block_on(async { timeout(LOOKUP_TIMEOUT, self.fetch(&list)).await });
        let Ok(Ok(mut names)) = fetched else { return Arc::default() };
        names.truncate(NAMES_MAX);
        let names: Arc<[String]> = names.into();
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= LISTS_MAX {
            lists.clear();
        }
        lists.insert(list, (clock::now(), Arc::clone(&names)));
        names
    }

    async fn fetch(&self, list: &List) -> Result<Vec<String>> {
        let (service, session) = (&self.service, &self.session);
        match list {
            List::Place => {
                let place = Place::of(&**service, session).await?;
                Ok(vec![place.catalog, place.schema])
            }
            List::Catalogs => service.catalogs(session).await,
            List::Schemas { catalog } => {
                let schemas = service.schemas(session, Some(catalog), None).await?;
                Ok(schemas.into_iter().map(|(_, schema)| schema).collect())
            }
            List::Tables { catalog, schema } => {
                let filter = TableFilter {
                    catalog: Some(catalog.clone()),
                    schema_pattern: Some(schema.clone()),
                    ..TableFilter::default()
                };
                let tables = service.tables(session, &filter).await?;
                Ok(tables.into_iter().filter(|entry| entry.schema == *schema).map(|entry| entry.table).collect())
            }
            List::Columns { catalog, schema, table } => {
                let filter = TableFilter {
                    catalog: Some(catalog.clone()),
                    schema_pattern: Some(schema.clone()),
                    table_pattern: Some(table.clone()),
                    kinds: Vec::new(),
                    with_columns: true,
                };
                let tables = service.tables(session, &filter).await?;
                let found = tables.into_iter().find(|entry| entry.schema == *schema && entry.table == *table);
                let columns = found.and_then(|entry| entry.columns);
                Ok(columns.iter().flat_map(|columns| columns.fields()).map(|field| field.name().clone()).collect())
            }
        }
    }

    fn place(&self) -> Place {
        match &*self.list(List::Place) {
            [catalog, schema] => Place { catalog: catalog.clone(), schema: schema.clone() },
            _ => Place::default(),
        }
    }

    fn schemas(&self, catalog: &str) -> Arc<[String]> {
        self.list(List::Schemas { catalog: catalog.to_string() })
    }

    fn tables(&self, catalog: &str, schema: &str) -> Arc<[String]> {
        self.list(List::Tables { catalog: catalog.to_string(), schema: schema.to_string() })
    }

    /// Columns of a table named by one to three parts.
    fn columns(&self, name: &[String]) -> Arc<[String]> {
        let place = self.place();
        let (catalog, schema, table) = match name {
            [table] => (place.catalog, place.schema, table.clone()),
            [schema, table] => (place.catalog, schema.clone(), table.clone()),
            [catalog, schema, table] => (catalog.clone(), schema.clone(), table.clone()),
            _ => return Arc::default(),
        };
        self.list(List::Columns { catalog, schema, table })
    }
}

/// Completes the word at the cursor.
pub(super) struct SqlCompleter {
    names: Names,
    words: Vec<String>,
}

/// The word at the cursor: `a.b.pre` has the qualifiers `a`, `b` and the prefix `pre`.
struct Word<'a> {
    qualifiers: Vec<String>,
    prefix: &'a str,
    start: usize,
    follows_table_word: bool,
}

/// A table that a statement names, with what else it may be called in it.
struct Relation {
    name: Vec<String>,
    alias: Option<String>,
}

impl SqlCompleter {
    /// A completer of these keywords and functions and of `names`.
    pub(super) fn new(words: &[String], names: Names) -> Self {
        let mut words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        words.sort();
        words.dedup();
        Self { names, words }
    }

    fn suggest(&self, text: &str, cursor: usize) -> Vec<Suggestion> {
        let Some(word) = word_at(text, cursor) else { return Vec::new() };
        let is_command = text.trim_start().starts_with('\\');
        let mut found = Found::new(&word, cursor);
        match word.qualifiers.as_slice() {
            [] => {
                let place = self.names.place();
                if !word.follows_table_word && !is_command {
                    for relation in relations(text, cursor) {
                        found.names(&self.names.columns(&relation.name));
                    }
                    found.words(&self.words);
                }
                found.names(&self.names.tables(&place.catalog, &place.schema));
                found.names(&self.names.schemas(&place.catalog));
                found.names(&self.names.list(List::Catalogs));
            }
            [qualifier] => {
                let of_qualifier = |relation: &Relation| relation.is_called(qualifier);
                if let Some(relation) = relations(text, cursor).iter().find(|relation| of_qualifier(relation)) {
                    found.names(&self.names.columns(&relation.name));
                }
                found.names(&self.names.tables(&self.names.place().catalog, qualifier));
                found.names(&self.names.schemas(qualifier));
            }
            [first, second] => {
                found.names(&self.names.tables(first, second));
                found.names(&self.names.columns(&word.qualifiers));
            }
            qualifiers => found.names(&self.names.columns(qualifiers)),
        }
        found.suggestions
    }
}

impl Completer for SqlCompleter {
    fn complete(&mut self, text: &str, cursor: usize) -> CompletionResult {
        CompletionResult::fresh(self.suggest(text, cursor))
    }
}

impl Relation {
    fn is_called(&self, name: &str) -> bool {
        match &self.alias {
            Some(alias) => alias == name,
            None => self.name.last().is_some_and(|table| table == name),
        }
    }
}

/// Collects what begins like the word, each once, up to the bound.
struct Found<'a> {
    prefix: &'a str,
    lower_prefix: String,
    span: Span,
    suggestions: Vec<Suggestion>,
}

impl<'a> Found<'a> {
    fn new(word: &Word<'a>, cursor: usize) -> Self {
        let lower_prefix = lexer::unquote(word.prefix).to_lowercase();
        Self { prefix: word.prefix, lower_prefix, span: Span::new(word.start, cursor), suggestions: Vec::new() }
    }

    /// Keywords and functions, in the case in which the word is typed. Nothing typed suggests none: they are too many.
    fn words(&mut self, words: &[String]) {
        let is_upper = self.prefix.chars().any(char::is_uppercase) && !self.prefix.chars().any(char::is_lowercase);
        if self.prefix.is_empty() || self.prefix.starts_with(['"', '`']) {
            return;
        }
        for word in words {
            if word.starts_with(&self.lower_prefix) {
                self.push(if is_upper { word.to_uppercase() } else { word.clone() });
            }
        }
    }

    fn names(&mut self, names: &[String]) {
        for name in names {
            if name.to_lowercase().starts_with(&self.lower_prefix) {
                self.push(lexer::quote(name));
            }
        }
    }

    fn push(&mut self, value: String) {
        let is_new = self.suggestions.iter().all(|suggestion| suggestion.value != value);
        if is_new && self.suggestions.len() < SUGGESTIONS_MAX {
            self.suggestions.push(Suggestion { value, span: self.span, ..Suggestion::default() });
        }
    }
}

/// The word that ends at the cursor, or `None` within a string, a number, a comment or a command's name.
fn word_at(text: &str, cursor: usize) -> Option<Word<'_>> {
    let tokens = lexer::tokens(text.get(..cursor)?);
    let mut rest = tokens.as_slice();
    let mut word = Word { qualifiers: Vec::new(), prefix: "", start: cursor, follows_table_word: false };
    if let Some((last, before)) = rest.split_last() {
        match last.kind {
            Kind::Word => (word.prefix, word.start, rest) = (last.text, last.start, before),
            Kind::QuotedName if last.open => (word.prefix, word.start, rest) = (last.text, last.start, before),
            Kind::Space | Kind::Symbol | Kind::Semicolon => {}
            Kind::QuotedName | Kind::Text | Kind::Number | Kind::Comment => return None,
        }
    }
    if rest.last().is_some_and(|token| token.text == "\\") {
        return None;
    }
    while let [before @ .., name, dot] = rest
        && dot.text == "."
        && is_name(name)
    {
        word.qualifiers.insert(0, lexer::unquote(name.text));
        rest = before;
    }
    let before = rest.iter().rev().find(|token| token.is_significant());
    word.follows_table_word = before.is_some_and(|token| TABLE_WORDS.iter().any(|word| token.is_word(word)));
    Some(word)
}

/// The tables that the statement around the cursor names after `FROM`, `JOIN` and the like.
fn relations(text: &str, cursor: usize) -> Vec<Relation> {
    let tokens: Vec<Token<'_>> = lexer::tokens(text).into_iter().filter(Token::is_significant).collect();
    let is_end = |token: &Token<'_>| token.kind == Kind::Semicolon;
    let first = tokens.iter().rposition(|token| is_end(token) && token.end() <= cursor).map_or(0, |at| at + 1);
    let statement: Vec<Token<'_>> = tokens[first..].iter().take_while(|token| !is_end(token)).copied().collect();

    let mut found = Vec::new();
    let mut rest = statement.as_slice();
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        if !TABLE_WORDS.iter().any(|word| token.is_word(word)) {
            continue;
        }
        while let Some((relation, after)) = relation(rest) {
            found.push(relation);
            rest = after;
            match rest.split_first() {
                Some((comma, after)) if comma.text == "," => rest = after,
                _ => break,
            }
        }
    }
    found
}

/// The table at the start of `tokens`, and what follows it and its alias.
fn relation<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<(Relation, &'t [Token<'a>])> {
    let (first, mut rest) = tokens.split_first().filter(|(first, _)| is_name(first))?;
    let mut name = vec![lexer::unquote(first.text)];
    while let [dot, part, after @ ..] = rest
        && dot.text == "."
        && is_name(part)
    {
        name.push(lexer::unquote(part.text));
        rest = after;
    }
    if let [word, after @ ..] = rest
        && word.is_word("as")
    {
        rest = after;
    }
    let mut alias = None;
    if let [word, after @ ..] = rest
        && is_name(word)
        && !NOT_ALIASES.iter().any(|other| word.is_word(other))
    {
        alias = Some(lexer::unquote(word.text));
        rest = after;
    }
    Some((Relation { name, alias }, rest))
}

fn is_name(token: &Token<'_>) -> bool {
    matches!(token.kind, Kind::Word | Kind::QuotedName) && !token.open
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeService;
    use super::*;

    /// What is suggested at the `|` of a text.
    fn suggested(text: &str) -> Vec<String> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let service = Arc::new(FakeService::default());
        let names = Names::new(service.clone(), SessionId("s".into()), runtime.handle().clone());
        let completer = SqlCompleter::new(&service.words(), names);
        let cursor = text.find('|').unwrap();
        let text = text.replace('|', "");
        let suggestions = completer.suggest(&text, cursor);
        suggestions
            .into_iter()
            .map(|suggestion| format!("{}{}", &text[..suggestion.span.start], suggestion.value))
            .collect()
    }

    #[test]
    fn keywords_follow_the_case_that_is_typed() {
        assert_eq!(suggested("sel|"), ["select"]);
        assert_eq!(suggested("SEL|"), ["SELECT"]);
    }

    #[test]
    fn after_from_come_tables_schemas_and_catalogs_but_no_keywords() {
        assert_eq!(
            suggested("select 1 from |"),
            [
                "select 1 from \"Odd Name\"",
                "select 1 from orders",
                "select 1 from default",
                "select 1 from sales",
                "select 1 from memory",
                "select 1 from tereza",
            ]
        );
        assert_eq!(suggested("select 1 from s|"), ["select 1 from sales"]);
    }

    #[test]
    fn columns_of_the_tables_of_the_statement_come_before_keywords() {
        assert_eq!(suggested("select o_| from orders"), ["select o_id", "select o_total"]);
        assert_eq!(suggested("select 1 from other; select o_i| from orders"), ["select 1 from other; select o_id"]);
        assert!(suggested("select o_i| from other; select 1 from orders").is_empty());
    }

    #[test]
    fn aliases_and_qualified_names_are_followed() {
        assert_eq!(suggested("select x.o_t| from sales.items i join orders as x on 1 = 1"), ["select x.o_total"]);
        assert_eq!(suggested("select i.| from orders, sales.items i where"), ["select i.sku"]);
        assert_eq!(suggested("select * from sales.|"), ["select * from sales.items"]);
        assert_eq!(suggested("select * from tereza.sa|"), ["select * from tereza.sales"]);
        assert_eq!(suggested("select * from tereza.sales.i|"), ["select * from tereza.sales.items"]);
    }

    #[test]
    fn names_that_need_quotes_get_them() {
        assert_eq!(suggested("select * from od|"), ["select * from \"Odd Name\""]);
        assert_eq!(suggested("select * from \"Od|"), ["select * from \"Odd Name\""]);
    }

    #[test]
    fn strings_numbers_and_comments_have_no_completion() {
        for text in ["select 'sel|", "select 1|", "select 1 -- sel|", "select /* sel|", r"\d|"] {
            assert!(suggested(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn backslash_commands_complete_names_only() {
        assert_eq!(suggested(r"\d o|"), [r#"\d "Odd Name""#, r"\d orders"]);
    }

    #[test]
    fn lists_are_kept_until_they_are_forgotten() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let service = Arc::new(FakeService::default());
        let names = Names::new(service.clone(), SessionId("s".into()), runtime.handle().clone());
        names.list(List::Catalogs);
        names.list(List::Catalogs);
        assert_eq!(service.catalog_lookups(), 1);
        names.forget();
        names.list(List::Catalogs);
        assert_eq!(service.catalog_lookups(), 2);
    }
}
