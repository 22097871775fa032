//! A small reader of SQL text for what happens before a statement is sent: colours, completion, knowing at the prompt
//! whether a statement has ended, and splitting a script for a remote server. It knows quotes and comments and nothing
//! of grammar; the engine's parser alone says what is right.

use tereza_runtime::{Error, Location, Result};

/// What a piece of SQL text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keyword or plain name.
    Word,
    /// A number as written.
    Number,
    /// `'…'`, `$$…$$`, `$tag$…$tag$`.
    Text,
    /// `"…"` or `` `…` ``.
    QuotedName,
    /// `-- …` to the end of the line, or `/* … */`, which nests.
    Comment,
    /// Blanks and line ends.
    Space,
    /// `;`
    Semicolon,
    /// Any other single character.
    Symbol,
}

/// One piece of SQL text. The pieces of a text put together are the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its text, quotes included.
    pub(crate) text: &'a str,
    /// Where it starts in the whole text, in bytes.
    pub(crate) start: usize,
    /// Whether its quote or comment is still open where the text ends.
    pub(crate) open: bool,
}

impl Token<'_> {
    /// Where it ends in the whole text, in bytes.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it says anything to the engine.
    pub(crate) fn is_significant(&self) -> bool {
        !matches!(self.kind, Kind::Space | Kind::Comment)
    }

    /// Whether it is this keyword, in any case.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }
}

/// The pieces of `sql` in order.
pub(crate) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = sql[start..].chars().next() {
        let (kind, length, open) = next(&sql[start..], first);
        tokens.push(Token { kind, text: &sql[start..start + length], start, open });
        start += length;
    }
    tokens
}

/// Splits a script into its statements, without the `;` between them and without empty ones; a piece of nothing but
/// comments is empty. `InvalidInput` where a quote or comment is not closed.
pub(crate) fn split(sql: &str) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut is_empty = true;
    for token in tokens(sql) {
        if token.open {
            return Err(Error::invalid_input(format!("{} is not closed", opening(&token)))
                .with_location(location(sql, token.start)));
        }
        if token.kind == Kind::Semicolon {
            if !is_empty {
                statements.push(sql[start..token.start].trim().to_string());
            }
            start = token.end();
            is_empty = true;
        } else if token.is_significant() {
            is_empty = false;
        }
    }
    if !is_empty {
        statements.push(sql[start..].trim().to_string());
    }
    Ok(statements)
}

/// Whether the text ends with a `;` outside of quotes and comments.
pub(crate) fn is_ended(sql: &str) -> bool {
    let tokens = tokens(sql);
    let is_open = tokens.last().is_some_and(|token| token.open);
    let last = tokens.iter().rev().find(|token| token.is_significant());
    !is_open && last.is_some_and(|token| token.kind == Kind::Semicolon)
}

/// A name as the engine sees it: quotes taken off, or folded to lower case if it had none.
pub(crate) fn unquote(name: &str) -> String {
    for quote in ['"', '`'] {
        if let Some(inner) = name.strip_prefix(quote) {
            let doubled = format!("{quote}{quote}");
            return inner.strip_suffix(quote).unwrap_or(inner).replace(&doubled, &quote.to_string());
        }
    }
    name.to_lowercase()
}

/// A name as it has to be written: in quotes unless it is a plain lower-case name.
pub(crate) fn quote(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Kind, length in bytes and openness of the piece that `rest` begins with.
fn next(rest: &str, first: char) -> (Kind, usize, bool) {
    if rest.starts_with("--") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return closed_by(Kind::Comment, rest, comment_length(rest));
    }
    match first {
        '\'' => closed_by(Kind::Text, rest, quoted_length(rest, first, false)),
        '"' | '`' => closed_by(Kind::QuotedName, rest, quoted_length(rest, first, false)),
        'e' | 'E' if rest[1..].starts_with('\'') => {
            closed_by(Kind::Text, rest, quoted_length(&rest[1..], '\'', true).map(|length| length + 1))
        }
        '$' => match dollar_tag(rest) {
            Some(tag) => {
                let length = rest[tag.len()..].find(tag).map(|at| at + 2 * tag.len());
                closed_by(Kind::Text, rest, length)
            }
            None => (Kind::Symbol, 1, false),
        },
        ';' => (Kind::Semicolon, 1, false),
        c if c.is_whitespace() => (Kind::Space, length_while(rest, char::is_whitespace), false),
        c if c.is_ascii_digit() => (Kind::Number, number_length(rest), false),
        c if is_word_part(c) => (Kind::Word, length_while(rest, is_word_part), false),
        c => (Kind::Symbol, c.len_utf8(), false),
    }
}

/// A piece that ends after `length`, or is open to the end of the text.
fn closed_by(kind: Kind, rest: &str, length: Option<usize>) -> (Kind, usize, bool) {
    (kind, length.unwrap_or(rest.len()), length.is_none())
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn length_while(rest: &str, is_part: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !is_part(c)).unwrap_or(rest.len())
}

