//! Patterns of names, as clients send them: Java's regular expressions over the whole name, in any case.
//!
//! Matching follows all ways through a pattern at once, so its time is bounded by the pattern's length times the text's
//! whatever the pattern (Thompson, "Regular Expression Search Algorithm", 1968). Of Java's syntax it has what such patterns
//! use: literals, `.`, `*`, `+`, `?`, `|`, groups, classes, `\d`, `\w`, `\s`, `\Q…\E`. A piece that it does not know stands for
//! itself, so that a pattern never fails.

/// Characters of a pattern that are looked at; what is longer matches nothing.
const PATTERN_CHARS_MAX: usize = 4_000;
/// Groups inside each other; what is deeper matches nothing.
const DEPTH_MAX: usize = 50;

/// The right side of `LIKE` in a filter.
///
/// Hive takes it for a regular expression. Spark writes one around a text in which it escapes nothing: its `LIKE 'c++%'` comes
/// as `c++.*`. So the text between a `.*` at either end may stand for itself.
#[derive(Debug)]
pub(super) struct Like {
    pattern: Pattern,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    Regex,
    /// What either reading lets through.
    Wide(Literal),
    /// What both readings let through, for a `LIKE` under a `NOT`.
    Narrow(Literal),
}

/// A text with anything before it, behind it, or both.
#[derive(Debug)]
struct Literal {
    text: String,
    begins_anywhere: bool,
    ends_anywhere: bool,
}

impl Like {
    /// As a regular expression alone.
    pub(super) fn regex(text: &str) -> Self {
        Self { pattern: Pattern::regex_with_case(text), reading: Reading::Regex }
    }

    /// In both ways: lets through what either accepts or, where that is not wide, what both accept. A pattern that is too
    /// long is taken to say nothing.
    pub(super) fn loose(text: &str, is_wide: bool) -> Self {
        let rest = text.strip_prefix(".*");
        let begins_anywhere = rest.is_some();
        let rest = rest.unwrap_or(text);
        let inner = rest.strip_suffix(".*");
        let ends_anywhere = inner.is_some();
        let literal = Literal { text: inner.unwrap_or(rest).to_owned(), begins_anywhere, ends_anywhere };
        let reading = if is_wide { Reading::Wide(literal) } else { Reading::Narrow(literal) };
        Self { pattern: Pattern::regex_with_case(text), reading }
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match &self.reading {
            Reading::Regex => self.pattern.matches(text),
            Reading::Wide(literal) => !self.pattern.is_read() || literal.matches(text) || self.pattern.matches(text),
            Reading::Narrow(literal) => self.pattern.is_read() && literal.matches(text) && self.pattern.matches(text),
        }
    }

    /// About how many comparisons that takes.
    pub(super) fn cost(&self, text: &str) -> usize {
        self.pattern.steps.as_ref().map_or(1, Vec::len).saturating_mul(text.len().max(1))
    }
}

impl Literal {
    fn matches(&self, text: &str) -> bool {
        match (self.begins_anywhere, self.ends_anywhere) {
            (false, false) => text == self.text,
            (false, true) => text.starts_with(&self.text),
            (true, false) => text.ends_with(&self.text),
            (true, true) => text.contains(&self.text),
        }
    }
}

/// A pattern, ready to be compared.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// None matches nothing.
    steps: Option<Vec<Step>>,
    /// Whether texts are compared in lower case.
    folds: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Char(char),
    Any,
    Class {
        chars: Vec<(char, char)>,
        is_negated: bool,
    },
    /// Goes on at both.
    Split(usize, usize),
    Jump(usize),
    End,
}

#[derive(Debug)]
enum Node {
    One(Step),
    All(Vec<Node>),
    Either(Vec<Node>),
    /// At least and at most so often; `None` is without end.
    Repeat(Box<Node>, bool, bool),
}

