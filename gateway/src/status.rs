//! From a [`tereza_runtime::Error`] to a gRPC status.

use http::HeaderMap;
use tereza_runtime::Error;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// A gRPC message travels percent-encoded in a header, and some clients (grpc-java) take 8 KiB of headers in all.
const MESSAGE_LIMIT_BYTES: usize = 2048;

/// The status of an error: the code of its kind, its text, and its SQLSTATE in the metadata `sqlstate`.
///
/// An [`Error`] of kind `Internal` is logged with what caused it, since its reader can only report it.
pub(crate) fn status(error: Error) -> Status {
    let mapping = error.kind().mapping();
    let code = Code::from_i32(mapping.grpc);
    if code == Code::Internal {
        tracing::error!(error = ?error, "a request failed");
    }
    let mut headers = HeaderMap::new();
    headers.insert("sqlstate", http::HeaderValue::from_static(mapping.sqlstate));
    Status::with_metadata(code, shorten(error.to_string()), MetadataMap::from_headers(headers))
}

/// A metadata value, or nothing if `text` cannot be one.
pub(crate) fn ascii(text: &str) -> Option<MetadataValue<tonic::metadata::Ascii>> {
    MetadataValue::try_from(text).ok()
}

fn shorten(mut message: String) -> String {
    if message.len() <= MESSAGE_LIMIT_BYTES {
        return message;
    }
    message.truncate(message.floor_char_boundary(MESSAGE_LIMIT_BYTES));
    message.push_str(" … (cut)");
    message
}

#[cfg(test)]
mod tests {
    use tereza_runtime::ErrorKind;

    use super::*;

    #[test]
    fn every_kind_has_its_code_and_sqlstate() {
        for kind in ErrorKind::ALL {
            let status = status(Error::new(kind, "an odd thing, unsupported or not"));
            assert_eq!(status.code() as i32, kind.mapping().grpc);
            assert_eq!(status.message(), "an odd thing, unsupported or not");
            assert_eq!(status.metadata().get("sqlstate").unwrap(), kind.mapping().sqlstate);
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let status = status(Error::invalid_input("é".repeat(MESSAGE_LIMIT_BYTES)));
        assert!(status.message().len() < MESSAGE_LIMIT_BYTES + 20);
        assert!(status.message().ends_with("(cut)"));
    }
}