/// Length with both quotes, or `None` if it is not closed. A doubled quote stands for itself, and so does what follows
/// a backslash where `escapes` is set.
fn quoted_length(rest: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && escapes {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + quote.len_utf8());
        }
    }
    None
}

fn comment_length(rest: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// `$$` or `$tag$` at the start; `$1` is a parameter and no tag.
fn dollar_tag(rest: &str) -> Option<&str> {
    let name_length = length_while(&rest[1..], is_word_part);
    let starts_with_digit = rest[1..].starts_with(|c: char| c.is_ascii_digit());
    let is_tag = !starts_with_digit && rest[1 + name_length..].starts_with('$');
    is_tag.then(|| &rest[..name_length + 2])
}

/// Digits with a fraction and an exponent: `1`, `1.5`, `1e-3`.
fn number_length(rest: &str) -> usize {
    let mut length = length_while(rest, |c| c.is_ascii_digit() || c == '_');
    if rest[length..].starts_with('.') {
        length += 1 + length_while(&rest[length + 1..], |c| c.is_ascii_digit());
    }
    let exponent = rest[length..].strip_prefix(['e', 'E']).map(|power| (power, power.trim_start_matches(['+', '-'])));
    if let Some((power, digits)) = exponent
        && digits.starts_with(|c: char| c.is_ascii_digit())
    {
        length += 1 + (power.len() - digits.len()) + length_while(digits, |c| c.is_ascii_digit());
    }
    length
}

fn opening(token: &Token<'_>) -> String {
    let text = token.text;
    let what = match token.kind {
        Kind::Comment => return "comment /*".to_string(),
        Kind::QuotedName => "quoted name",
        _ => "string",
    };
    let shown: String = text.chars().take(20).take_while(|c| *c != '\n').collect();
    format!("{what} {shown}")
}

/// Line and column, both from 1, of a place in bytes.
fn location(sql: &str, at: usize) -> Location {
    let before = &sql[..at];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    Location { line: before.matches('\n').count() as u64 + 1, column: before[line_start..].chars().count() as u64 + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_quotes_and_comments_do_not_split() {
        let script = "select ';', \"a;b\", `c;d` -- x;y\n; /* p;/* q; */ ; */ select $$;$$, $t$ ; $$ $t$;;\n-- end;\n";
        assert_eq!(
            split(script).unwrap(),
            ["select ';', \"a;b\", `c;d` -- x;y", "/* p;/* q; */ ; */ select $$;$$, $t$ ; $$ $t$"]
        );
    }

    #[test]
    fn doubled_quotes_and_escapes_stay_inside() {
        assert_eq!(
            split(r"select 'it''s;'; select E'a\';b'; select 'a\'; select 2").unwrap(),
            ["select 'it''s;'", r"select E'a\';b'", r"select 'a\'", "select 2",]
        );
    }

    #[test]
    fn an_open_quote_is_located() {
        let error = split("select 1;\n  select 'abc").unwrap_err();
        assert_eq!(error.location(), Some(Location { line: 2, column: 10 }));
        assert_eq!(error.message(), "string 'abc is not closed");
    }

    #[test]
    fn the_end_is_a_semicolon_outside_of_quotes_and_comments() {
        for ended in ["select 1;", "select 1; ", "select 1; -- done", "select ';';", "a; /* b */"] {
            assert!(is_ended(ended), "{ended}");
        }
        for open in ["", "select 1", "select ';", "select 1 -- ;", "select $$ ;", "select 1; /* ;", "a; b", "'a''; "] {
            assert!(!is_ended(open), "{open}");
        }
    }

    #[test]
    fn pieces_have_their_kinds() {
        let kinds: Vec<(Kind, &str)> = tokens("select 1.5e-3+t1.\"a\"\"b\" $1")
            .into_iter()
            .filter(|token| token.kind != Kind::Space)
            .map(|token| (token.kind, token.text))
            .collect();
        assert_eq!(
            kinds,
            [
                (Kind::Word, "select"),
                (Kind::Number, "1.5e-3"),
                (Kind::Symbol, "+"),
                (Kind::Word, "t1"),
                (Kind::Symbol, "."),
                (Kind::QuotedName, "\"a\"\"b\""),
                (Kind::Symbol, "$"),
                (Kind::Number, "1"),
            ]
        );
    }

    #[test]
    fn names_are_quoted_and_unquoted() {
        assert_eq!(unquote("Orders"), "orders");
        assert_eq!(unquote("\"My \"\"T\"\"\""), "My \"T\"");
        assert_eq!(quote("orders_2"), "orders_2");
        assert_eq!(quote("My \"T\""), "\"My \"\"T\"\"\"");
        assert_eq!(quote("2nd"), "\"2nd\"");
    }

    proptest::proptest! {
        #[test]
        fn the_pieces_make_the_text(sql in "[a-z0-9 '\"`$/*;éß\\-\n\\\\.]{0,40}") {
            let joined: String = tokens(&sql).iter().map(|token| token.text).collect();
            proptest::prop_assert_eq!(joined, sql);
        }
    }
}
