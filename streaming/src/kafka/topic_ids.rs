//! The ids of topics. rdkafka has no safe form for this request.
#![expect(unsafe_code, reason = "librdkafka's own interface: its objects live as long as the function that makes them")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings::{
    RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT, rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new,
    rd_kafka_AdminOptions_set_request_timeout, rd_kafka_DescribeTopics, rd_kafka_DescribeTopics_result_topics,
    rd_kafka_TopicCollection_destroy, rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_error,
    rd_kafka_TopicDescription_name, rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_base64str, rd_kafka_admin_op_t,
    rd_kafka_error_code, rd_kafka_error_string, rd_kafka_event_DescribeTopics_result, rd_kafka_event_destroy,
    rd_kafka_event_error, rd_kafka_event_error_string, rd_kafka_event_type, rd_kafka_queue_destroy, rd_kafka_queue_new,
    rd_kafka_queue_poll, rd_kafka_resp_err_t,
};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tereza_runtime::{Error, Result};

use super::client;

/// Topic → id, 22 characters. A topic that is deleted and made again has another one.
///
/// # Errors
/// `NotFound` naming a topic that is not there, `Unavailable` when the cluster does not answer, `Unsupported` when it knows no ids.
pub(super) fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<BTreeMap<String, String>> {
    let bad = |_| Error::invalid_input("the name of a topic has a zero byte in it");
    let names = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>().map_err(bad)?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let wait = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let handle = client.native_ptr();
    // SAFETY: the client lives longer than this call. The collection copies the names. Everything that is made here is destroyed
    // here, and what an event holds is read before it is destroyed.
    unsafe {
        let collection = rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = rd_kafka_AdminOptions_new(handle, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        rd_kafka_AdminOptions_set_request_timeout(options, wait, ptr::null_mut(), 0);
        let queue = rd_kafka_queue_new(handle);
        rd_kafka_DescribeTopics(handle, collection, options, queue);
        // The request has a time limit of its own; this one only has to be longer.
        let event = rd_kafka_queue_poll(queue, wait.saturating_add(1_000));
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_TopicCollection_destroy(collection);
        let ids = if event.is_null() {
            Err(Error::unavailable(format!("the cluster did not say the ids of topics within {timeout:?}")))
        } else {
            let ids = read(event);
            rd_kafka_event_destroy(event);
            ids
        };
        rd_kafka_queue_destroy(queue);
        ids
    }
}

/// # Safety
/// `event` must be a live event.
unsafe fn read(event: *mut rdkafka::bindings::rd_kafka_event_t) -> Result<BTreeMap<String, String>> {
    // SAFETY: as the caller says; what librdkafka returns here belongs to the event.
    unsafe {
        let text = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
        let code = rd_kafka_event_error(event);
        if code != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let said = text(rd_kafka_event_error_string(event));
            return Err(client::error(
                format!("cannot ask for the ids of topics ({said})"),
                &KafkaError::MetadataFetch(code.into()),
            ));
        }
        debug_assert_eq!(rd_kafka_event_type(event), RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT);
        let mut count = 0;
        let descriptions =
            rd_kafka_DescribeTopics_result_topics(rd_kafka_event_DescribeTopics_result(event), &raw mut count);
        let mut ids = BTreeMap::new();
        for index in 0..count {
            let description = *descriptions.add(index);
            let topic = text(rd_kafka_TopicDescription_name(description));
            let error = rd_kafka_TopicDescription_error(description);
            if !error.is_null() && rd_kafka_error_code(error) != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                let code = RDKafkaErrorCode::from(rd_kafka_error_code(error));
                let said = text(rd_kafka_error_string(error));
                let error = client::error(format!("topic '{topic}' ({said})"), &KafkaError::MetadataFetch(code));
                return Err(client::of_topic(error, &topic));
            }
            let id = text(rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(description)));
            if id.chars().all(|c| c == 'A') {
                return Err(Error::unsupported(format!("the broker knows no id of topic '{topic}'"))
                    .with_hint("brokers from 2.8 on do"));
            }
            ids.insert(topic, id);
        }
        Ok(ids)
    }
}
