//! What the normalized form is written from: names of types in full, as the compiler finds them, but options as they were
//! written. The compiler turns those into fields of the options' messages, and those of files that are not Protobuf's own
//! have no field to be in.

use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// The resolved file with the options of the written one. Both have the same things in the same order.
pub(super) fn file(resolved: &FileDescriptorProto, written: &FileDescriptorProto) -> FileDescriptorProto {
    let mut file = FileDescriptorProto { options: written.options.clone(), ..resolved.clone() };
    pairs(&mut file.message_type, &written.message_type, message);
    pairs(&mut file.enum_type, &written.enum_type, enumeration);
    pairs(&mut file.extension, &written.extension, field);
    pairs(&mut file.service, &written.service, |service, written| {
        service.options.clone_from(&written.options);
        pairs(&mut service.method, &written.method, |method, written| method.options.clone_from(&written.options));
    });
    file
}

fn pairs<T>(list: &mut [T], written: &[T], take: impl Fn(&mut T, &T)) {
    list.iter_mut().zip(written).for_each(|(own, written)| take(own, written));
}

/// It goes as deep as messages are nested, which is bounded.
fn message(message: &mut DescriptorProto, written: &DescriptorProto) {
    message.options.clone_from(&written.options);
    pairs(&mut message.field, &written.field, field);
    pairs(&mut message.extension, &written.extension, field);
    pairs(&mut message.nested_type, &written.nested_type, self::message);
    pairs(&mut message.enum_type, &written.enum_type, enumeration);
    pairs(&mut message.oneof_decl, &written.oneof_decl, |oneof, written| oneof.options.clone_from(&written.options));
    pairs(&mut message.extension_range, &written.extension_range, |range, written| {
        range.options.clone_from(&written.options);
    });
}

fn field(field: &mut FieldDescriptorProto, written: &FieldDescriptorProto) {
    field.options.clone_from(&written.options);
}

fn enumeration(item: &mut EnumDescriptorProto, written: &EnumDescriptorProto) {
    item.options.clone_from(&written.options);
    pairs(&mut item.value, &written.value, |value, written| value.options.clone_from(&written.options));
}
