//! The head of a message, and Thrift's own exception.

use super::reader::{DecodeError, FieldReader, Reader, Reason};
use super::scan::METHOD_NAME_LIMIT_BYTES;
use super::wire::Record;
use super::writer::Writer;

/// The first two bytes of a strict message: the version of the protocol.
pub(crate) const STRICT: u16 = 0x8001;

/// The first bit of a strict message; an old one begins with the length of a name, which is positive.
pub(crate) const STRICT_BIT: u8 = 0x80;

/// How the head of a message is written: with the version of the protocol, or as before there were versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Strict,
    Old,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    Call,
    Reply,
    Exception,
    Oneway,
}

impl MessageType {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Call),
            2 => Some(Self::Reply),
            3 => Some(Self::Exception),
            4 => Some(Self::Oneway),
            _ => None,
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            Self::Call => 1,
            Self::Reply => 2,
            Self::Exception => 3,
            Self::Oneway => 4,
        }
    }
}

/// The head of a message. A struct follows: arguments, a result or an [`ApplicationException`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The method, in the bytes of the peer: an answer repeats them.
    pub name: Vec<u8>,
    pub kind: MessageType,
    /// The caller's number of the call: an answer repeats it.
    pub sequence: i32,
    pub form: Form,
}

impl Header {
    /// The method as text, with a mark for what is none.
    pub fn method(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// Reads the head; what follows in the reader is the struct.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bad = || DecodeError::new(Reason::BadHeader);
        let first: [u8; 4] = reader.array()?;
        let (form, name_len, strict_kind) = if first[0] & STRICT_BIT != 0 {
            if u16::from_be_bytes([first[0], first[1]]) != STRICT {
                return Err(bad());
            }
            (Form::Strict, reader.len()?, Some(first[3]))
        } else {
            (Form::Old, usize::try_from(i32::from_be_bytes(first)).map_err(|_| bad())?, None)
        };
        if name_len > METHOD_NAME_LIMIT_BYTES {
            return Err(bad());
        }
        let name = reader.take(name_len)?.to_vec();
        let kind = match strict_kind {
            Some(kind) => kind,
            None => reader.byte()?,
        };
        let kind = MessageType::from_byte(kind).ok_or_else(bad)?;
        Ok(Self { name, kind, sequence: i32::from_be_bytes(reader.array()?), form })
    }

    /// Writes the head, in its form.
    pub fn write(&self, writer: &mut Writer) {
        let kind = self.kind.to_byte();
        match self.form {
            Form::Strict => {
                let [high, low] = STRICT.to_be_bytes();
                writer.put(&[high, low, 0, kind]);
                writer.put_string(&self.name);
            }
            Form::Old => {
                writer.put_string(&self.name);
                writer.put(&[kind]);
            }
        }
        writer.put(&self.sequence.to_be_bytes());
    }

    /// The head of an answer to this call.
    pub(crate) fn answer(&self, kind: MessageType) -> Self {
        Self { name: self.name.clone(), kind, sequence: self.sequence, form: self.form }
    }
}

/// `TApplicationException`: what Thrift itself answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplicationException {
    pub message: String,
    /// Which failure it is, one of the constants here.
    pub code: i32,
}

impl ApplicationException {
    pub const UNKNOWN: i32 = 0;
    pub const UNKNOWN_METHOD: i32 = 1;
    pub const INVALID_MESSAGE_TYPE: i32 = 2;
    pub const WRONG_METHOD_NAME: i32 = 3;
    pub const BAD_SEQUENCE_ID: i32 = 4;
    pub const MISSING_RESULT: i32 = 5;
    pub const INTERNAL_ERROR: i32 = 6;
    pub const PROTOCOL_ERROR: i32 = 7;

    /// A failure with its number and a message for people.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { message: message.into(), code }
    }

    /// The answer to a call of a method that is not there, in the words of Thrift's Java servers, which clients look for.
    pub fn unknown_method(method: &str) -> Self {
        Self::new(Self::UNKNOWN_METHOD, format!("Invalid method name: '{method}'"))
    }
}

impl Record for ApplicationException {
    const NAME: &'static str = "TApplicationException";
    const FIELDS: &'static [(i16, &'static str)] = &[(1, "message"), (2, "type")];

    fn write_fields(&self, writer: &mut Writer) {
        writer.required(1, &self.message);
        writer.required(2, &self.code);
    }

    fn read_field(&mut self, field: FieldReader<'_, '_>) -> Result<(), DecodeError> {
        match field.id() {
            1 => field.required(&mut self.message),
            2 => field.required(&mut self.code),
            _ => field.skip(),
        }
    }
}
