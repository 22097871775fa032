//! The events of Nexmark: people, auctions and bids of an auction house, as one stream.
//!
//! An event is a function of the seed and its number, so tasks that share the numbers among them make the same events as one
//! task would. Of 50 events one is a person, three are auctions and 46 are bids, in this order; ids follow from the number,
//! and so does the time: `base-time` plus the number over `first-event.rate`. What an auction or bid refers to is mostly
//! *hot*: the first auction of the last hundred, the second person of the last hundred for bids, the first for sellers.
//!
//! The definition is that of <https://github.com/nexmark/nexmark>; the random numbers are not.

mod columns;
mod events;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use tereza_runtime::{Error, Result};

use columns::{Auctions, Bids, People};
use events::Event;
pub(crate) use events::{Random, mix};

/// The options of a table with the connector `nexmark`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NexmarkOptions {
    /// Events a second, of event time (`first-event.rate`).
    pub rate: u64,
    /// How many events there are (`events.num`); none means no end.
    pub events: Option<u64>,
    /// The event to stop before (`stop-at`), if it is not the end.
    pub stop_at: Option<u64>,
    /// Whether the table goes on without events at its end (`keep-alive`).
    pub keeps_alive: bool,
    /// Whether events come as fast as they can (`max-emit-speed`), or when their time has come.
    pub is_unpaced: bool,
    /// The time of the first event, in milliseconds since 1970-01-01 (`base-time`).
    pub base_time_ms: i64,
    /// Of as many events as the three together, how many are people.
    pub people: u64,
    /// How many are auctions.
    pub auctions: u64,
    /// How many are bids.
    pub bids: u64,
    /// Bytes that a person has on average: `extra` fills them up.
    pub person_bytes: u64,
    /// Bytes that an auction has on average.
    pub auction_bytes: u64,
    /// Bytes that a bid has on average.
    pub bid_bytes: u64,
    /// One bid of so many is not for a hot auction (`bid.hot-ratio.auctions`).
    pub hot_auctions: u64,
    /// One bid of so many is not by a hot bidder (`bid.hot-ratio.bidders`).
    pub hot_bidders: u64,
    /// One auction of so many is not of a hot seller (`auction.hot-ratio.sellers`).
    pub hot_sellers: u64,
    /// What random values begin with (`seed`, which is Tereza's own).
    pub seed: u64,
}

/// The most that a rate, a proportion, a ratio or a size may be.
const NUMBER_MAX: u64 = 1_000_000_000;
/// The most bytes an event may have on average.
const BYTES_MAX: u64 = 1 << 20;

const NAMES: [&str; 19] = [
    "rate.shape",
    "rate.period",
    "rate.limited",
    "first-event.rate",
    "next-event.rate",
    "person.avg-size",
    "auction.avg-size",
    "bid.avg-size",
    "person.proportion",
    "auction.proportion",
    "bid.proportion",
    "bid.hot-ratio.auctions",
    "bid.hot-ratio.bidders",
    "auction.hot-ratio.sellers",
    "events.num",
    "keep-alive",
    "stop-at",
    "max-emit-speed",
    "base-time",
];

impl Default for NexmarkOptions {
    fn default() -> Self {
        Self {
            rate: 10_000,
            events: None,
            stop_at: None,
            keeps_alive: false,
            is_unpaced: true,
            base_time_ms: 0,
            people: 1,
            auctions: 3,
            bids: 46,
            person_bytes: 200,
            auction_bytes: 500,
            bid_bytes: 100,
            hot_auctions: 2,
            hot_bidders: 4,
            hot_sellers: 4,
            seed: 0,
        }
    }
}

