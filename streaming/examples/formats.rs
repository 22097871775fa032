//! How fast events are made, written and read on one core.

use std::time::Duration;

use bytes::Bytes;
use tereza_runtime::clock;
use tereza_streaming::format::{FormatOptions, Message, TableFormats, decoder, encoder};
use tereza_streaming::nexmark::{Nexmark, NexmarkOptions, bid_schema};

/// Events of a batch, as a task makes them.
const BATCH: u64 = 1 << 16;
const BATCHES: u64 = 64;

fn rate(events: u64, took: Duration) -> f64 {
    f64::from(u32::try_from(events).unwrap_or(u32::MAX)) / took.as_secs_f64() / 1e6
}

fn main() -> tereza_runtime::Result<()> {
    let nexmark = Nexmark::new(NexmarkOptions::default());
    let numbers = |batch: u64| batch * BATCH..(batch + 1) * BATCH;
    let start = clock::now();
    let mut bytes = 0;
    for batch in 0..BATCHES {
        bytes += nexmark.batch(numbers(batch))?.get_array_memory_size();
    }
    println!("nexmark to batches: {:.2} M events/s ({} MB)", rate(BATCH * BATCHES, start.elapsed()), bytes >> 20);

    let bids = (0..8).map(|batch| nexmark.bids(numbers(batch))).collect::<tereza_runtime::Result<Vec<_>>>()?;
    for format in ["json", "csv", "avro", "debezium-json"] {
        let table = TableFormats {
            schema: bid_schema(),
            key: None,
            value: FormatOptions::new(format),
            value_has_key: true,
            is_upsert: false,
            topic: None,
        };
        let (mut encoder, mut decoder) = (encoder(&table)?, decoder(&table)?);
        let start = clock::now();
        let mut all = Vec::new();
        for bids in &bids {
            all.push(encoder.encode(bids, None)?);
        }
        let wrote = start.elapsed();
        let topic: std::sync::Arc<str> = "t".into();
        let message = |value: Option<Bytes>| Message {
            topic: topic.clone(),
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: None,
            value,
            headers: Vec::new(),
        };
        let batches: Vec<Vec<Message>> =
            all.into_iter().map(|batch| batch.into_iter().map(|encoded| message(encoded.value)).collect()).collect();
        let bytes: usize = batches.iter().flatten().map(|message| message.value.as_ref().map_or(0, Bytes::len)).sum();
        let start = clock::now();
        let mut rows = 0;
        for messages in &batches {
            rows += u64::try_from(decoder.decode(messages)?.batch.num_rows()).unwrap_or_default();
        }
        let read = start.elapsed();
        println!(
            "{format}: {rows} bids of {} bytes, written {:.2} M/s, read {:.2} M/s",
            bytes as u64 / rows.max(1),
            rate(rows, wrote),
            rate(rows, read)
        );
    }
    Ok(())
}
