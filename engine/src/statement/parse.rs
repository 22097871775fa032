//! Text to a statement: one of Tereza's own ([`Own`]), or one of DataFusion's.
//!
//! The text is cut into tokens once. The words at its beginning say whose statement it is; Tereza's own grammar (Hive's,
//! Spark's and Presto's forms, which DataFusion's parser lacks) is read with a [`Reader`], everything else by DataFusion's
//! parser from the same tokens. A statement about a table of the session itself (catalog `memory`) is DataFusion's.

use std::collections::HashSet;
use std::fmt;

use datafusion::common::TableReference;
use datafusion::common::config::{Dialect as DialectName, SqlParserOptions};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, dialect_from_str};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use tereza_runtime::{Error, Result};

use super::READ_ONLY_CATALOGS;
use super::analyze::Analyze;
use super::call::Call;
use super::ddl::Ddl;
use super::describe::Describe;
use super::errors;
use super::insert;
use super::parameters;
use super::session::SessionStatement;
use super::show::Show;
use super::stream::{self, StreamStatement};
use super::view::{CreateView, DropView};
use crate::catalogs::{MEMORY_CATALOG, MEMORY_SCHEMA};
use crate::flink::{self, FlinkDialect};
use crate::session::{Session, USER_CATALOG};
use crate::syntax::check_chains;

/// A statement that was read.
pub(super) enum Parsed {
    /// One that Tereza does itself.
    Own(Own),
    /// One that DataFusion plans.
    DataFusion(Statement),
}

/// A statement that Tereza does itself.
pub(super) enum Own {
    Ddl(Box<Ddl>),
    CreateView(Box<CreateView>),
    DropView(DropView),
    Show(Show),
    Describe(Describe),
    Analyze(Analyze),
    Call(Call),
    Session(SessionStatement),
    Stream(Box<StreamStatement>),
}

/// Who keeps a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// The catalog of tables over files.
    Tereza,
    /// The session itself, in memory.
    Session,
    /// Tereza, and nobody may change it.
    ReadOnly,
}

impl Home {
    /// Who keeps the catalog of this name.
    pub(super) fn of(catalog: &str) -> Self {
        match catalog {
            USER_CATALOG => Self::Tereza,
            name if READ_ONLY_CATALOGS.contains(&name) => Self::ReadOnly,
            _ => Self::Session,
        }
    }
}

/// A table's name with every part said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableName {
    pub(super) catalog: String,
    pub(super) schema: String,
    pub(super) table: String,
}

impl TableName {
    /// Who keeps it.
    pub(super) fn home(&self) -> Home {
        if self.schema == "information_schema" { Home::ReadOnly } else { Home::of(&self.catalog) }
    }

    /// The same for DataFusion.
    pub(super) fn reference(&self) -> TableReference {
        TableReference::full(self.catalog.as_str(), self.schema.as_str(), self.table.as_str())
    }

    /// Refuses a table that `what` cannot be done with because of its catalog.
    pub(super) fn require_tereza(&self, what: &str) -> Result<()> {
        match self.home() {
            Home::Tereza => Ok(()),
            Home::ReadOnly => Err(read_only(&self.to_string(), what)),
            Home::Session => Err(Error::unsupported(format!(
                "{what} works on tables of catalog '{USER_CATALOG}', and {self} is a table of the session"
            ))),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.catalog, self.schema, self.table)
    }
}

/// A schema's name with its catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SchemaName {
    pub(super) catalog: String,
    pub(super) schema: String,
}

impl SchemaName {
    /// Who keeps it.
    pub(super) fn home(&self) -> Home {
        if self.schema == "information_schema" { Home::ReadOnly } else { Home::of(&self.catalog) }
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.catalog, self.schema)
    }
}

/// The error for changing what is generated or observed.
pub(super) fn read_only(name: &str, what: &str) -> Error {
    Error::denied(format!("{what}: {name} is read-only"))
        .with_hint(format!("tables can be made in catalog '{USER_CATALOG}'"))
}

