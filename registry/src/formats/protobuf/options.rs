//! Options as they are written: those that nobody has looked at yet, and Protobuf's own.

use prost_types::{
    EnumOptions, EnumValueOptions, ExtensionRangeOptions, FieldOptions, FileOptions, MessageOptions, MethodOptions,
    OneofOptions, ServiceOptions, field_options, file_options, method_options,
};

use super::write::{quoted, setting};

/// Name and value.
pub(super) type Setting = (String, String);

/// Settings of a list of `name: Option<…>` fields, each written by a function.
macro_rules! settings {
    ($options:expr, $list:expr; $($field:ident => $write:expr),* $(,)?) => {
        $(if let Some(value) = &$options.$field {
            $list.push((stringify!($field).to_owned(), $write(value)));
        })*
    };
}

fn text(value: &String) -> String {
    quoted(value.as_bytes())
}

fn plain<T: ToString>(value: &T) -> String {
    value.to_string()
}

pub(super) fn of_file(options: Option<&FileOptions>) -> Vec<Setting> {
    let Some(options) = options else { return Vec::new() };
    let mut list: Vec<Setting> = options.uninterpreted_option.iter().map(setting).collect();
    let mode = |value: &i32| {
        file_options::OptimizeMode::try_from(*value)
            .map_or_else(|_| value.to_string(), |mode| mode.as_str_name().into())
    };
    settings!(options, list;
        java_package => text, java_outer_classname => text, java_multiple_files => plain, java_string_check_utf8 => plain,
        optimize_for => mode, go_package => text, cc_generic_services => plain, java_generic_services => plain,
        py_generic_services => plain, deprecated => plain, cc_enable_arenas => plain, objc_class_prefix => text,
        csharp_namespace => text, swift_prefix => text, php_class_prefix => text, php_namespace => text,
        php_metadata_namespace => text, ruby_package => text,
    );
    list
}

pub(super) fn of_message(options: Option<&MessageOptions>) -> Vec<Setting> {
    let Some(options) = options else { return Vec::new() };
    let mut list: Vec<Setting> = options.uninterpreted_option.iter().map(setting).collect();
    settings!(options, list;
        message_set_wire_format => plain, no_standard_descriptor_accessor => plain, deprecated => plain,
    );
    list
}

pub(super) fn of_field(options: Option<&FieldOptions>) -> Vec<Setting> {
    let Some(options) = options else { return Vec::new() };
    let mut list: Vec<Setting> = options.uninterpreted_option.iter().map(setting).collect();
    let ctype = |value: &i32| {
        field_options::CType::try_from(*value).map_or_else(|_| value.to_string(), |kind| kind.as_str_name().into())
    };
    let jstype = |value: &i32| {
        field_options::JsType::try_from(*value).map_or_else(|_| value.to_string(), |kind| kind.as_str_name().into())
    };
    settings!(options, list;
        ctype => ctype, packed => plain, jstype => jstype, lazy => plain, deprecated => plain, weak => plain,
    );
    list
}

pub(super) fn of_oneof(options: Option<&OneofOptions>) -> Vec<Setting> {
    options.into_iter().flat_map(|options| &options.uninterpreted_option).map(setting).collect()
}

pub(super) fn of_range(options: Option<&ExtensionRangeOptions>) -> Vec<Setting> {
    options.into_iter().flat_map(|options| &options.uninterpreted_option).map(setting).collect()
}

pub(super) fn of_enum(options: Option<&EnumOptions>) -> Vec<Setting> {
    let Some(options) = options else { return Vec::new() };
    let mut list: Vec<Setting> = options.uninterpreted_option.iter().map(setting).collect();
    settings!(options, list; allow_alias => plain, deprecated => plain);
    list
}

pub(super) fn of_value(options: Option<&EnumValueOptions>) -> Vec<Setting> {
    let Some(options) = options else { return Vec::new() };
    let mut list: Vec<Setting> = options.uninterpreted_option.iter().map(setting).collect();
    settings!(options, list; deprecated => plain);
    list
}

pub(super) fn of_service(options: Option<&ServiceOptions>) -> Vec<Setting> {
    let Some(options) = options else { return Vec::new() };
    let mut list: Vec<Setting> = options.uninterpreted_option.iter().map(setting).collect();
    settings!(options, list; deprecated => plain);
    list
}

pub(super) fn of_method(options: Option<&MethodOptions>) -> Vec<Setting> {
    let Some(options) = options else { return Vec::new() };
    let mut list: Vec<Setting> = options.uninterpreted_option.iter().map(setting).collect();
    let level = |value: &i32| {
        method_options::IdempotencyLevel::try_from(*value)
            .map_or_else(|_| value.to_string(), |level| level.as_str_name().into())
    };
    settings!(options, list; deprecated => plain, idempotency_level => level);
    list
}