impl NexmarkOptions {
    /// The options of a table, without `connector`. `now_ms` is the time of the first event where `base-time` is missing or 0.
    /// `rate.*` and `next-event.rate` are checked and have no effect: the rate is the same all the time.
    ///
    /// # Errors
    /// `InvalidInput` names an option that there is not, or a value that it cannot have.
    pub fn new(options: &BTreeMap<String, String>, now_ms: i64) -> Result<Self> {
        let is_known = |name: &str| name == "seed" || NAMES.contains(&name);
        if let Some(name) = options.keys().find(|name| !is_known(name)) {
            let error = Error::invalid_input(format!("connector `nexmark` has no option `{name}`"));
            let known: Vec<&str> = NAMES.iter().copied().chain(["seed"]).collect();
            return Err(match crate::format::nearest(name, &known) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error,
            });
        }
        let given = Given(options);
        let of = Self::default();
        let shape = given.text("rate.shape").unwrap_or("SQUARE");
        if !["SQUARE", "SINE"].iter().any(|known| known.eq_ignore_ascii_case(shape)) {
            return Err(given.bad("rate.shape", "SQUARE or SINE"));
        }
        given.flag("rate.limited", false)?;
        given.number("next-event.rate", of.rate, 1..=NUMBER_MAX)?;
        let base_time_ms = given.signed("base-time", 0)?;
        Ok(Self {
            rate: given.number("first-event.rate", of.rate, 1..=NUMBER_MAX)?,
            events: Some(given.number("events.num", 0, 0..=u64::MAX)?).filter(|events| *events > 0),
            stop_at: u64::try_from(given.signed("stop-at", -1)?).ok(),
            keeps_alive: given.flag("keep-alive", of.keeps_alive)?,
            is_unpaced: given.flag("max-emit-speed", of.is_unpaced)?,
            base_time_ms: if base_time_ms == 0 { now_ms } else { base_time_ms },
            people: given.number("person.proportion", of.people, 1..=NUMBER_MAX)?,
            auctions: given.number("auction.proportion", of.auctions, 1..=NUMBER_MAX)?,
            bids: given.number("bid.proportion", of.bids, 0..=NUMBER_MAX)?,
            person_bytes: given.bytes("person.avg-size", of.person_bytes)?,
            auction_bytes: given.bytes("auction.avg-size", of.auction_bytes)?,
            bid_bytes: given.bytes("bid.avg-size", of.bid_bytes)?,
            hot_auctions: given.number("bid.hot-ratio.auctions", of.hot_auctions, 1..=NUMBER_MAX)?,
            hot_bidders: given.number("bid.hot-ratio.bidders", of.hot_bidders, 1..=NUMBER_MAX)?,
            hot_sellers: given.number("auction.hot-ratio.sellers", of.hot_sellers, 1..=NUMBER_MAX)?,
            seed: given.number("seed", of.seed, 0..=u64::MAX)?,
        })
    }
}

/// Options as they were given.
struct Given<'a>(&'a BTreeMap<String, String>);

impl Given<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    fn bad(&self, name: &str, expected: &str) -> Error {
        let value = self.text(name).unwrap_or_default();
        Error::invalid_input(format!("option `{name}` of connector `nexmark` is `{value}`, not {expected}"))
    }

    fn number(&self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| self.bad(name, &format!("a number from {} to {}", range.start(), range.end())))
    }

    fn signed(&self, name: &str, default: i64) -> Result<i64> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().map_err(|_| self.bad(name, "a number"))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.text(name) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.bad(name, "true or false")),
        }
    }

    /// A size as Flink writes it: `200b`, `1 kb`, `500`.
    fn bytes(&self, name: &str, default: u64) -> Result<u64> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" | "bytes" => Some(1),
            "k" | "kb" | "kibibytes" => Some(1 << 10),
            "m" | "mb" | "mebibytes" => Some(1 << 20),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        bytes.filter(|bytes| *bytes <= BYTES_MAX).ok_or_else(|| self.bad(name, "a size of at most 1 mb"))
    }
}

/// Makes events.
#[derive(Debug, Clone)]
pub struct Nexmark {
    options: NexmarkOptions,
    schema: SchemaRef,
}

impl Nexmark {
    /// The events that options ask for.
    pub fn new(options: NexmarkOptions) -> Self {
        let row = |name: &str, fields: Fields| Field::new(name, DataType::Struct(fields), true);
        let schema = Schema::new(vec![
            Field::new("event_type", DataType::Int32, true),
            row("person", people_fields()),
            row("auction", auction_fields()),
            row("bid", bid_fields()),
        ]);
        Self { options, schema: Arc::new(schema) }
    }

    /// The options.
    pub fn options(&self) -> &NexmarkOptions {
        &self.options
    }

    /// `event_type` (0 a person, 1 an auction, 2 a bid) and one row for each of the three, two of them NULL.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The numbers of all events: from 0 to `events.num` or `stop-at`.
    pub fn numbers(&self) -> Range<u64> {
        0..self.options.events.unwrap_or(u64::MAX).min(self.options.stop_at.unwrap_or(u64::MAX))
    }

