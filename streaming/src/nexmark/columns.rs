//! Events as columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Fields, Schema};
use arrow::error::ArrowError;

use super::events::Event;
use super::{auction_fields, bid_fields, people_fields};

/// A column of texts.
#[derive(Debug)]
struct Texts {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn new(rows: usize) -> Self {
        Self { data: Vec::new(), ends: Vec::with_capacity(rows) }
    }

    /// Ends the text of a row.
    fn end(&mut self) {
        self.ends.push(self.data.len());
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let end = |end: usize| i32::try_from(end).map_err(|_| ArrowError::OffsetOverflowError(end));
        let ends = std::iter::once(0).chain(self.ends).map(end).collect::<Result<Vec<i32>, _>>()?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
        Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(self.data), None)?))
    }
}

fn numbers(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(values))
}

/// Columns of rows, some of which are NULL.
struct Rows {
    fields: Fields,
    columns: Vec<ArrayRef>,
    are_valid: Vec<bool>,
}

impl Rows {
    fn nullable(self) -> Result<ArrayRef, ArrowError> {
        let len = self.are_valid.len();
        let nulls = NullBuffer::from(self.are_valid);
        Ok(Arc::new(StructArray::try_new_with_length(self.fields, self.columns, Some(nulls), len)?))
    }

    fn batch(self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.columns)
    }
}

/// The columns of one stream of all events.
pub(super) fn of_all(
    kinds: Vec<i32>,
    people: People,
    auctions: Auctions,
    bids: Bids,
) -> Result<Vec<ArrayRef>, ArrowError> {
    Ok(vec![
        Arc::new(Int32Array::from(kinds)),
        people.rows()?.nullable()?,
        auctions.rows()?.nullable()?,
        bids.rows()?.nullable()?,
    ])
}

/// Rows of people.
#[derive(Debug)]
pub(super) struct People {
    id: Vec<i64>,
    texts: [Texts; 6],
    time: Vec<i64>,
    are_valid: Vec<bool>,
}

impl People {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let texts = std::array::from_fn(|_| Texts::new(rows));
        let column = || Vec::with_capacity(rows);
        Self { id: column(), texts, time: column(), are_valid: Vec::with_capacity(rows) }
    }

    pub(super) fn push(&mut self, event: Event<'_>) {
        self.id.push(event.person_id());
        self.time.push(event.time_ms());
        self.are_valid.push(true);
        event.person_texts(self.texts.each_mut().map(|texts| &mut texts.data));
        self.texts.iter_mut().for_each(Texts::end);
    }

    pub(super) fn push_null(&mut self) {
        self.id.push(0);
        self.time.push(0);
        self.are_valid.push(false);
        self.texts.iter_mut().for_each(Texts::end);
    }

    fn rows(self) -> Result<Rows, ArrowError> {
        let mut columns = vec![numbers(self.id)];
        for texts in self.texts {
            columns.push(texts.finish()?);
        }
        columns.insert(6, times(self.time));
        Ok(Rows { fields: people_fields(), columns, are_valid: self.are_valid })
    }

    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        self.rows()?.batch()
    }
}

/// Rows of auctions.
#[derive(Debug)]
pub(super) struct Auctions {
    id: Vec<i64>,
    name: Texts,
    description: Texts,
    initial_bid: Vec<i64>,
    reserve: Vec<i64>,
    time: Vec<i64>,
    expires: Vec<i64>,
    seller: Vec<i64>,
    category: Vec<i64>,
    extra: Texts,
    are_valid: Vec<bool>,
}

impl Auctions {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let column = || Vec::with_capacity(rows);
        Self {
            id: column(),
            name: Texts::new(rows),
            description: Texts::new(rows),
            initial_bid: column(),
            reserve: column(),
            time: column(),
            expires: column(),
            seller: column(),
            category: column(),
            extra: Texts::new(rows),
            are_valid: Vec::with_capacity(rows),
        }
    }

    pub(super) fn push(&mut self, mut event: Event<'_>) {
        let auction = event.auction();
        self.id.push(auction.id);
        self.initial_bid.push(auction.initial_bid);
        self.reserve.push(auction.reserve);
        self.time.push(auction.time_ms);
        self.expires.push(auction.expires_ms);
        self.seller.push(auction.seller);
        self.category.push(auction.category);
        self.are_valid.push(true);
        event.auction_texts(&mut self.name.data, &mut self.description.data, &mut self.extra.data);
        self.end_texts();
    }

    pub(super) fn push_null(&mut self) {
        let Self { id, initial_bid, reserve, time, expires, seller, category, .. } = self;
        for column in [id, initial_bid, reserve, time, expires, seller, category] {
            column.push(0);
        }
        self.are_valid.push(false);
        self.end_texts();
    }

    fn end_texts(&mut self) {
        self.name.end();
        self.description.end();
        self.extra.end();
    }

    fn rows(self) -> Result<Rows, ArrowError> {
        let columns = vec![
            numbers(self.id),
            self.name.finish()?,
            self.description.finish()?,
            numbers(self.initial_bid),
            numbers(self.reserve),
            times(self.time),
            times(self.expires),
            numbers(self.seller),
            numbers(self.category),
            self.extra.finish()?,
        ];
        Ok(Rows { fields: auction_fields(), columns, are_valid: self.are_valid })
    }

    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        self.rows()?.batch()
    }
}

/// Rows of bids.
#[derive(Debug)]
pub(super) struct Bids {
    auction: Vec<i64>,
    bidder: Vec<i64>,
    price: Vec<i64>,
    channel: Texts,
    url: Texts,
    time: Vec<i64>,
    extra: Texts,
    are_valid: Vec<bool>,
}

impl Bids {
    pub(super) fn with_capacity(rows: usize) -> Self {
        let column = || Vec::with_capacity(rows);
        Self {
            auction: column(),
            bidder: column(),
            price: column(),
            channel: Texts::new(rows),
            url: Texts::new(rows),
            time: column(),
            extra: Texts::new(rows),
            are_valid: Vec::with_capacity(rows),
        }
    }

    pub(super) fn push(&mut self, mut event: Event<'_>) {
        let bid = event.bid();
        self.auction.push(bid.auction);
        self.bidder.push(bid.bidder);
        self.price.push(bid.price);
        self.time.push(bid.time_ms);
        self.are_valid.push(true);
        event.bid_texts(&mut self.channel.data, &mut self.url.data, &mut self.extra.data);
        self.end_texts();
    }

    pub(super) fn push_null(&mut self) {
        let Self { auction, bidder, price, time, .. } = self;
        for column in [auction, bidder, price, time] {
            column.push(0);
        }
        self.are_valid.push(false);
        self.end_texts();
    }

    fn end_texts(&mut self) {
        self.channel.end();
        self.url.end();
        self.extra.end();
    }

    fn rows(self) -> Result<Rows, ArrowError> {
        let columns = vec![
            numbers(self.auction),
            numbers(self.bidder),
            numbers(self.price),
            self.channel.finish()?,
            self.url.finish()?,
            times(self.time),
            self.extra.finish()?,
        ];
        Ok(Rows { fields: bid_fields(), columns, are_valid: self.are_valid })
    }

    pub(super) fn finish(self) -> Result<RecordBatch, ArrowError> {
        self.rows()?.batch()
    }
}
