//! Messages that could not be read, as they go to the topic that takes them.

use bytes::Bytes;

use crate::format::Message;
use crate::log::Output;

/// Where the message was, and why it could not be read: texts, in headers behind its own.
const TOPIC: &str = "__tereza.error.topic";
const PARTITION: &str = "__tereza.error.partition";
const OFFSET: &str = "__tereza.error.offset";
/// Milliseconds since 1970; left out if the message has no time.
const TIMESTAMP: &str = "__tereza.error.timestamp";
const REASON: &str = "__tereza.error.message";
/// Bytes of a reason that are kept: it may quote the message, which must not grow to twice its size.
const REASON_MAX: usize = 1_000;

/// The message with the key, value, headers and time that it had. Its partition is chosen by the key.
pub(super) fn of(topic: &str, message: &Message, reason: &str) -> Output {
    let mut headers = message.headers.clone();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), Some(Bytes::from(value))));
    add(TOPIC, message.topic.to_string());
    add(PARTITION, message.partition.to_string());
    add(OFFSET, message.offset.to_string());
    if let Some(timestamp) = message.timestamp_ms {
        add(TIMESTAMP, timestamp.to_string());
    }
    add(REASON, reason[..reason.floor_char_boundary(REASON_MAX)].to_owned());
    Output {
        topic: topic.to_owned(),
        partition: None,
        key: message.key.clone(),
        value: message.value.clone(),
        headers,
        timestamp: message.timestamp_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_message_is_lost() {
        let own = vec![("a".to_owned(), None), ("a".to_owned(), Some(Bytes::from_static(b"\xff")))];
        let message = Message {
            topic: "orders".into(),
            partition: 2,
            offset: 7,
            timestamp_ms: Some(1_700_000_000_000),
            key: None,
            value: Some(Bytes::from_static(b"{\xff")),
            headers: own.clone(),
        };
        let reason = "ä".repeat(REASON_MAX);
        let dead = of("dead", &message, &reason);
        assert_eq!((dead.topic.as_str(), dead.partition, dead.timestamp), ("dead", None, message.timestamp_ms));
        assert_eq!((&dead.key, &dead.value), (&message.key, &message.value));
        assert_eq!(dead.headers[..2], own);
        let text = |(name, value): &(String, Option<Bytes>)| {
            (name.clone(), String::from_utf8(value.as_ref().unwrap().to_vec()).unwrap())
        };
        let added: Vec<(String, String)> = dead.headers[2..].iter().map(text).collect();
        let expected = [
            (TOPIC, "orders"),
            (PARTITION, "2"),
            (OFFSET, "7"),
            (TIMESTAMP, "1700000000000"),
            (REASON, &"ä".repeat(REASON_MAX / 2)),
        ];
        assert_eq!(added, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
