use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use proptest::prelude::*;
use tereza_runtime::ErrorKind;

use super::message::{Headers, encode};
use super::*;
use crate::log::Output;
use crate::operator::batch::Batch;
use crate::operator::key::{RowCodec, key_group};
use crate::operator::{RowKind, WATERMARK_MAX};
use crate::plan::Exchange;
use crate::record::Told;

const HEAD: Head = Head { generation: 3, task: 1, tasks: 2, mark: None };

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]))
}

fn rows(keys: &[i64]) -> RecordBatch {
    let texts: StringArray = keys.iter().map(|key| (key % 3 != 0).then(|| format!("text {key}"))).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys.to_vec())), Arc::new(texts)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn kinds(batch: &Batch) -> Vec<RowKind> {
    (0..batch.len()).map(|row| batch.kind(row)).collect()
}

#[test]
fn messages_come_back_as_they_were() {
    let kinds_of = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
    let batch = Batch::changes(rows(&[1, 2, 3, 4]), kinds_of.to_vec()).unwrap();
    for mark in [None, Some(Mark::Idle), Some(Mark::At(-5)), Some(Mark::At(i64::MAX)), Some(Mark::At(i64::MIN + 1))] {
        let head = Head { mark, ..HEAD };
        let (headers, value) = encode(&head, Some(&batch)).unwrap();
        let (found, rows) = decode(&headers, value.as_ref(), &schema()).unwrap();
        let rows = rows.unwrap();
        assert_eq!((found, rows.rows(), kinds(&rows)), (head, batch.rows(), kinds_of.to_vec()));
        let (headers, value) = encode(&head, None).unwrap();
        assert!(value.is_none());
        assert_eq!(decode(&headers, None, &schema()).unwrap().0, head);
    }
    let end = encode(&Head { mark: Some(Mark::At(WATERMARK_MAX)), ..HEAD }, None).unwrap().0;
    assert!(end.contains(&("watermark".to_owned(), Some(Bytes::from("MAX")))), "{end:?}");
}

#[test]
fn rows_without_columns_are_counted() {
    let options = RecordBatchOptions::new().with_row_count(Some(5));
    let none = Arc::new(Schema::empty());
    let batch = Batch::inserts(RecordBatch::try_new_with_options(none.clone(), vec![], &options).unwrap());
    let (headers, value) = encode(&HEAD, Some(&batch)).unwrap();
    let (_, rows) = decode(&headers, value.as_ref(), &none).unwrap();
    assert_eq!(rows.unwrap().len(), 5);
}

#[test]
fn what_is_no_message_of_the_edge_is_refused() {
    let (headers, value) = encode(&HEAD, Some(&Batch::inserts(rows(&[1, 2])))).unwrap();
    let value = value.unwrap();
    let with = |name: &str, text: Option<&str>| -> Headers {
        let mut headers = headers.clone();
        headers.retain(|(known, _)| known != name);
        headers.extend(text.map(|text| (name.to_owned(), Some(Bytes::from(text.to_owned())))));
        headers
    };
    for (name, text, said) in [
        ("version", None, "'version' is missing"),
        ("generation", Some("-1"), "'generation' is no number"),
        ("task", Some("2"), "task 2 of 2"),
        ("tasks", Some("4000000000"), "of 4000000000"),
        ("watermark", Some("soon"), "'watermark' is no number"),
        ("hash", None, "'hash' is missing"),
        ("hash", Some("0000000000000000"), "its hash is another one"),
    ] {
        let error = decode(&with(name, text), Some(&value), &schema()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(said), "{name}: {error}");
    }
    let later = decode(&with("version", Some("2")), Some(&value), &schema()).unwrap_err();
    assert_eq!(later.kind(), ErrorKind::Unsupported);
    let mut not_text = with("task", None);
    not_text.push(("task".to_owned(), Some(Bytes::from_static(b"\xff"))));
    assert!(decode(&not_text, Some(&value), &schema()).unwrap_err().to_string().contains("no text"));
    let others = Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("s", DataType::Int64, true)]);
    let error = decode(&headers, Some(&value), &others).unwrap_err();
    assert!(error.to_string().contains("other columns"), "{error}");
}