impl Pattern {
    /// A pattern of `get_tables` and the like: `*` is any text, `|` separates alternatives, the rest is a regular expression.
    pub(super) fn of_names(text: &str) -> Self {
        if is_too_long(text) {
            return Self { steps: None, folds: false };
        }
        let alternatives = text.trim().split('|').map(|one| format!("({})", one.trim().replace('*', ".*")));
        // What was `.*` already is `..*` now, which would ask for one character at least.
        Self::regex(&alternatives.collect::<Vec<_>>().join("|").replace("..*", ".*"))
    }

    /// A regular expression.
    pub(super) fn regex(text: &str) -> Self {
        let steps = if is_too_long(text) { None } else { compile(&text.to_lowercase()) };
        Self { steps, folds: false }
    }

    /// A regular expression that tells upper case from lower, unless it begins with `(?i)`.
    pub(super) fn regex_with_case(text: &str) -> Self {
        if let Some(rest) = text.strip_prefix("(?i)") {
            return Self { folds: true, ..Self::regex(rest) };
        }
        Self { steps: compile(text), folds: false }
    }

    /// Whether it is short and simple enough to be looked at.
    fn is_read(&self) -> bool {
        self.steps.is_some()
    }

    /// Whether it describes the whole of the text, which is in lower case unless case matters.
    pub(super) fn matches(&self, text: &str) -> bool {
        if self.folds { self.fits(&text.to_lowercase()) } else { self.fits(text) }
    }

    fn fits(&self, text: &str) -> bool {
        let Some(steps) = &self.steps else { return false };
        let mut here = Places::new(steps.len());
        let mut next = Places::new(steps.len());
        here.add(steps, 0);
        for c in text.chars() {
            next.clear();
            for &at in &here.list {
                let fits = match &steps[at] {
                    Step::Char(own) => *own == c,
                    Step::Any => c != '\n',
                    Step::Class { chars, is_negated } => {
                        chars.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *is_negated
                    }
                    Step::Split(..) | Step::Jump(_) | Step::End => false,
                };
                if fits {
                    next.add(steps, at + 1);
                }
            }
            std::mem::swap(&mut here, &mut next);
            if here.list.is_empty() {
                return false;
            }
        }
        here.list.iter().any(|at| matches!(steps[*at], Step::End))
    }
}

/// Steps that may come next, each once.
struct Places {
    list: Vec<usize>,
    is_in: Vec<bool>,
}

impl Places {
    fn new(steps: usize) -> Self {
        Self { list: Vec::new(), is_in: vec![false; steps] }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.is_in.fill(false);
    }

    fn add(&mut self, steps: &[Step], at: usize) {
        let mut waiting = vec![at];
        while let Some(at) = waiting.pop() {
            if std::mem::replace(&mut self.is_in[at], true) {
                continue;
            }
            match steps[at] {
                Step::Split(one, other) => waiting.extend([one, other]),
                Step::Jump(to) => waiting.push(to),
                _ => self.list.push(at),
            }
        }
    }
}

/// Whether more characters were sent than are looked at. Nothing is copied before that is asked.
fn is_too_long(text: &str) -> bool {
    text.chars().nth(PATTERN_CHARS_MAX).is_some()
}

fn compile(text: &str) -> Option<Vec<Step>> {
    if is_too_long(text) {
        return None;
    }
    let chars: Vec<char> = text.chars().collect();
    let mut parser = Parser { chars: &chars, at: 0 };
    let mut nodes = vec![parser.either(0)?];
    while let Some(c) = parser.next() {
        // A parenthesis that was never opened stands for itself.
        nodes.push(Node::One(Step::Char(c)));
        nodes.push(parser.either(0)?);
    }
    let mut steps = Vec::new();
    emit(&Node::All(nodes), &mut steps);
    steps.push(Step::End);
    steps.shrink_to_fit();
    Some(steps)
}

