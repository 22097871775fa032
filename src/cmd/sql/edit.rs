//! What the prompt's line editor is told about SQL: when a statement has ended, its colours, and the prompt itself.

use std::borrow::Cow;
use std::collections::HashSet;

use nu_ansi_term::{Color, Style};
use reedline::{
    Highlighter, Prompt, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, StyledText, ValidationResult,
    Validator,
};

use super::lexer::{self, Kind};

/// Words that leave the prompt without a backslash or `;`, for people who come from other prompts.
const LEAVING_WORDS: [&str; 2] = ["quit", "exit"];

/// Whether what was typed asks to leave the prompt.
pub(super) fn is_leaving(text: &str) -> bool {
    let word = text.trim().trim_end_matches(';').trim_end();
    LEAVING_WORDS.iter().any(|leaving| word.eq_ignore_ascii_case(leaving))
}

/// Ends the input at Enter when it is a whole statement or a backslash command.
pub(super) struct StatementValidator;

impl Validator for StatementValidator {
    fn validate(&self, text: &str) -> ValidationResult {
        let trimmed = text.trim();
        let is_whole = trimmed.is_empty() || trimmed.starts_with('\\') || is_leaving(trimmed) || lexer::is_ended(text);
        if is_whole { ValidationResult::Complete } else { ValidationResult::Incomplete }
    }
}

/// Colours keywords, strings, numbers and comments.
pub(super) struct Colors {
    keywords: HashSet<String>,
}

impl Colors {
    /// Colours with these words, in any case, as keywords.
    pub(super) fn new(words: &[String]) -> Self {
        Self { keywords: words.iter().map(|word| word.to_lowercase()).collect() }
    }

    fn style(&self, token: &lexer::Token<'_>) -> Style {
        match token.kind {
            Kind::Word if self.keywords.contains(&token.text.to_lowercase()) => Color::Blue.bold(),
            Kind::Text => Color::Green.normal(),
            Kind::Number => Color::Magenta.normal(),
            Kind::Comment => Color::DarkGray.normal(),
            _ => Style::new(),
        }
    }
}

impl Highlighter for Colors {
    fn highlight(&self, text: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        for token in lexer::tokens(text) {
            styled.push((self.style(&token), token.text.to_string()));
        }
        styled
    }
}

/// `catalog.schema>`, with `->` on the further lines of a statement.
pub(super) struct PlacePrompt {
    pub(super) place: String,
}

impl Prompt for PlacePrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.place)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("-> ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let result = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "nothing found ",
        };
        Cow::Owned(format!("({result}history: {}) ", search.term))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_whole(text: &str) -> bool {
        matches!(StatementValidator.validate(text), ValidationResult::Complete)
    }

    #[test]
    fn input_ends_with_a_semicolon_a_command_or_a_leaving_word() {
        for whole in ["", "  ", "select 1;", "select 1\n;", r"\d", r" \d orders", "quit", "EXIT;"] {
            assert!(is_whole(whole), "{whole}");
        }
        for open in ["select 1", "select ';", "select 1 -- ;", "exit now", "insert into t values ('a;\n"] {
            assert!(!is_whole(open), "{open}");
        }
    }

    #[test]
    fn colours_are_by_kind_and_keep_the_text() {
        let text = "SELECT 'a', 1 FROM t -- x";
        let styled = Colors::new(&["select".into(), "FROM".into()]).highlight(text, 0);
        let joined: String = styled.buffer.iter().map(|(_, part)| part.as_str()).collect();
        assert_eq!(joined, text);
        let style_of = |part: &str| styled.buffer.iter().find(|(_, text)| text == part).unwrap().0;
        assert_eq!(style_of("SELECT"), Color::Blue.bold());
        assert_eq!(style_of("FROM"), Color::Blue.bold());
        assert_eq!(style_of("'a'"), Color::Green.normal());
        assert_eq!(style_of("1"), Color::Magenta.normal());
        assert_eq!(style_of("-- x"), Color::DarkGray.normal());
        assert_eq!(style_of("t"), Style::new());
    }
}