/// What the parts of a name mean in a session at this moment, and how its text is read.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) catalog: String,
    pub(super) schema: String,
    pub(super) dialect: DialectName,
    recursion_limit: usize,
    /// Whether `1.5` is a DECIMAL and not a DOUBLE.
    pub(super) floats_are_decimals: bool,
    /// Whether names without quotes are lower-cased.
    pub(super) normalize: bool,
    /// Whether the words are Flink's.
    pub(super) is_flink: bool,
    /// Names of temporary tables, which a name of one part means first; empty when the session's own catalog is current.
    pub(super) temporary: HashSet<String>,
}

impl Scope {
    /// The scope of a session now.
    pub(super) fn of(session: &Session) -> Self {
        let state = session.context.state();
        let options = state.config_options();
        let catalog = options.catalog.default_catalog.clone();
        let temporary = match Home::of(&catalog) {
            Home::Session => HashSet::new(),
            Home::Tereza | Home::ReadOnly => session
                .context
                .catalog(MEMORY_CATALOG)
                .and_then(|catalog| catalog.schema(MEMORY_SCHEMA))
                .map(|schema| schema.table_names().into_iter().collect())
                .unwrap_or_default(),
        };
        Self {
            catalog,
            schema: options.catalog.default_schema.clone(),
            dialect: options.sql_parser.dialect,
            is_flink: flink::is_spoken(state.config()),
            recursion_limit: options.sql_parser.recursion_limit.get(),
            floats_are_decimals: options.sql_parser.parse_float_as_decimal,
            normalize: options.sql_parser.enable_ident_normalization,
            temporary,
        }
    }

    /// A scope without a session, in which a text always means the same.
    pub(super) fn fixed(catalog: &str, schema: &str, dialect: DialectName) -> Self {
        let parser = SqlParserOptions::default();
        Self {
            catalog: catalog.into(),
            schema: schema.into(),
            dialect,
            is_flink: false,
            recursion_limit: parser.recursion_limit.get(),
            floats_are_decimals: true,
            normalize: true,
            temporary: HashSet::new(),
        }
    }

    /// The table that these parts name.
    pub(super) fn table(&self, parts: Vec<String>) -> Result<TableName> {
        match parts.as_slice() {
            [table] if self.temporary.contains(table) => Ok(Self::temporary_table(table.clone())),
            _ => self.stream_name(parts),
        }
    }

    /// The table of a stream that these parts name: none of the session's own tables, whatever their names.
    pub(super) fn stream_name(&self, mut parts: Vec<String>) -> Result<TableName> {
        let described = parts.join(".");
        let table = parts.pop().unwrap_or_default();
        let schema = parts.pop();
        let catalog = parts.pop();
        if !parts.is_empty() {
            return Err(Error::invalid_input(format!("name '{described}' has more than three parts")));
        }
        let name = TableName {
            catalog: catalog.unwrap_or_else(|| self.catalog.clone()),
            schema: schema.unwrap_or_else(|| self.schema.clone()),
            table,
        };
        Ok(match name.home() {
            Home::Session => name,
            Home::Tereza | Home::ReadOnly => {
                TableName { schema: name.schema.to_lowercase(), table: name.table.to_lowercase(), ..name }
            }
        })
    }

    /// The schema that these parts name.
    pub(super) fn schema(&self, mut parts: Vec<String>) -> Result<SchemaName> {
        let described = parts.join(".");
        let schema = parts.pop().unwrap_or_default();
        let catalog = parts.pop().unwrap_or_else(|| self.catalog.clone());
        if !parts.is_empty() {
            return Err(Error::invalid_input(format!("name '{described}' of a schema has more than two parts")));
        }
        let schema = if Home::of(&catalog) == Home::Session { schema } else { schema.to_lowercase() };
        Ok(SchemaName { catalog, schema })
    }

    /// Where a temporary table of this name is.
    pub(super) fn temporary_table(table: String) -> TableName {
        TableName { catalog: MEMORY_CATALOG.into(), schema: MEMORY_SCHEMA.into(), table }
    }

    /// The parts of a name as the parser read it.
    pub(super) fn parts(&self, name: &ObjectName) -> Result<Vec<String>> {
        name.0
            .iter()
            .map(|part| match part.as_ident() {
                Some(ident) => Ok(self.identifier(ident)),
                None => Err(Error::invalid_input(format!("'{part}' cannot be part of a name"))),
            })
            .collect()
    }

