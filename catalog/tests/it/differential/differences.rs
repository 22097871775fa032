//! The differences that are meant to be: `differences.md`, which has a section for each reason, with a table of them.

use std::collections::BTreeSet;

use super::asking::{EXCEPTION, Exchange, MESSAGE};

/// The value of what is not in an answer.
const ABSENT: &str = "absent";
/// The path of an answer that is an exception on one side only, or another exception.
const ANSWER: &str = "answer";

/// One place where two answers differ.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    /// The scenario and the call, `tables/get_table#2`.
    pub(super) call: String,
    pub(super) path: String,
    pub(super) theirs: String,
    pub(super) ours: String,
}

impl Difference {
    /// As a line of the table.
    pub(super) fn line(&self) -> String {
        format!("| `{}` | `{}` | `{}` | `{}` |", self.call, self.path, self.theirs, self.ours)
    }
}

/// Where two answers to one call differ.
pub(super) fn between(scenario: &str, theirs: &Exchange, ours: &Exchange) -> Vec<Difference> {
    let call = format!("{scenario}/{}", theirs.call);
    let difference = |path: &str, theirs: &str, ours: &str| Difference {
        call: call.clone(),
        path: path.to_owned(),
        theirs: theirs.to_owned(),
        ours: ours.to_owned(),
    };
    let value = |exchange: &Exchange, path: &str| {
        exchange.answer.iter().find(|(known, _)| known == path).map(|(_, value)| value.clone())
    };
    let (their_exception, our_exception) = (value(theirs, EXCEPTION), value(ours, EXCEPTION));
    if their_exception != our_exception {
        let kind = |exchange: &Exchange, exception: Option<String>| {
            exception.map_or_else(
                || "a reply".to_owned(),
                |name| format!("{name} {}", value(exchange, MESSAGE).unwrap_or_default()),
            )
        };
        return vec![difference(ANSWER, &kind(theirs, their_exception), &kind(ours, our_exception))];
    }
    let paths: Vec<&String> = theirs.answer.iter().chain(&ours.answer).map(|(path, _)| path).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for path in paths.into_iter().filter(|path| seen.insert(path.as_str())) {
        let (their_value, our_value) = (value(theirs, path), value(ours, path));
        if their_value != our_value {
            let shown = |value: Option<String>| value.unwrap_or_else(|| ABSENT.to_owned());
            found.push(difference(path, &shown(their_value), &shown(our_value)));
        }
    }
    found
}

/// A line of the table: in each cell `*` stands for anything.
pub(super) struct Rule {
    cells: [String; 4],
}

impl Rule {
    pub(super) fn all(text: &str) -> Vec<Self> {
        let is_rule = |line: &&str| line.starts_with("| `");
        text.lines().filter(is_rule).map(Self::of).collect()
    }

    fn of(line: &str) -> Self {
        let line = line.trim_end().strip_prefix("| `").and_then(|line| line.strip_suffix("` |"));
        let cells: Vec<String> = line.expect("a line of the table").split("` | `").map(str::to_owned).collect();
        let cells = cells.try_into().unwrap_or_else(|cells| panic!("not four cells: {cells:?}"));
        Self { cells }
    }

    pub(super) fn line(&self) -> String {
        format!("| `{}` |", self.cells.join("` | `"))
    }

    pub(super) fn covers(&self, difference: &Difference) -> bool {
        let Difference { call, path, theirs, ours } = difference;
        self.cells.iter().zip([call, path, theirs, ours]).all(|(pattern, text)| fits(pattern, text))
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[test]
fn patterns_have_stars() {
    for (pattern, text, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "ab", true),
        ("*b", "ab", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-b-d", false),
        ("ab*ba", "aba", false),
        ("*", "", true),
    ] {
        assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
    }
}