    /// The time of an event, in milliseconds since 1970-01-01.
    pub fn time_ms(&self, number: u64) -> i64 {
        let since = u128::from(number) * 1_000 / u128::from(self.options.rate);
        self.options.base_time_ms.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// The events with the numbers of a range, in their order.
    ///
    /// # Errors
    /// `Internal`, if a column has more than 2 GiB.
    pub fn batch(&self, numbers: Range<u64>) -> Result<RecordBatch> {
        let len = usize::try_from(numbers.end.saturating_sub(numbers.start)).unwrap_or_default();
        let mut kinds = Vec::with_capacity(len);
        let mut people = People::with_capacity(len);
        let mut auctions = Auctions::with_capacity(len);
        let mut bids = Bids::with_capacity(len);
        for number in numbers {
            let event = Event::new(self, number);
            let kind = event.kind();
            kinds.push(kind as i32);
            match kind {
                events::Kind::Person => {
                    people.push(event);
                    auctions.push_null();
                    bids.push_null();
                }
                events::Kind::Auction => {
                    auctions.push(event);
                    people.push_null();
                    bids.push_null();
                }
                events::Kind::Bid => {
                    bids.push(event);
                    people.push_null();
                    auctions.push_null();
                }
            }
        }
        let columns = columns::of_all(kinds, people, auctions, bids);
        columns.and_then(|columns| RecordBatch::try_new(self.schema(), columns)).map_err(too_large)
    }

    /// The people among the events with the numbers of a range, with the schema of [`people_schema`].
    ///
    /// # Errors
    /// As [`Nexmark::batch`].
    pub fn people(&self, numbers: Range<u64>) -> Result<RecordBatch> {
        let mut people = People::with_capacity(0);
        self.each(numbers, events::Kind::Person, |event| people.push(event));
        people.finish().map_err(too_large)
    }

    /// The auctions among the events, with the schema of [`auction_schema`].
    ///
    /// # Errors
    /// As [`Nexmark::batch`].
    pub fn auctions(&self, numbers: Range<u64>) -> Result<RecordBatch> {
        let mut auctions = Auctions::with_capacity(0);
        self.each(numbers, events::Kind::Auction, |event| auctions.push(event));
        auctions.finish().map_err(too_large)
    }

    /// The bids among the events, with the schema of [`bid_schema`].
    ///
    /// # Errors
    /// As [`Nexmark::batch`].
    pub fn bids(&self, numbers: Range<u64>) -> Result<RecordBatch> {
        let mut bids = Bids::with_capacity(0);
        self.each(numbers, events::Kind::Bid, |event| bids.push(event));
        bids.finish().map_err(too_large)
    }

    fn each<'a>(&'a self, numbers: Range<u64>, kind: events::Kind, mut take: impl FnMut(Event<'a>)) {
        let of_kind = numbers.map(|number| Event::new(self, number)).filter(|event| event.kind() == kind);
        of_kind.for_each(&mut take);
    }
}

fn too_large(error: arrow::error::ArrowError) -> Error {
    Error::internal("cannot make a batch of events").with_source(error)
}

fn fields(of: &[(&str, DataType)]) -> Fields {
    of.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect()
}

const TIME: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn people_fields() -> Fields {
    fields(&[
        ("id", DataType::Int64),
        ("name", DataType::Utf8),
        ("emailAddress", DataType::Utf8),
        ("creditCard", DataType::Utf8),
        ("city", DataType::Utf8),
        ("state", DataType::Utf8),
        ("dateTime", TIME),
        ("extra", DataType::Utf8),
    ])
}

fn auction_fields() -> Fields {
    fields(&[
        ("id", DataType::Int64),
        ("itemName", DataType::Utf8),
        ("description", DataType::Utf8),
        ("initialBid", DataType::Int64),
        ("reserve", DataType::Int64),
        ("dateTime", TIME),
        ("expires", TIME),
        ("seller", DataType::Int64),
        ("category", DataType::Int64),
        ("extra", DataType::Utf8),
    ])
}

fn bid_fields() -> Fields {
    fields(&[
        ("auction", DataType::Int64),
        ("bidder", DataType::Int64),
        ("price", DataType::Int64),
        ("channel", DataType::Utf8),
        ("url", DataType::Utf8),
        ("dateTime", TIME),
        ("extra", DataType::Utf8),
    ])
}

/// The schema of people on their own.
pub fn people_schema() -> SchemaRef {
    Arc::new(Schema::new(people_fields()))
}

/// The schema of auctions on their own.
pub fn auction_schema() -> SchemaRef {
    Arc::new(Schema::new(auction_fields()))
}

/// The schema of bids on their own.
pub fn bid_schema() -> SchemaRef {
    Arc::new(Schema::new(bid_fields()))
}

#[cfg(test)]
mod tests;