    /// A name without quotes in lower case (unless the session wants otherwise), one in quotes as it is.
    pub(super) fn identifier(&self, ident: &Ident) -> String {
        if self.normalize && ident.quote_style.is_none() { ident.value.to_lowercase() } else { ident.value.clone() }
    }

    /// The parser's rules of the session's dialect. Not kept anywhere: it cannot be sent to another thread.
    pub(super) fn rules(&self) -> Box<dyn Dialect> {
        if self.is_flink {
            return Box::new(FlinkDialect);
        }
        dialect_from_str(self.dialect).unwrap_or_else(|| Box::new(GenericDialect {}))
    }
}

/// A statement's text and its tokens.
pub(super) struct Text {
    pub(super) sql: String,
    pub(super) scope: Scope,
    pub(super) tokens: Vec<TokenWithSpan>,
    /// Names of the parameters in order, `$1`, `$2`, … or `$name`; each `?` became the next number.
    pub(super) placeholders: Vec<String>,
}

impl Text {
    /// Cuts a text into tokens.
    pub(super) fn new(sql: &str, scope: Scope) -> Result<Self> {
        let tokens = Tokenizer::new(scope.rules().as_ref(), sql)
            .tokenize_with_location()
            .map_err(|error| errors::syntax(sql, &[], &ParserError::from(error)))?;
        Self::of_tokens(sql, scope, tokens)
    }

    /// A text that was cut into tokens by other rules than those of the scope.
    pub(super) fn of_tokens(sql: &str, scope: Scope, mut tokens: Vec<TokenWithSpan>) -> Result<Self> {
        check_chains(&tokens)?;
        let placeholders = parameters::number(&mut tokens)?;
        Ok(Self { sql: sql.into(), scope, tokens, placeholders })
    }

    /// Reads the one statement of the text.
    pub(super) fn parse(&self) -> Result<Parsed> {
        match stream::parse(self)? {
            Some(statement) => Ok(Parsed::Own(Own::Stream(Box::new(statement)))),
            None => self.parse_otherwise(),
        }
    }

    /// Reads the one statement of the text as one that is not about streams.
    pub(super) fn parse_otherwise(&self) -> Result<Parsed> {
        let rules = self.scope.rules();
        let mut reader = Reader::new(self, rules.as_ref());
        match own(&mut reader)? {
            Some(own) => {
                reader.end()?;
                Ok(Parsed::Own(own))
            }
            None => Ok(Parsed::DataFusion(self.datafusion(insert::columns_first(&self.tokens))?)),
        }
    }

    /// Reads one statement from tokens (of this text, perhaps in another order) with DataFusion's parser.
    pub(super) fn datafusion(&self, tokens: Vec<TokenWithSpan>) -> Result<Statement> {
        let rules = self.scope.rules();
        let mut statements = DFParserBuilder::new(tokens)
            .with_dialect(rules.as_ref())
            .with_recursion_limit(self.scope.recursion_limit)
            .build()
            .and_then(|mut parser| parser.parse_statements())
            .map_err(|error| errors::of_parser(&self.sql, &self.tokens, error))?;
        match (statements.pop_front(), statements.is_empty()) {
            (None, _) => Err(Error::invalid_input("the statement is empty")),
            (Some(statement), true) => Ok(statement),
            (Some(_), false) => Err(one_at_a_time()),
        }
    }
}

fn one_at_a_time() -> Error {
    Error::invalid_input("the text has more than one statement").with_hint("send them one at a time")
}

/// Reads one of Tereza's own statements; `None` if it is DataFusion's.
fn own(reader: &mut Reader<'_>) -> Result<Option<Own>> {
    let Some(word) = reader.word() else { return Ok(None) };
    match word.as_str() {
        "CREATE" | "DROP" | "ALTER" | "TRUNCATE" | "MSCK" => super::ddl::parse(reader),
        "SHOW" => Ok(super::show::parse(reader)?.map(Own::Show)),
        "DESCRIBE" | "DESC" => Ok(super::describe::parse(reader)?.map(Own::Describe)),
        "ANALYZE" => Ok(Some(Own::Analyze(super::analyze::parse(reader)?))),
        "CALL" => {
            reader.expect("CALL")?;
            Ok(Some(Own::Call(Call::parse(reader)?)))
        }
        _ => Ok(super::session::parse(reader)?.map(Own::Session)),
    }
}