proptest! {
    #[test]
    fn changed_bytes_are_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u32, cut in any::<bool>()) {
        let (headers, value) = encode(&HEAD, Some(&Batch::inserts(rows(&[7, 8, 9])))).unwrap();
        let mut bytes = value.unwrap().to_vec();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        prop_assert!(decode(&headers, Some(&bytes.into()), &schema()).is_err());
    }
}

fn receiver(generation: u64, tasks: u32, told: &[(u32, Mark)]) -> Receiver {
    let mut receiver = Receiver::default();
    for (task, mark) in told {
        receiver.take(&Head { generation, task: *task, tasks, mark: Some(*mark) }).unwrap();
    }
    receiver
}

#[test]
fn the_least_of_all_tasks_counts() {
    let of = |told: &[(u32, Mark)]| receiver(1, 3, told).mark();
    assert_eq!(of(&[(0, Mark::At(5)), (1, Mark::At(6))]), None, "task 2 has told nothing");
    assert_eq!(of(&[(0, Mark::At(5)), (1, Mark::At(6)), (2, Mark::At(9))]), Some(Mark::At(5)));
    assert_eq!(of(&[(0, Mark::At(5)), (1, Mark::Idle), (2, Mark::At(9)), (0, Mark::At(7))]), Some(Mark::At(7)));
    assert_eq!(of(&[(0, Mark::Idle), (1, Mark::Idle), (2, Mark::Idle)]), Some(Mark::Idle));
    assert_eq!(of(&[(0, Mark::At(i64::MAX)), (1, Mark::Idle), (2, Mark::At(3))]), Some(Mark::At(3)));
    let end = Mark::At(WATERMARK_MAX);
    assert!(receiver(1, 2, &[(0, end), (1, end)]).is_ended());
    assert!(!receiver(1, 2, &[(0, end), (1, Mark::At(3))]).is_ended());
}