fn emit(node: &Node, steps: &mut Vec<Step>) {
    match node {
        Node::One(step) => steps.push(step.clone()),
        Node::All(nodes) => nodes.iter().for_each(|node| emit(node, steps)),
        Node::Either(nodes) => {
            let mut jumps = Vec::new();
            for (at, node) in nodes.iter().enumerate() {
                let is_last = at + 1 == nodes.len();
                let split = steps.len();
                if !is_last {
                    steps.push(Step::Split(split + 1, 0));
                }
                emit(node, steps);
                if !is_last {
                    jumps.push(steps.len());
                    steps.push(Step::Jump(0));
                    steps[split] = Step::Split(split + 1, steps.len());
                }
            }
            let end = steps.len();
            jumps.into_iter().for_each(|jump| steps[jump] = Step::Jump(end));
        }
        Node::Repeat(node, may_be_absent, may_repeat) => {
            let start = steps.len();
            if *may_be_absent {
                steps.push(Step::Split(start + 1, 0));
            }
            emit(node, steps);
            if *may_repeat {
                let split = steps.len();
                let body = start + usize::from(*may_be_absent);
                steps.push(Step::Split(body, split + 1));
            }
            if *may_be_absent {
                steps[start] = Step::Split(start + 1, steps.len());
            }
        }
    }
}

struct Parser<'a> {
    chars: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn either(&mut self, depth: usize) -> Option<Node> {
        if depth > DEPTH_MAX {
            return None;
        }
        let mut alternatives = vec![self.sequence(depth)?];
        while self.peek() == Some('|') {
            self.at += 1;
            alternatives.push(self.sequence(depth)?);
        }
        Some(Node::Either(alternatives))
    }

    fn sequence(&mut self, depth: usize) -> Option<Node> {
        let mut nodes = Vec::new();
        while let Some(c) = self.peek() {
            if matches!(c, '|' | ')') {
                break;
            }
            self.at += 1;
            let node = match c {
                '.' => Node::One(Step::Any),
                // The pattern is about the whole text anyway.
                '^' | '$' => Node::All(vec![]),
                '(' => {
                    // What comes after "(?" says nothing about which text fits, but for look-around, which is not known.
                    if self.chars.get(self.at..self.at + 2) == Some(&['?', ':']) {
                        self.at += 2;
                    }
                    let inner = self.either(depth + 1)?;
                    if self.peek() == Some(')') {
                        self.at += 1;
                    }
                    inner
                }
                '[' => self.class(),
                '\\' => self.escape(),
                other => Node::One(Step::Char(other)),
            };
            nodes.push(self.repeated(node));
        }
        Some(Node::All(nodes))
    }

    /// The node with the sign after it. A second one only says lazy or possessive, which is the same for a whole text.
    fn repeated(&mut self, node: Node) -> Node {
        let (may_be_absent, may_repeat) = match self.peek() {
            Some('*') => (true, true),
            Some('+') => (false, true),
            Some('?') => (true, false),
            _ => return node,
        };
        while matches!(self.peek(), Some('*' | '+' | '?')) {
            self.at += 1;
        }
        Node::Repeat(Box::new(node), may_be_absent, may_repeat)
    }

    fn escape(&mut self) -> Node {
        let Some(c) = self.next() else { return Node::One(Step::Char('\\')) };
        if let Some((chars, is_negated)) = shorthand(c) {
            return Node::One(Step::Class { chars, is_negated });
        }
        // Patterns without case have their `\Q` in lower case.
        if matches!(c, 'Q' | 'q') {
            let rest = &self.chars[self.at..];
            let len = rest.windows(2).position(|two| matches!(two, ['\\', 'E' | 'e'])).unwrap_or(rest.len());
            let nodes = rest[..len].iter().map(|c| Node::One(Step::Char(*c))).collect();
            self.at = (self.at + len + 2).min(self.chars.len());
            return Node::All(nodes);
        }
        Node::One(Step::Char(c))
    }

    fn class(&mut self) -> Node {
        let begin = self.at;
        let is_negated = self.peek() == Some('^');
        if is_negated {
            self.at += 1;
        }
        let mut chars = Vec::new();
        let mut is_first = true;
        while let Some(c) = self.next() {
            if c == ']' && !is_first {
                return Node::One(Step::Class { chars, is_negated });
            }
            is_first = false;
            let from = if c == '\\' { self.next().unwrap_or(c) } else { c };
            if c == '\\'
                && let Some((more, false)) = shorthand(from)
            {
                chars.extend(more);
                continue;
            }
            let is_range = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|to| *to != ']');
            if is_range {
                let to = self.chars[self.at + 1];
                self.at += 2;
                chars.push((from, to));
            } else {
                chars.push((from, from));
            }
        }
        // It never ends: then the bracket stands for itself.
        self.at = begin;
        Node::One(Step::Char('['))
    }
}

