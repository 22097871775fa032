//! Reads JSON (RFC 8259) token by token. Numbers come as their digits, so that none are lost. Control characters in texts are
//! let through, as Flink does.

use std::borrow::Cow;

use memchr::memchr2;

use super::write::write_text;
use crate::format::Reason;
use crate::format::text::write_f64;

/// How deep objects and arrays may be nested.
const DEPTH_MAX: usize = 1_000;

/// What stands next. The caller reads on behind the start of an object with [`Parser::next_name`], behind that of an array
/// with [`Parser::next_element`], or leaves either out with [`Parser::skip`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Null,
    Bool(bool),
    /// A number without point and exponent.
    Int(&'a str),
    /// A number with point or exponent.
    Float(&'a str),
    Text(Cow<'a, str>),
    Object,
    Array,
}

#[derive(Debug)]
pub(crate) struct Parser<'a> {
    bytes: &'a [u8],
    /// As much of it as is UTF-8.
    chars: &'a str,
    at: usize,
    depth: usize,
    /// Whether an object or array was just begun.
    is_first: bool,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let chars = std::str::from_utf8(bytes).or_else(|error| std::str::from_utf8(&bytes[..error.valid_up_to()]));
        Self { bytes, chars: chars.unwrap_or_default(), at: 0, depth: 0, is_first: false }
    }

    /// Where the next token begins.
    pub(crate) fn position(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, expected: &str) -> Result<T, Reason> {
        Err(match self.bytes.get(self.at) {
            None => format!("the JSON ends where {expected} should be"),
            Some(byte) => format!("byte {} of the JSON is {:?}, not {expected}", self.at, char::from(*byte)),
        })
    }

    /// The next value.
    pub(crate) fn value(&mut self) -> Result<Token<'a>, Reason> {
        self.skip_space();
        match self.bytes.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                self.text().map(Token::Text)
            }
            Some(b'{') => self.open(Token::Object),
            Some(b'[') => self.open(Token::Array),
            Some(b't') => self.word("true", Token::Bool(true)),
            Some(b'f') => self.word("false", Token::Bool(false)),
            Some(b'n') => self.word("null", Token::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.fail("a value"),
        }
    }

    fn open(&mut self, token: Token<'a>) -> Result<Token<'a>, Reason> {
        if self.depth == DEPTH_MAX {
            return Err(format!("the JSON is nested deeper than {DEPTH_MAX}"));
        }
        self.at += 1;
        self.depth += 1;
        self.is_first = true;
        Ok(token)
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
        self.is_first = false;
    }

    fn word(&mut self, word: &str, token: Token<'a>) -> Result<Token<'a>, Reason> {
        let rest = &self.bytes[self.at..];
        let ends = rest.get(word.len()).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if !rest.starts_with(word.as_bytes()) || !ends {
            return self.fail("a value");
        }
        self.at += word.len();
        Ok(token)
    }

    fn digits(&mut self) -> Result<usize, Reason> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { self.fail("a digit") } else { Ok(self.at - start) }
    }

    fn number(&mut self) -> Result<Token<'a>, Reason> {
        let start = self.at;
        if self.bytes[start] == b'-' {
            self.at += 1;
        }
        let first = self.bytes.get(self.at).copied();
        if self.digits()? > 1 && first == Some(b'0') {
            return Err(format!("the number at byte {start} of the JSON begins with 0"));
        }
        let mut is_whole = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
            is_whole = false;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
            is_whole = false;
        }
        if self.bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'.') {
            return self.fail("the end of a number");
        }
        let text = self.chars(start, self.at)?;
        Ok(if is_whole { Token::Int(text) } else { Token::Float(text) })
    }

    /// The text whose quote was just read.
    fn text(&mut self) -> Result<Cow<'a, str>, Reason> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let Some(end) = memchr2(b'"', b'\\', rest) else { return Err("the JSON ends in a text".to_owned()) };
        self.at += end;
        if rest[end] == b'\\' {
            return self.escaped_text(start).map(Cow::Owned);
        }
        self.at += 1;
        self.chars(start, start + end).map(Cow::Borrowed)
    }

    fn chars(&self, from: usize, to: usize) -> Result<&'a str, Reason> {
        self.chars.get(from..to).ok_or_else(|| "a text of the JSON is no UTF-8".to_owned())
    }

    /// The text that began at `start`, from the backslash that is next.
    fn escaped_text(&mut self, start: usize) -> Result<String, Reason> {
        let mut text = self.chars(start, self.at)?.to_owned();
        loop {
            let rest = &self.bytes[self.at..];
            let Some(end) = memchr2(b'"', b'\\', rest) else { return Err("the JSON ends in a text".to_owned()) };
            text.push_str(self.chars(self.at, self.at + end)?);
            self.at += end + 1;
            if rest[end] == b'"' {
                return Ok(text);
            }
            let escape = self.bytes.get(self.at).copied();
            self.at += 1;
            text.push(match escape {
                Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
                Some(b'b') => '\u{8}',
                Some(b'f') => '\u{c}',
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(b't') => '\t',
                Some(b'u') => self.unicode()?,
                Some(byte) => return Err(format!("the JSON has no escape \\{}", char::from(byte))),
                None => return Err("the JSON ends in a text".to_owned()),
            });
        }
    }

    fn hex(&mut self) -> Result<u32, Reason> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(unit) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
            return self.fail("four hexadecimal digits");
        };
        self.at += 4;
        Ok(unit)
    }

    /// The character of `\uxxxx`, or of a pair of them. Half a pair is the replacement character: UTF-8 has no such thing.
    fn unicode(&mut self) -> Result<char, Reason> {
        let unit = self.hex()?;
        if (0xd800..0xdc00).contains(&unit) && self.bytes[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// The name of the next member; its value is next. None: the object has ended.
    pub(crate) fn next_name(&mut self) -> Result<Option<Cow<'a, str>>, Reason> {
        self.skip_space();
        let is_first = std::mem::take(&mut self.is_first);
        match self.bytes.get(self.at) {
            Some(b'}') => {
                self.close();
                return Ok(None);
            }
            Some(b',') if !is_first => self.at += 1,
            Some(_) if is_first => {}
            _ => return self.fail("a comma or the end of an object"),
        }
        self.skip_space();
        if self.bytes.get(self.at) != Some(&b'"') {
            return self.fail("the name of a member");
        }
        self.at += 1;
        let name = self.text()?;
        self.skip_space();
        if self.bytes.get(self.at) != Some(&b':') {
            return self.fail("a colon");
        }
        self.at += 1;
        Ok(Some(name))
    }

    /// Whether an element is next, or else the array has ended.
    pub(crate) fn next_element(&mut self) -> Result<bool, Reason> {
        self.skip_space();
        let is_first = std::mem::take(&mut self.is_first);
        match self.bytes.get(self.at) {
            Some(b']') => {
                self.close();
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if is_first => Ok(true),
            _ => self.fail("a comma or the end of an array"),
        }
    }

    /// Leaves out what a token began.
    pub(crate) fn skip(&mut self, token: &Token<'_>) -> Result<(), Reason> {
        self.copy(token, None)
    }

    /// Writes what a token began without the spaces between tokens; numbers with a point or an exponent as Java writes them.
    pub(crate) fn copy(&mut self, token: &Token<'_>, mut out: Option<&mut Vec<u8>>) -> Result<(), Reason> {
        // Whether what is open is an object, from the outside in.
        let mut open = Vec::new();
        self.copy_start(token, &mut open, &mut out);
        while let Some(is_object) = open.last().copied() {
            let is_first = self.is_first;
            let name = if is_object { self.next_name()? } else { None };
            let goes_on = if is_object { name.is_some() } else { self.next_element()? };
            if !goes_on {
                open.pop();
                push(&mut out, if is_object { b"}" } else { b"]" });
                continue;
            }
            if !is_first {
                push(&mut out, b",");
            }
            if let (Some(name), Some(out)) = (name, out.as_deref_mut()) {
                write_text(out, &name);
                out.push(b':');
            }
            let token = self.value()?;
            self.copy_start(&token, &mut open, &mut out);
        }
        Ok(())
    }

    fn copy_start(&self, token: &Token<'_>, open: &mut Vec<bool>, out: &mut Option<&mut Vec<u8>>) {
        match token {
            Token::Object => {
                open.push(true);
                push(out, b"{");
            }
            Token::Array => {
                open.push(false);
                push(out, b"[");
            }
            Token::Null => push(out, b"null"),
            Token::Bool(true) => push(out, b"true"),
            Token::Bool(false) => push(out, b"false"),
            Token::Int(text) => push(out, text.as_bytes()),
            Token::Float(text) => {
                if let (Some(out), Ok(value)) = (out.as_deref_mut(), text.parse()) {
                    write_f64(out, value);
                }
            }
            Token::Text(text) => {
                if let Some(out) = out.as_deref_mut() {
                    write_text(out, text);
                }
            }
        }
    }
}

fn push(out: &mut Option<&mut Vec<u8>>, bytes: &[u8]) {
    if let Some(out) = out.as_deref_mut() {
        out.extend_from_slice(bytes);
    }
}
