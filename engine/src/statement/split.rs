//! Scripts to statements, and the words that a prompt completes.

use std::collections::BTreeSet;

use datafusion::execution::SessionStateDefaults;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use tereza_runtime::Result;

use super::errors;
use crate::syntax::Places;

/// Splits a script into statements: see [`crate::query::QueryService::split`].
///
/// It cuts at the tokens that are semicolons, so quotes, dollar quotes and comments are what the parser takes them for. `STATEMENT
/// SET BEGIN …; …; END` is one statement.
pub(crate) fn split(sql: &str) -> Result<Vec<String>> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| errors::syntax(sql, &[], &ParserError::from(error)))?;
    let mut places = Places::new(sql);
    let mut statements = Vec::new();
    let mut start = 0;
    let mut empty = true;
    let mut set = Set::default();
    for TokenWithSpan { token, span } in &tokens {
        if set.holds(token) {
            continue;
        }
        match token {
            Token::SemiColon => {
                let end = places.byte(span.start);
                if !empty {
                    statements.push(sql[start..end].trim().to_owned());
                }
                start = end + ';'.len_utf8();
                empty = true;
            }
            Token::Whitespace(_) | Token::EOF => {}
            _ => empty = false,
        }
    }
    if !empty {
        statements.push(sql[start..].trim().to_owned());
    }
    Ok(statements)
}

/// How far a statement set is read.
#[derive(Default)]
struct Set {
    /// The words `STATEMENT SET BEGIN` that came one after the other.
    begun: usize,
    /// Inside of a set, whether its next statement begins here, or its end.
    between: Option<bool>,
}

impl Set {
    /// Whether the token is a semicolon of a statement set.
    fn holds(&mut self, token: &Token) -> bool {
        let is_word = |word: &str| match token {
            Token::Word(found) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
            _ => false,
        };
        match (token, self.between) {
            (Token::Whitespace(_) | Token::EOF, _) => false,
            (Token::SemiColon, Some(_)) => {
                self.between = Some(true);
                true
            }
            (_, Some(true)) if is_word("END") => {
                *self = Self::default();
                false
            }
            (_, Some(_)) => {
                self.between = Some(false);
                false
            }
            (_, None) => {
                let next = ["STATEMENT", "SET", "BEGIN"][self.begun];
                self.begun = match (is_word(next), is_word("STATEMENT")) {
                    (true, _) => self.begun + 1,
                    (false, true) => 1,
                    (false, false) => 0,
                };
                if self.begun == 3 {
                    *self = Self { begun: 0, between: Some(true) };
                }
                false
            }
        }
    }
}

/// Keywords in upper case and function names in lower case: see [`crate::query::QueryService::words`].
pub(crate) fn words() -> Vec<String> {
    let mut words: BTreeSet<String> = ALL_KEYWORDS.iter().map(|word| (*word).to_owned()).collect();
    words.extend(SessionStateDefaults::default_scalar_functions().iter().map(|function| function.name().to_owned()));
    words.extend(SessionStateDefaults::default_aggregate_functions().iter().map(|function| function.name().to_owned()));
    words.extend(SessionStateDefaults::default_window_functions().iter().map(|function| function.name().to_owned()));
    words.extend(SessionStateDefaults::default_table_functions().iter().map(|function| function.name().to_owned()));
    words.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(sql: &str) -> Vec<Token> {
        let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().expect("tokens");
        tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon)).collect()
    }

    #[test]
    fn semicolons_part_statements() {
        assert_eq!(split("select 1; ;select 2;").expect("splits"), ["select 1", "select 2"]);
        assert_eq!(split(" \n ; -- only a comment\n").expect("splits"), Vec::<String>::new());
    }

    #[test]
    fn a_statement_set_is_one_statement() {
        let set = "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 'END'; END";
        assert_eq!(split(&format!("use x; {set}; select 1;")).expect("splits"), ["use x", set, "select 1"]);
        assert_eq!(split("set statement = 1; begin; end").expect("splits"), ["set statement = 1", "begin", "end"]);
    }

    #[test]
    fn quotes_and_comments_hide_semicolons() {
        let pieces = [
            "select 'a;b''c;'",
            "select \"a;b\"",
            "select `a;b`",
            "select 1 -- a;b\n, 2",
            "select /* a;/* b; */ c; */ 1",
            "select $$a;b$$",
            "select $tag$a;$$b$tag$",
            "select 'ä;ö', 'é'",
        ];
        assert_eq!(split(&pieces.join(";\n")).expect("splits"), pieces);
    }

    #[test]
    fn what_is_not_closed_is_an_error_at_its_place() {
        for sql in ["select 1;\n select 'a", "select 1;\n select \"a", "select 1;\n select /* a"] {
            let error = split(sql).expect_err("is not closed");
            assert!(error.location().is_some(), "{error}");
            assert_eq!(error.kind(), tereza_runtime::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn words_are_sorted_and_hold_both_sorts() {
        let words = words();
        assert!(words.is_sorted());
        for word in ["SELECT", "TBLPROPERTIES", "approx_distinct", "lower", "row_number"] {
            assert!(words.iter().any(|known| known == word), "{word}");
        }
    }

    proptest! {
        #[test]
        fn joining_the_pieces_keeps_the_tokens(pieces in prop::collection::vec(
            prop::sample::select(vec![
                "select 1", "'a;b'", "\"c;d\"", "-- x;y\n", "/* ; */", "$$;$$", ";", "\n", " ", "a.b", "''';'", "ü", "+", "(", ";;",
            ]),
            0..24,
        )) {
            let sql = pieces.join(" ");
            let split = split(&sql).expect("every piece is closed");
            prop_assert_eq!(tokens(&split.join("\n;\n")), tokens(&sql));
        }
    }
}