/// What `\d` and the like stand for.
fn shorthand(c: char) -> Option<(Vec<(char, char)>, bool)> {
    match c {
        'd' => Some((vec![('0', '9')], false)),
        'w' => Some((vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')], false)),
        's' => Some((vec![(' ', ' '), ('\t', '\r')], false)),
        'D' => Some((vec![('0', '9')], true)),
        'W' => Some((vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')], true)),
        'S' => Some((vec![(' ', ' '), ('\t', '\r')], true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pattern may come with as many bytes as a message has: what is too long is not copied.
    #[test]
    fn what_is_too_long_takes_no_memory() {
        use crate::hive::driver::measured;
        for text in ["|", "*", "É", "(", "a|"] {
            let text = text.repeat(1 << 20);
            for make in [Pattern::of_names, Pattern::regex, Pattern::regex_with_case] {
                let (pattern, peak) = measured(|| make(&text));
                assert!(peak < 1 << 20, "{peak} bytes for {}…", &text[..2]);
                assert!(!pattern.is_read());
            }
        }
    }

    #[test]
    fn names_match_as_in_hive() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("*", "", true),
            (".*", "", true),
            ("", "x", false),
            ("web*", "web_logs", true),
            ("WEB*", "web_logs", true),
            ("web", "web_logs", false),
            ("a*|b*", "bc", true),
            ("..*", "a", true),
            ("..*", "", false),
            ("a..*", "ab", true),
            ("a..*", "a", false),
            ("*.*", "", true),
            ("a|b", "ab", false),
            (" a | b ", "b", true),
            ("t.*s", "tables", true),
            ("t.s", "tas", true),
            ("(x|y)z", "yz", true),
            ("[a-c]\\d+", "b12", true),
            ("[^a]*", "bcd", true),
        ] {
            assert_eq!(Pattern::of_names(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn expressions_match_the_whole_text() {
        for (pattern, text, expected) in [
            ("abc.*", "abcdef", true),
            (".*abc", "xabc", true),
            (".*abc.*", "xabcx", true),
            ("abc", "abcd", false),
            ("(?i)A.*", "aB", true),
            ("(?i)a.*", "AB", true),
            ("A.*", "ab", false),
            ("a%", "ab", false),
            ("a+b?", "aaa", true),
            ("a+?", "", false),
            ("a*?b", "b", true),
            ("a??", "aa", false),
            ("\\Qa.b\\E.*", "a.bc", true),
            ("\\Qa.b\\E.*", "axbc", false),
            ("a\\.b", "a.b", true),
            ("[[]", "[", true),
            ("[", "[", true),
            ("a)b", "a)b", true),
            ("(a", "a", true),
            ("(a*)*b", "aaab", true),
            ("^a$", "a", true),
        ] {
            assert_eq!(Pattern::regex_with_case(pattern).matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn hard_patterns_take_no_longer() {
        let pattern = format!("{}b", "(a*)*".repeat(100));
        assert!(!Pattern::regex(&pattern).matches(&"a".repeat(1_000)));
        assert!(!Pattern::regex(&"(".repeat(1_000)).matches("a"));
        assert!(Pattern::regex(&format!("a{}", "*".repeat(3_000))).matches("aa"));
        assert!(!Pattern::regex(&"a".repeat(PATTERN_CHARS_MAX + 1)).matches("a"));
    }
}
