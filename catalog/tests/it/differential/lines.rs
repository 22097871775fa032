//! Values of the interface as lines of text. They are made from what `Debug` prints of them, so that every type of the
//! interface is printed without a line of its own here.

/// A value, as far as it is printed.
#[derive(Debug, PartialEq)]
enum Value {
    /// What is not there: `None`, `()`.
    Nothing,
    /// A number, a word, or a text with its quotes.
    Scalar(String),
    List(Vec<Value>),
    /// The fields of a struct, or the entries of a map.
    Fields(Vec<(String, Value)>),
}

/// `path = value`, in the order of the interface. What is absent has no line.
pub(super) fn of(printed: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    flatten(String::new(), &parse(printed), &mut lines);
    lines
}

/// The value in one line.
pub(super) fn compact(printed: &str) -> String {
    one_line(&parse(printed))
}

fn parse(printed: &str) -> Value {
    let mut parser = Parser { text: printed, at: 0 };
    let value = parser.value();
    assert_eq!(parser.at, printed.len(), "not all was read: {printed}");
    value
}

fn flatten(path: String, value: &Value, lines: &mut Vec<(String, String)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Nothing => {}
        Value::List(items) if items.iter().any(|item| matches!(item, Value::Fields(_))) => {
            for (number, item) in items.iter().enumerate() {
                flatten(format!("{path}[{number}]"), item, lines);
            }
        }
        Value::Fields(fields) if fields.iter().any(|(_, value)| *value != Value::Nothing) => {
            for (name, value) in fields {
                flatten(below(name), value, lines);
            }
        }
        short => lines.push((if path.is_empty() { "reply".to_owned() } else { path }, one_line(short))),
    }
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Nothing => "nothing".to_owned(),
        Value::Scalar(text) => text.clone(),
        Value::List(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        Value::Fields(fields) => {
            let known = fields.iter().filter(|(_, value)| *value != Value::Nothing);
            let fields: Vec<String> = known.map(|(name, value)| format!("{name}: {}", one_line(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let is_next = self.rest().starts_with(token);
        if is_next {
            self.at += token.len();
        }
        is_next
    }

    fn value(&mut self) -> Value {
        if self.eat("()") {
            return Value::Nothing;
        }
        if self.eat("[") {
            let mut items = Vec::new();
            while !self.eat("]") {
                items.push(self.value());
                self.eat(", ");
            }
            return Value::List(items);
        }
        if self.eat("{") {
            return Value::Fields(self.entries("}"));
        }
        if self.rest().starts_with('"') || self.rest().starts_with("b\"") {
            return Value::Scalar(self.quoted());
        }
        let end = self.rest().find(|c: char| " ,:(){}[]".contains(c)).unwrap_or(self.rest().len());
        let word = self.rest()[..end].to_owned();
        assert!(!word.is_empty(), "nothing to read: {}", self.rest());
        self.at += end;
        if self.eat(" { ") {
            return Value::Fields(self.entries(" }"));
        }
        if self.eat("(") {
            let inner = self.value();
            assert!(self.eat(")"), "one value: {}", self.rest());
            return match word.as_str() {
                "Some" | "Shared" | "Set" => inner,
                _ => Value::Fields(vec![(word, inner)]),
            };
        }
        if word == "None" { Value::Nothing } else { Value::Scalar(word) }
    }

    fn entries(&mut self, end: &str) -> Vec<(String, Value)> {
        let mut entries = Vec::new();
        while !self.eat(end) {
            let key = self.value();
            let key = match &key {
                Value::Scalar(text) => text.trim_matches('"').to_owned(),
                other => one_line(other),
            };
            assert!(self.eat(": "), "a value of {key}: {}", self.rest());
            let value = self.value();
            entries.push((key, value));
            self.eat(", ");
        }
        entries
    }

    fn quoted(&mut self) -> String {
        let rest = self.rest();
        let begin = rest.find('"').unwrap() + 1;
        let mut is_escaped = false;
        let end = rest[begin..].find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let end = begin + end.expect("a text ends") + 1;
        let text = rest[..end].to_owned();
        self.at += end;
        text
    }
}

#[test]
fn values_are_lines() {
    use tereza_thrift::hive::*;

    use crate::support::{map, partition, text};

    let mut one = partition("t", &["a \"b\"", "c\\"]);
    one.parameters = Some(map(&[("k", "v, w"), ("x.y", "")]));
    one.sd =
        Some(StorageDescriptor { cols: Some(vec![crate::support::column("id", "int")].into()), ..Default::default() });
    let lines: Vec<String> =
        of(&format!("{one:?}")).into_iter().map(|(path, value)| format!("{path} = {value}")).collect();
    assert_eq!(
        lines,
        [
            r#"values = ["a \"b\"", "c\\"]"#,
            r#"db_name = "web""#,
            r#"table_name = "t""#,
            r#"sd.cols[0].name = "id""#,
            r#"sd.cols[0].type = "int""#,
            r#"parameters.k = "v, w""#,
            r#"parameters.x.y = """#,
        ]
    );
    let args = GetTableArgs { dbname: text("web"), tbl_name: None };
    assert_eq!(compact(&format!("{args:?}")), r#"{dbname: "web"}"#);
    assert_eq!(of("()"), []);
    assert_eq!(of("[]"), [("reply".to_owned(), "[]".to_owned())]);
    let data = ColumnStatisticsData::LongStats(LongColumnStatsData { num_nulls: 1, ..Default::default() });
    assert_eq!(of(&format!("{data:?}"))[0], ("LongStats.num_nulls".to_owned(), "1".to_owned()));
}
