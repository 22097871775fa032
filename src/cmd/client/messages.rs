//! Session messages of Flight that `arrow-flight` has no types for (`Flight.proto`, Apache Arrow format).

use std::collections::BTreeMap;

use prost::{Message, Oneof};

/// Body of the action `SetSessionOptions`. Ordered by name, so that `catalog` is set before `schema`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SetSessionOptionsRequest {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) session_options: BTreeMap<String, SessionOptionValue>,
}

/// Its result: the options that were not set.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SetSessionOptionsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) errors: BTreeMap<String, OptionError>,
}

/// Why an option was not set: 1 its name, 2 its value, otherwise another reason.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OptionError {
    #[prost(int32, tag = "1")]
    pub(super) value: i32,
}

/// Result of the action `GetSessionOptions`, whose body is empty.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GetSessionOptionsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) session_options: BTreeMap<String, SessionOptionValue>,
}

/// The value of an option.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub(super) value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum OptionValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(TextList),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TextList {
    #[prost(string, repeated, tag = "1")]
    pub(super) values: Vec<String>,
}

impl SessionOptionValue {
    pub(super) fn text(value: &str) -> Self {
        Self { value: Some(OptionValue::Text(value.to_string())) }
    }

    /// The value as `SET` would be given it; an option without a value is empty.
    pub(super) fn to_text(&self) -> String {
        match &self.value {
            None => String::new(),
            Some(OptionValue::Text(text)) => text.clone(),
            Some(OptionValue::Bool(value)) => value.to_string(),
            Some(OptionValue::Int(value)) => value.to_string(),
            Some(OptionValue::Double(value)) => value.to_string(),
            Some(OptionValue::List(list)) => list.values.join(","),
        }
    }
}
