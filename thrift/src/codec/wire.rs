//! How each type of Rust is on the wire.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;

use super::kind;
use super::reader::{DecodeError, FieldReader, Reader, Reason};
use super::writer::Writer;

type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// A value of the wire.
pub trait Wire: Sized {
    /// Its type there, one of [`kind`].
    const TYPE: u8;

    /// Writes the value, without a field's head.
    fn write(&self, writer: &mut Writer);

    /// Reads the value.
    fn read(reader: &mut Reader<'_>) -> Result<Self>;
}

/// What is sent as a `T`, and is the same on the wire.
pub trait SentAs<T: Wire>: Send {
    /// Writes the value, without a field's head.
    fn write_as(&self, writer: &mut Writer);
}

impl<T: Wire + Send> SentAs<T> for T {
    fn write_as(&self, writer: &mut Writer) {
        self.write(writer);
    }
}

/// A struct, a union or an exception of an interface, or the arguments of a method.
pub trait Record: Default {
    /// Its name in the interface.
    const NAME: &'static str;
    /// The names of its fields, for messages.
    const FIELDS: &'static [(i16, &'static str)] = &[];

    /// Writes the fields that are there.
    fn write_fields(&self, writer: &mut Writer);

    /// Takes the value of one field, or passes over it.
    fn read_field(&mut self, field: FieldReader<'_, '_>) -> Result<()>;
}

impl<T: Record> Wire for T {
    const TYPE: u8 = kind::STRUCT;

    fn write(&self, writer: &mut Writer) {
        writer.record(self);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        reader.record()
    }
}

/// A set, in the order of the wire: that nothing is in it twice is for whoever fills it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set<T>(pub Vec<T>);

/// A value that many others have in common. Changing one copies it first, if others have it too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shared<T>(Arc<T>);

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: Clone> Shared<T> {
    /// The value itself.
    pub fn into_inner(self) -> T {
        Arc::unwrap_or_clone(self.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: Wire> Wire for Shared<T> {
    const TYPE: u8 = T::TYPE;

    fn write(&self, writer: &mut Writer) {
        self.0.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        /// The two counts of an `Arc`.
        const COUNTS_BYTES: usize = 2 * size_of::<usize>();
        reader.charge(size_of::<T>() + COUNTS_BYTES)?;
        T::read(reader).map(Self::from)
    }
}

macro_rules! numbers {
    ($($ty:ty => $kind:ident),*) => {
        $(
            impl Wire for $ty {
                const TYPE: u8 = kind::$kind;

                fn write(&self, writer: &mut Writer) {
                    writer.put(&self.to_be_bytes());
                }

                fn read(reader: &mut Reader<'_>) -> Result<Self> {
                    reader.array().map(Self::from_be_bytes)
                }
            }
        )*
    };
}

numbers!(i8 => BYTE, i16 => I16, i32 => I32, i64 => I64, f64 => DOUBLE);

impl Wire for bool {
    const TYPE: u8 = kind::BOOL;

    fn write(&self, writer: &mut Writer) {
        writer.put(&[u8::from(*self)]);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        reader.byte().map(|byte| byte != 0)
    }
}

impl Wire for String {
    const TYPE: u8 = kind::STRING;

    fn write(&self, writer: &mut Writer) {
        writer.put_string(self.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let text = std::str::from_utf8(reader.string_bytes()?);
        text.map(str::to_owned).map_err(|error| DecodeError::new(Reason::NotUtf8 { at: error.valid_up_to() }))
    }
}

/// Binary values. They are copied, so that a small one does not keep its whole message.
impl Wire for Bytes {
    const TYPE: u8 = kind::STRING;

    fn write(&self, writer: &mut Writer) {
        writer.put_string(self);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        reader.string_bytes().map(Bytes::copy_from_slice)
    }
}

/// No value, as the result of a method that returns none.
impl Wire for () {
    const TYPE: u8 = kind::VOID;

    fn write(&self, _: &mut Writer) {}

    fn read(_: &mut Reader<'_>) -> Result<Self> {
        Ok(())
    }
}

impl<T: Wire> Wire for Vec<T> {
    const TYPE: u8 = kind::LIST;

    fn write(&self, writer: &mut Writer) {
        writer.put(&[T::TYPE]);
        writer.put_len(self.len());
        for item in self {
            if writer.is_full() {
                return;
            }
            item.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        reader.nested(|reader| {
            let count = reader.list_head(T::TYPE, size_of::<T>())?;
            let mut items = Vec::with_capacity(count);
            for _ in 0..count {
                items.push(T::read(reader)?);
            }
            Ok(items)
        })
    }
}

impl<T: Wire> Wire for Set<T> {
    const TYPE: u8 = kind::SET;

    fn write(&self, writer: &mut Writer) {
        self.0.write(writer);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        Vec::read(reader).map(Self)
    }
}

/// What the nodes of a tree of so many entries take at most. A small map has one node, most of which is empty.
fn tree_bytes(entries: usize, entry_bytes: usize) -> usize {
    /// Entries for which a node has room, and the fewest that one has which is not the only one.
    const NODE_ENTRIES: usize = 11;
    const NODE_ENTRIES_MIN: usize = 5;
    /// Its links to other nodes and its own numbers.
    const NODE_HEAD_BYTES: usize = 14 * size_of::<usize>();
    let nodes = if entries == 0 { 0 } else { entries / NODE_ENTRIES_MIN + 1 };
    nodes.saturating_mul(NODE_ENTRIES.saturating_mul(entry_bytes).saturating_add(NODE_HEAD_BYTES))
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    const TYPE: u8 = kind::MAP;

    fn write(&self, writer: &mut Writer) {
        writer.put(&[K::TYPE, V::TYPE]);
        writer.put_len(self.len());
        for (key, value) in self {
            if writer.is_full() {
                return;
            }
            key.write(writer);
            value.write(writer);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        reader.nested(|reader| {
            let count = reader.map_head((K::TYPE, V::TYPE))?;
            reader.charge(tree_bytes(count, size_of::<(K, V)>()))?;
            let mut entries = Self::new();
            for _ in 0..count {
                let key = K::read(reader)?;
                entries.insert(key, V::read(reader)?);
            }
            Ok(entries)
        })
    }
}

/// Declares an enum of an interface: a number with names, so that a value of a later release survives.
macro_rules! enumeration {
    ($name:ident $($value:ident = $number:literal,)*) => {
        #[doc = concat!("`", stringify!($name), "` of the interface. A value without a name here is kept as it came.")]
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i32);

        impl $name {
            $(pub const $value: Self = Self($number);)*

            /// The name of the value in the interface, if it has one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($value)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({})"), self.0),
                }
            }
        }

        impl $crate::codec::Wire for $name {
            const TYPE: u8 = $crate::codec::kind::I32;

            fn write(&self, writer: &mut $crate::codec::Writer) {
                self.0.write(writer);
            }

            fn read(reader: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                i32::read(reader).map(Self)
            }
        }
    };
}
pub(crate) use enumeration;