/// Reads Tereza's own grammar from the tokens of a text.
pub(super) struct Reader<'a> {
    pub(super) text: &'a Text,
    pub(super) parser: Parser<'a>,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `text`.
    pub(super) fn new(text: &'a Text, rules: &'a dyn Dialect) -> Self {
        let parser = Parser::new(rules)
            .with_recursion_limit(text.scope.recursion_limit)
            .with_tokens_with_locations(text.tokens.clone());
        Self { text, parser }
    }

    /// The next token if it is a word without quotes, in upper case; it is not consumed.
    pub(super) fn word(&self) -> Option<String> {
        match &self.parser.peek_token_ref().token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        }
    }

    /// Whether the next tokens are these words (parted by spaces); nothing is consumed.
    pub(super) fn at(&self, words: &str) -> bool {
        words.split(' ').enumerate().all(|(n, word)| match &self.parser.peek_nth_token_ref(n).token {
            Token::Word(found) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
            _ => false,
        })
    }

    /// Consumes these words if they are next, all of them or none.
    pub(super) fn take(&mut self, words: &str) -> bool {
        let found = self.at(words);
        if found {
            for _ in words.split(' ') {
                self.parser.advance_token();
            }
        }
        found
    }

    /// Consumes the first of the choices that is next, and says which.
    pub(super) fn take_one<'w>(&mut self, choices: &[&'w str]) -> Option<&'w str> {
        choices.iter().copied().find(|words| self.take(words))
    }

    /// Consumes these words or fails.
    pub(super) fn expect(&mut self, words: &str) -> Result<()> {
        if self.take(words) { Ok(()) } else { Err(self.expected(words)) }
    }

    /// Consumes the token if it is next.
    pub(super) fn take_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    /// Whether this token is next.
    pub(super) fn at_token(&self, token: &Token) -> bool {
        self.parser.peek_token_ref().token == *token
    }

    /// Consumes the token or fails.
    pub(super) fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.take_token(token) { Ok(()) } else { Err(self.expected(&token.to_string())) }
    }

    /// The error that something else was expected here.
    pub(super) fn expected(&self, what: &str) -> Error {
        match self.parser.expected_ref::<()>(what, self.parser.peek_token_ref()) {
            Ok(()) => Error::internal("the parser expected something and did not say so"),
            Err(error) => self.syntax(&error),
        }
    }

    /// An error at the next token.
    pub(super) fn refuse(&self, error: Error) -> Error {
        let start = self.parser.peek_token_ref().span.start;
        if start.line == 0 {
            return error;
        }
        error.with_location(tereza_runtime::Location { line: start.line, column: start.column })
    }

    fn syntax(&self, error: &ParserError) -> Error {
        errors::syntax(&self.text.sql, &self.text.tokens, error)
    }

    /// A name of one part.
    pub(super) fn identifier(&mut self) -> Result<String> {
        match self.parser.parse_identifier() {
            Ok(ident) => Ok(self.text.scope.identifier(&ident)),
            Err(error) => Err(self.syntax(&error)),
        }
    }

    /// The parts of a name.
    pub(super) fn parts(&mut self) -> Result<Vec<String>> {
        match self.parser.parse_object_name(false) {
            Ok(name) => self.text.scope.parts(&name),
            Err(error) => Err(self.syntax(&error)),
        }
    }

    /// A table's name.
    pub(super) fn table_name(&mut self) -> Result<TableName> {
        let parts = self.parts()?;
        self.text.scope.table(parts)
    }

    /// A schema's name.
    pub(super) fn schema_name(&mut self) -> Result<SchemaName> {
        let parts = self.parts()?;
        self.text.scope.schema(parts)
    }

    /// A text in quotes.
    pub(super) fn text(&mut self) -> Result<String> {
        match &self.parser.peek_token_ref().token {
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) | Token::EscapedStringLiteral(text) => {
                let text = text.clone();
                self.parser.advance_token();
                Ok(text)
            }
            Token::Word(word) if word.quote_style == Some('"') => {
                let text = word.value.clone();
                self.parser.advance_token();
                Ok(text)
            }
            _ => Err(self.expected("a text in quotes")),
        }
    }

    /// The text of a literal: a text in quotes, a number, TRUE or FALSE; none for NULL.
    pub(super) fn literal(&mut self) -> Result<Option<String>> {
        if self.take("NULL") {
            return Ok(None);
        }
        if let Some(word) = self.take_one(&["TRUE", "FALSE"]) {
            return Ok(Some(word.to_lowercase()));
        }
        let sign = if self.take_token(&Token::Minus) { "-" } else { "" };
        match &self.parser.peek_token_ref().token {
            Token::Number(number, _) => {
                let number = format!("{sign}{number}");
                self.parser.advance_token();
                Ok(Some(number))
            }
            _ if !sign.is_empty() => Err(self.expected("a number")),
            _ => self.text().map(Some),
        }
    }

    /// A query.
    pub(super) fn query(&mut self) -> Result<Box<Query>> {
        self.parser.parse_query().map_err(|error| self.syntax(&error))
    }

    /// Something in parentheses, once or more, parted by commas.
    pub(super) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_token(&Token::LParen)?;
        let mut items = Vec::new();
        loop {
            items.push(item(self)?);
            if !self.take_token(&Token::Comma) {
                break;
            }
        }
        if self.take_token(&Token::RParen) { Ok(items) } else { Err(self.expected("',' or ')'")) }
    }

    /// The end of the statement.
    pub(super) fn end(&mut self) -> Result<()> {
        let mut ended = false;
        while self.take_token(&Token::SemiColon) {
            ended = true;
        }
        match (self.at_token(&Token::EOF), ended) {
            (true, _) => Ok(()),
            (false, true) => Err(one_at_a_time()),
            (false, false) => Err(self.expected("end of statement")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A scope as a new session has it.
    pub(in crate::statement) fn scope() -> Scope {
        Scope {
            floats_are_decimals: true,
            catalog: USER_CATALOG.into(),
            schema: "default".into(),
            dialect: DialectName::Generic,
            recursion_limit: 50,
            normalize: true,
            is_flink: false,
            temporary: HashSet::from(["scratch".to_owned()]),
        }
    }

    fn parse(sql: &str) -> Result<Parsed> {
        Text::new(sql, scope())?.parse()
    }

    #[test]
    fn names_are_resolved_and_lower_cased() {
        let scope = scope();
        let name = |parts: &[&str]| scope.table(parts.iter().map(|part| (*part).to_owned()).collect());
        assert_eq!(name(&["T"]).expect("one part").to_string(), "tereza.default.t");
        assert_eq!(name(&["s", "t"]).expect("two parts").to_string(), "tereza.s.t");
        assert_eq!(name(&["memory", "Main", "T"]).expect("three parts").to_string(), "memory.Main.T");
        assert_eq!(name(&["scratch"]).expect("temporary").to_string(), "memory.public.scratch");
        assert_eq!(name(&["default", "scratch"]).expect("not temporary").to_string(), "tereza.default.scratch");
        assert!(name(&["a", "b", "c", "d"]).is_err());
    }

    #[test]
    fn statements_about_tables_of_the_session_are_datafusions() {
        assert!(matches!(parse("create table memory.public.t (a int)"), Ok(Parsed::DataFusion(_))));
        assert!(matches!(parse("create temporary table t (a int)"), Ok(Parsed::DataFusion(_))));
        assert!(matches!(parse("create table t (a int)"), Ok(Parsed::Own(_))));
        assert!(matches!(parse("select 1;"), Ok(Parsed::DataFusion(_))));
    }

    #[test]
    fn one_statement_at_a_time() {
        for sql in ["select 1; select 2", "use a; use b"] {
            let error = parse(sql).err().expect("two statements");
            assert!(error.message().contains("more than one statement"), "{error}");
        }
        assert!(parse("  ; -- nothing\n").err().expect("nothing").message().contains("empty"));
    }

    #[test]
    fn read_only_catalogs_are_refused_by_name() {
        let error = parse("create table tpch.tiny.t (a int)").err().expect("read-only");
        assert_eq!(error.kind(), tereza_runtime::ErrorKind::Denied);
        assert!(error.message().contains("tpch.tiny.t"), "{error}");
    }
}
