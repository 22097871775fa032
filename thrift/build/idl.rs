//! Reads the part of Thrift's interface language that the files in `idl/` are written in: enums, structs, unions,
//! exceptions and services, without typedefs, constants and annotations. What it does not know is an error with its line.

use std::iter::Peekable;
use std::vec::IntoIter;

/// What one file declares, in its order.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) enums: Vec<Enum>,
    pub(crate) records: Vec<Record>,
    pub(crate) services: Vec<Service>,
}

#[derive(Debug)]
pub(crate) struct Enum {
    pub(crate) name: String,
    pub(crate) values: Vec<(String, i32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Struct,
    Union,
    Exception,
}

/// A struct, a union or an exception: all three are a struct on the wire.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) id: i16,
    pub(crate) is_required: bool,
    pub(crate) ty: Type,
    pub(crate) name: String,
    /// What absent means, as the file writes it.
    pub(crate) default: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Type {
    /// A type of the language by its name there.
    Base(String),
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>, Box<Type>),
    /// An enum or a record of the files.
    Named(String),
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) functions: Vec<Function>,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) is_oneway: bool,
    /// Nothing for `void`.
    pub(crate) result: Option<Type>,
    pub(crate) args: Vec<Field>,
    pub(crate) throws: Vec<Field>,
}

const BASE_TYPES: [&str; 8] = ["bool", "byte", "i16", "i32", "i64", "double", "string", "binary"];

/// Reads one file.
pub(crate) fn parse(text: &str) -> Result<Document, String> {
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), line: 1 };
    let mut document = Document::default();
    while let Some(word) = parser.next_or_end() {
        match word.as_str() {
            "include" => drop(parser.next()?),
            "namespace" => {
                parser.next()?;
                parser.next()?;
            }
            "enum" => document.enums.push(parser.parse_enum()?),
            "struct" => document.records.push(parser.parse_record(Kind::Struct)?),
            "union" => document.records.push(parser.parse_record(Kind::Union)?),
            "exception" => document.records.push(parser.parse_record(Kind::Exception)?),
            "service" => document.services.push(parser.parse_service()?),
            other => return Err(parser.error(&format!("'{other}' is not understood here"))),
        }
    }
    Ok(document)
}

struct Token {
    text: String,
    line: usize,
}

/// Words (with dots, and numbers with their sign), strings with their quotes, and single marks; no comments.
fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut is_comment = false;
    for (number, full) in text.lines().enumerate() {
        let mut rest = full;
        while !rest.is_empty() {
            if is_comment {
                let Some(end) = rest.find("*/") else { break };
                (is_comment, rest) = (false, &rest[end + 2..]);
                continue;
            }
            rest = rest.trim_start();
            if rest.is_empty() || rest.starts_with("//") || rest.starts_with('#') {
                break;
            }
            if let Some(after) = rest.strip_prefix("/*") {
                (is_comment, rest) = (true, after);
                continue;
            }
            let len = token_len(rest).ok_or_else(|| format!("line {}: a string without its end", number + 1))?;
            tokens.push(Token { text: rest[..len].to_owned(), line: number + 1 });
            rest = &rest[len..];
        }
    }
    Ok(tokens)
}

fn token_len(rest: &str) -> Option<usize> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    match rest.chars().next()? {
        '"' => Some(rest[1..].find('"')? + 2),
        first if is_word(first) => Some(rest.find(|c| !is_word(c)).unwrap_or(rest.len())),
        other => Some(other.len_utf8()),
    }
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
    line: usize,
}

impl Parser {
    fn next_or_end(&mut self) -> Option<String> {
        let token = self.tokens.next()?;
        self.line = token.line;
        Some(token.text)
    }

    fn next(&mut self) -> Result<String, String> {
        self.next_or_end().ok_or_else(|| self.error("the file ends too early"))
    }

    fn error(&self, message: &str) -> String {
        format!("line {}: {message}", self.line)
    }

    fn is_next(&mut self, text: &str) -> bool {
        self.tokens.peek().is_some_and(|token| token.text == text)
    }

    /// Takes the next token if it is this one.
    fn take(&mut self, text: &str) -> bool {
        let is_next = self.is_next(text);
        if is_next {
            self.next_or_end();
        }
        is_next
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        let found = self.next()?;
        if found == text { Ok(()) } else { Err(self.error(&format!("'{found}' where '{text}' should be"))) }
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let text = self.next()?;
        text.parse().map_err(|_| self.error(&format!("'{text}' is not a number")))
    }

    fn parse_enum(&mut self) -> Result<Enum, String> {
        let name = self.next()?;
        let mut values = Vec::new();
        self.expect("{")?;
        while !self.take("}") {
            let value_name = self.next()?;
            self.expect("=")?;
            values.push((value_name, self.number()?));
            self.take(",");
        }
        Ok(Enum { name, values })
    }

    fn parse_record(&mut self, kind: Kind) -> Result<Record, String> {
        let name = self.next()?;
        self.expect("{")?;
        Ok(Record { kind, name, fields: self.parse_fields("}")? })
    }

    fn parse_fields(&mut self, end: &str) -> Result<Vec<Field>, String> {
        let mut fields: Vec<Field> = Vec::new();
        while !self.take(end) {
            let id = self.number()?;
            if fields.iter().any(|field| field.id == id) {
                return Err(self.error(&format!("two fields have the id {id}")));
            }
            self.expect(":")?;
            let is_required = self.take("required");
            self.take("optional");
            let ty = self.parse_type()?;
            let name = self.next()?;
            let default = if self.take("=") { Some(self.next()?) } else { None };
            self.take(",");
            fields.push(Field { id, is_required, ty, name, default });
        }
        Ok(fields)
    }

    fn parse_type(&mut self) -> Result<Type, String> {
        let name = self.next()?;
        let inner = match name.as_str() {
            "list" | "set" | "map" => {
                self.expect("<")?;
                Box::new(self.parse_type()?)
            }
            base if BASE_TYPES.contains(&base) => return Ok(Type::Base(name)),
            _ => return Ok(Type::Named(name)),
        };
        let ty = match name.as_str() {
            "list" => Type::List(inner),
            "set" => Type::Set(inner),
            _ => {
                self.expect(",")?;
                Type::Map(inner, Box::new(self.parse_type()?))
            }
        };
        self.expect(">")?;
        Ok(ty)
    }

    fn parse_service(&mut self) -> Result<Service, String> {
        self.next()?;
        if self.take("extends") {
            self.next()?;
        }
        self.expect("{")?;
        let mut functions = Vec::new();
        while !self.take("}") {
            let is_oneway = self.take("oneway");
            let result = if self.take("void") { None } else { Some(self.parse_type()?) };
            let name = self.next()?;
            self.expect("(")?;
            let args = self.parse_fields(")")?;
            let throws = if self.take("throws") {
                self.expect("(")?;
                self.parse_fields(")")?
            } else {
                Vec::new()
            };
            functions.push(Function { name, is_oneway, result, args, throws });
        }
        Ok(Service { functions })
    }
}