#[test]
fn time_never_goes_back_and_waits_for_all_tasks_of_a_new_generation() {
    let mut receiver = receiver(1, 2, &[(0, Mark::At(50)), (1, Mark::At(40))]);
    let mut take = |generation, task, tasks, mark| {
        receiver.take(&Head { generation, task, tasks, mark: Some(mark) }).map(|()| receiver.mark())
    };
    assert_eq!(take(2, 2, 3, Mark::At(100)).unwrap(), Some(Mark::At(40)));
    assert_eq!(take(2, 0, 3, Mark::At(90)).unwrap(), Some(Mark::At(40)));
    assert_eq!(take(2, 1, 3, Mark::At(30)).unwrap(), Some(Mark::At(40)));
    assert_eq!(take(2, 1, 3, Mark::At(95)).unwrap(), Some(Mark::At(90)));
    assert_eq!(take(2, 0, 3, Mark::Idle).unwrap(), Some(Mark::At(95)));
    for (generation, tasks) in [(1, 2), (2, 4)] {
        let error = take(generation, 0, tasks, Mark::At(99)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    }
    let again = Receiver::new(receiver.told().clone());
    assert_eq!((again.mark(), &again), (Some(Mark::At(95)), &receiver));
    assert_eq!(Receiver::new(Told::default()).mark(), None);
}

fn sender(graphs: &[i32]) -> Sender {
    let exchange = Exchange { schema: schema(), keys: vec![0], into: "1-sum".to_owned(), input: 0 };
    Sender::new("edge".to_owned(), &exchange, PARTITIONS, HEAD, graphs.iter().copied()).unwrap()
}

fn read(output: &Output) -> (i32, Head, Option<Batch>) {
    let (head, rows) = decode(&output.headers, output.value.as_ref(), &schema()).unwrap();
    (output.partition.unwrap(), head, rows)
}

#[test]
fn rows_go_to_the_partition_of_their_key_group() {
    let mut sender = sender(&[0]);
    let mut out = Vec::new();
    let keys: Vec<i64> = (0..2_000).collect();
    for keys in keys.chunks(700) {
        sender.put(&Batch::inserts(rows(keys)), &mut out).unwrap();
    }
    assert!(out.is_empty(), "they wait for the end of the epoch");
    sender.end_epoch(&mut out).unwrap();
    assert_eq!(out.len(), PARTITIONS as usize, "one message each");
    let codec = RowCodec::new(&schema(), &[0]).unwrap();
    let mut seen = BTreeSet::new();
    for output in &out {
        let (partition, head, batch) = read(output);
        assert_eq!(head, HEAD, "no watermark is known");
        let batch = batch.unwrap();
        let encoded = codec.encode(batch.rows()).unwrap();
        let groups = key_groups(partition, PARTITIONS);
        assert!((0..batch.len()).all(|row| groups.contains(&key_group(encoded.get(row)))), "{groups:?}");
        let keys = batch.rows().column(0).as_primitive::<Int64Type>().values();
        assert!(keys.is_sorted(), "the order of a partition is that of its rows");
        assert!(keys.iter().all(|key| seen.insert(*key)));
    }
    assert!(seen.into_iter().eq(0..2_000));
}

#[test]
fn every_partition_is_told_a_new_watermark_once() {
    let mut sender = sender(&[0, 1]);
    let epoch = |sender: &mut Sender| {
        let mut out = Vec::new();
        sender.end_epoch(&mut out).unwrap();
        let marks: BTreeSet<_> = out.iter().map(|output| format!("{:?}", read(output).1.mark)).collect();
        (out.len(), marks.into_iter().collect::<Vec<_>>().join(", "))
    };
    assert_eq!(epoch(&mut sender).0, 0);
    sender.advance(0, Mark::At(7));
    assert_eq!(epoch(&mut sender).0, 0, "the other graph has told nothing");
    sender.advance(1, Mark::At(5));
    assert_eq!(epoch(&mut sender), (16, "Some(At(5))".to_owned()));
    assert_eq!(epoch(&mut sender).0, 0);
    sender.advance(1, Mark::Idle);
    assert_eq!(epoch(&mut sender), (16, "Some(At(7))".to_owned()));
    sender.advance(1, Mark::At(6));
    assert_eq!(epoch(&mut sender).0, 0, "it does not go back");
    sender.advance(0, Mark::Idle);
    sender.advance(1, Mark::Idle);
    assert_eq!(epoch(&mut sender), (16, "Some(Idle)".to_owned()));
}

#[test]
fn many_rows_are_sent_before_the_end_in_messages_of_a_bound() {
    let mut sender = sender(&[0]);
    sender.advance(0, Mark::At(1));
    sender.end_epoch(&mut Vec::new()).unwrap();
    sender.advance(0, Mark::At(2));
    let mut out = Vec::new();
    // All of one key, so of one partition.
    sender.put(&Batch::inserts(rows(&vec![4; 60_000])), &mut out).unwrap();
    assert!(out.len() > 1, "{} messages", out.len());
    let found: Vec<_> = out.iter().map(read).collect();
    assert_eq!(found.iter().map(|(_, _, rows)| rows.as_ref().unwrap().len()).sum::<usize>(), 60_000);
    let marks: Vec<_> = found.iter().map(|(_, head, _)| head.mark).collect();
    let (last, others) = marks.split_last().unwrap();
    assert!(*last == Some(Mark::At(2)) && others.iter().all(|mark| *mark == Some(Mark::At(1))), "{marks:?}");
    out.clear();
    sender.end_epoch(&mut out).unwrap();
    assert_eq!(out.len(), PARTITIONS as usize - 1, "that partition knows");
}

#[test]
fn key_groups_are_those_of_neighbours() {
    let all: Vec<u8> = (0..PARTITIONS).flat_map(|partition| key_groups(partition, PARTITIONS)).collect();
    assert!(all.into_iter().eq(0..=255));
    assert_eq!(key_groups(0, 1), 0..=255);
}
