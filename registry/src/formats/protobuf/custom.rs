//! Custom options of files that come as descriptors: there they are fields of the options' messages, which only the files that
//! declare them can name. They are put back as a text would have them.

use prost_types::uninterpreted_option::NamePart;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, UninterpretedOption,
};
use protox::prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, Kind, Value};

/// The message that files are described with. It is known where a file declares options.
const FILE: &str = "google.protobuf.FileDescriptorProto";

/// Puts custom options into the options of a thing and says what they are of.
macro_rules! put {
    ($thing:expr, $described:expr) => {
        let custom = custom($described);
        if !custom.is_empty() {
            $thing.options.get_or_insert_default().uninterpreted_option.extend(custom);
        }
    };
}

/// Puts the custom options that are in `bytes`, which describe the file, into the file.
pub(super) fn restore(file: &mut FileDescriptorProto, bytes: &[u8], pool: &DescriptorPool) {
    let Some(described) = pool.get_message_by_name(FILE) else { return };
    let Ok(described) = DynamicMessage::decode(described, bytes) else { return };
    put!(file, &described);
    each(&mut file.message_type, &described, "message_type", message);
    each(&mut file.enum_type, &described, "enum_type", enumeration);
    each(&mut file.extension, &described, "extension", field);
    each(&mut file.service, &described, "service", |service, described| {
        put!(service, described);
        each(&mut service.method, described, "method", |method, described| {
            put!(method, described);
        });
    });
}

/// Does the same for each thing of a list, with its description.
fn each<T>(things: &mut [T], described: &DynamicMessage, name: &str, restore: impl Fn(&mut T, &DynamicMessage)) {
    let list = described.get_field_by_name(name);
    let list = list.as_deref().and_then(Value::as_list).unwrap_or_default();
    for (thing, described) in things.iter_mut().zip(list) {
        if let Some(described) = described.as_message() {
            restore(thing, described);
        }
    }
}

/// It goes as deep as messages are nested, which is bounded where descriptors are decoded.
fn message(message: &mut DescriptorProto, described: &DynamicMessage) {
    put!(message, described);
    each(&mut message.field, described, "field", field);
    each(&mut message.extension, described, "extension", field);
    each(&mut message.nested_type, described, "nested_type", self::message);
    each(&mut message.enum_type, described, "enum_type", enumeration);
    each(&mut message.oneof_decl, described, "oneof_decl", |oneof, described| {
        put!(oneof, described);
    });
    each(&mut message.extension_range, described, "extension_range", |range, described| {
        put!(range, described);
    });
}

fn field(field: &mut FieldDescriptorProto, described: &DynamicMessage) {
    put!(field, described);
}

fn enumeration(item: &mut EnumDescriptorProto, described: &DynamicMessage) {
    put!(item, described);
    each(&mut item.value, described, "value", |value, described| {
        put!(value, described);
    });
}

/// The custom options of what is described, as they would be written. One that is repeated is written so often.
fn custom(described: &DynamicMessage) -> Vec<UninterpretedOption> {
    let options = described.get_field_by_name("options");
    let Some(options) = options.as_deref().and_then(Value::as_message) else { return Vec::new() };
    let mut custom = Vec::new();
    for (extension, value) in options.extensions() {
        match value {
            Value::List(values) => custom.extend(values.iter().map(|value| option(&extension, value))),
            value => custom.push(option(&extension, value)),
        }
    }
    custom
}

fn option(extension: &ExtensionDescriptor, value: &Value) -> UninterpretedOption {
    let name = vec![NamePart { name_part: extension.full_name().to_owned(), is_extension: true }];
    let mut option = UninterpretedOption { name, ..UninterpretedOption::default() };
    match value {
        Value::Bool(value) => option.identifier_value = Some(value.to_string()),
        Value::I32(value) => number(&mut option, i64::from(*value)),
        Value::I64(value) => number(&mut option, *value),
        Value::U32(value) => option.positive_int_value = Some(u64::from(*value)),
        Value::U64(value) => option.positive_int_value = Some(*value),
        Value::F32(value) => option.double_value = Some(f64::from(*value)),
        Value::F64(value) => option.double_value = Some(*value),
        Value::String(value) => option.string_value = Some(value.clone().into_bytes()),
        Value::Bytes(value) => option.string_value = Some(value.to_vec()),
        Value::EnumNumber(value) => match extension.kind() {
            Kind::Enum(kind) if kind.get_value(*value).is_some() => {
                option.identifier_value = kind.get_value(*value).map(|known| known.name().to_owned());
            }
            _ => number(&mut option, i64::from(*value)),
        },
        Value::Message(value) => option.aggregate_value = Some(value.to_text_format()),
        // Extensions are neither maps nor lists of lists.
        Value::List(_) | Value::Map(_) => {}
    }
    option
}

fn number(option: &mut UninterpretedOption, value: i64) {
    match u64::try_from(value) {
        Ok(value) => option.positive_int_value = Some(value),
        Err(_) => option.negative_int_value = Some(value),
    }
}
