use std::collections::HashMap;

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMillisecondType};
use proptest::prelude::*;

use super::*;

/// Events enough for shares to be near what they should be.
const EVENTS: u64 = 200_000;

fn nexmark() -> Nexmark {
    Nexmark::new(NexmarkOptions { events: Some(EVENTS), ..NexmarkOptions::default() })
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values()
}

fn times<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    batch.column_by_name(name).unwrap().as_primitive::<TimestampMillisecondType>().values()
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Vec<&'a str> {
    batch.column_by_name(name).unwrap().as_string::<i32>().iter().map(Option::unwrap).collect()
}

fn share(count: usize, of: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / f64::from(u32::try_from(of).unwrap())
}

fn mean(values: impl ExactSizeIterator<Item = usize>) -> f64 {
    let len = values.len();
    share(values.sum(), len)
}

#[test]
fn ids_follow_from_numbers() {
    let of = nexmark();
    let people = of.people(0..EVENTS).unwrap();
    let auctions = of.auctions(0..EVENTS).unwrap();
    let bids = of.bids(0..EVENTS).unwrap();
    assert_eq!((people.num_rows(), auctions.num_rows(), bids.num_rows()), (4_000, 12_000, 184_000));
    assert_eq!(numbers(&people, "id"), (1_000..5_000).collect::<Vec<i64>>());
    assert_eq!(numbers(&auctions, "id"), (1_000..13_000).collect::<Vec<i64>>());
    // 10,000 events a second: ten in a millisecond.
    assert_eq!(&times(&people, "dateTime")[..3], [0, 5, 10]);
    assert_eq!(times(&bids, "dateTime").last(), Some(&19_999));
}

#[test]
fn one_stream_has_all_events_in_their_order() {
    let of = nexmark();
    let all = of.batch(0..1_000).unwrap();
    let kinds = all.column(0).as_primitive::<Int32Type>().values();
    let round: Vec<i32> = [0].into_iter().chain([1; 3]).chain([2; 46]).collect();
    assert_eq!(kinds, &round.repeat(20)[..]);
    for (at, alone) in [of.people(0..1_000), of.auctions(0..1_000), of.bids(0..1_000)].into_iter().enumerate() {
        let rows = all.column(at + 1).as_struct();
        let valid: arrow::array::BooleanArray =
            kinds.iter().map(|kind| Some(*kind == i32::try_from(at).unwrap())).collect();
        assert_eq!(rows.null_count(), 1_000 - valid.true_count());
        let rows = arrow::compute::filter(rows, &valid).unwrap();
        assert_eq!(RecordBatch::from(rows.as_struct().clone()).columns(), alone.unwrap().columns());
    }
}

#[test]
fn hot_ones_are_as_hot_as_they_should_be() {
    let of = nexmark();
    let bids = of.bids(EVENTS / 2..EVENTS).unwrap();
    let rows = bids.num_rows();
    let hot = |name: &str, rest: i64| numbers(&bids, name).iter().filter(|id| **id % 100 == rest).count();
    // Of the others one in a hundred is a hot one by chance.
    assert!((share(hot("auction", 0), rows) - 0.5 - 0.5 / 110.0).abs() < 0.02);
    assert!((share(hot("bidder", 1), rows) - 0.75 - 0.25 / 100.0).abs() < 0.02);
    let auctions = of.auctions(EVENTS / 2..EVENTS).unwrap();
    let sellers = numbers(&auctions, "seller").iter().filter(|id| **id % 100 == 0).count();
    assert!((share(sellers, auctions.num_rows()) - 0.75 - 0.25 / 100.0).abs() < 0.02);
    let channels = texts(&bids, "channel");
    let hot = channels.iter().filter(|channel| !channel.starts_with("channel-")).count();
    assert!((share(hot, rows) - 0.5).abs() < 0.01);
    let distinct: std::collections::HashSet<_> = channels.into_iter().collect();
    assert!(distinct.len() > 9_800 && distinct.len() <= 10_004, "{}", distinct.len());
}

#[test]
fn references_are_to_what_is_near() {
    let of = nexmark();
    let bids = of.bids(0..EVENTS).unwrap();
    for (row, (auction, bidder)) in numbers(&bids, "auction").iter().zip(numbers(&bids, "bidder")).enumerate() {
        let round = i64::try_from(row / 46).unwrap();
        let (last_auction, last_person) = (1_000 + round * 3 + 2, 1_000 + round);
        assert!((last_auction - 100).max(1_000) <= *auction && *auction <= last_auction + 10, "{row}: {auction}");
        assert!((last_person - 1_000).max(1_000) <= *bidder && *bidder <= last_person + 10, "{row}: {bidder}");
    }
    let auctions = of.auctions(0..EVENTS).unwrap();
    let (dates, expires) = (times(&auctions, "dateTime"), times(&auctions, "expires"));
    // 100 auctions are 1,666 events are 166 ms; an auction is open for up to twice as long.
    let open: Vec<i64> = dates.iter().zip(expires).map(|(from, to)| to - from).collect();
    assert!(open.iter().all(|open| (1..=334).contains(open)));
    let average = open.iter().sum::<i64>() / i64::try_from(open.len()).unwrap();
    assert!((160..175).contains(&average), "{average}");
    assert!(numbers(&auctions, "category").iter().all(|category| (10..15).contains(category)));
    assert!(
        numbers(&auctions, "reserve").iter().zip(numbers(&auctions, "initialBid")).all(|(reserve, bid)| reserve > bid)
    );
}

#[test]
fn prices_are_spread_over_decades() {
    let bids = nexmark().bids(0..EVENTS).unwrap();
    let mut decades: HashMap<u32, usize> = HashMap::new();
    for price in numbers(&bids, "price") {
        assert!((100..=100_000_000).contains(price));
        *decades.entry(price.ilog10()).or_default() += 1;
    }
    for decade in 2..8 {
        assert!((share(decades[&decade], bids.num_rows()) - 1.0 / 6.0).abs() < 0.01, "{decade}");
    }
}

#[test]
fn texts_are_as_queries_need_them() {
    let of = nexmark();
    let people = of.people(0..EVENTS).unwrap();
    let mut states: Vec<_> = texts(&people, "state");
    states.sort_unstable();
    states.dedup();
    assert_eq!(states, ["AZ", "CA", "ID", "OR", "WA", "WY"]);
    assert!(texts(&people, "creditCard").iter().all(|card| card.len() == 19));
    assert!(texts(&people, "emailAddress").iter().all(|email| email.ends_with(".com") && email.contains('@')));
    let bids = of.bids(0..EVENTS).unwrap();
    let urls = texts(&bids, "url");
    assert!(urls.iter().all(|url| url.split('/').count() == 7 && url.starts_with("https://www.nexmark.com/")));
    let with_id = urls.iter().filter(|url| url.contains("&channel_id=")).count();
    assert!((share(with_id, urls.len()) - 0.45).abs() < 0.02);
    // A channel has one address.
    let mut of_channel = HashMap::new();
    for (channel, url) in texts(&bids, "channel").into_iter().zip(urls) {
        assert_eq!(*of_channel.entry(channel).or_insert(url), url);
    }
}

#[test]
fn extra_fills_events_up_to_their_size() {
    let of = nexmark();
    let bids = of.bids(0..EVENTS).unwrap();
    let average = mean(texts(&bids, "extra").into_iter().map(|extra| extra.len() + 32));
    assert!((average - 100.0).abs() < 1.0, "{average}");
    let people = of.people(0..EVENTS).unwrap();
    let lens = |batch: &RecordBatch, names: &[&str], fixed: usize| {
        let columns: Vec<Vec<&str>> = names.iter().map(|name| texts(batch, name)).collect();
        mean((0..batch.num_rows()).map(|row| fixed + columns.iter().map(|column| column[row].len()).sum::<usize>()))
    };
    let names = ["name", "emailAddress", "creditCard", "city", "state", "extra"];
    assert!((lens(&people, &names, 8) - 200.0).abs() < 2.0);
    let auctions = of.auctions(0..EVENTS).unwrap();
    assert!((lens(&auctions, &["itemName", "description", "extra"], 48) - 500.0).abs() < 3.0);
}

#[test]
fn seeds_make_other_events_of_the_same_ids() {
    let other = Nexmark::new(NexmarkOptions { seed: 1, ..nexmark().options().clone() });
    let (one, two) = (nexmark().auctions(0..1_000).unwrap(), other.auctions(0..1_000).unwrap());
    assert_eq!(numbers(&one, "id"), numbers(&two, "id"));
    assert_ne!(texts(&one, "itemName"), texts(&two, "itemName"));
    // The events of a seed are part of what results are compared with: they stay as they are.
    let bids = nexmark().bids(0..5).unwrap();
    assert_eq!(numbers(&bids, "price").len(), 1);
}

#[test]
fn options_of_tables_are_read() {
    let given = |options: &[(&str, &str)]| {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        NexmarkOptions::new(&options, 77)
    };
    let defaults = NexmarkOptions { base_time_ms: 77, ..NexmarkOptions::default() };
    assert_eq!(given(&[]).unwrap(), defaults);
    let options = given(&[
        ("first-event.rate", "1000000"),
        ("next-event.rate", "1000000"),
        ("events.num", "100"),
        ("stop-at", "60"),
        ("person.avg-size", "1 kb"),
        ("auction.avg-size", "2k"),
        ("bid.avg-size", "50b"),
        ("person.proportion", "2"),
        ("auction.proportion", "4"),
        ("bid.proportion", "6"),
        ("bid.hot-ratio.auctions", "3"),
        ("bid.hot-ratio.bidders", "5"),
        ("auction.hot-ratio.sellers", "7"),
        ("base-time", "1436918400000"),
        ("rate.shape", "sine"),
        ("rate.limited", "true"),
        ("rate.period", "10 min"),
        ("keep-alive", "true"),
        ("max-emit-speed", "false"),
        ("seed", "9"),
    ]);
    let expected = NexmarkOptions {
        rate: 1_000_000,
        events: Some(100),
        stop_at: Some(60),
        keeps_alive: true,
        is_unpaced: false,
        base_time_ms: 1_436_918_400_000,
        people: 2,
        auctions: 4,
        bids: 6,
        person_bytes: 1_024,
        auction_bytes: 2_048,
        bid_bytes: 50,
        hot_auctions: 3,
        hot_bidders: 5,
        hot_sellers: 7,
        seed: 9,
    };
    assert_eq!(options.unwrap(), expected);
    assert_eq!(Nexmark::new(expected).numbers(), 0..60);
    let error = |name: &str, value: &str| given(&[(name, value)]).unwrap_err().to_string();
    assert!(error("event.num", "1").contains("did you mean `events.num`"));
    assert!(error("first-event.rate", "0").contains("from 1 to"));
    assert!(error("person.proportion", "0").contains("from 1 to"));
    assert!(error("bid.avg-size", "2 gb").contains("at most 1 mb"));
    assert!(error("rate.shape", "round").contains("SQUARE or SINE"));
    assert!(error("keep-alive", "1").contains("true or false"));
}

#[test]
fn events_are_written_as_json() {
    let of = nexmark();
    let formats = crate::format::TableFormats {
        schema: of.schema(),
        key: None,
        value: crate::format::FormatOptions::new("json").with("timestamp-format.standard", "ISO-8601"),
        value_has_key: true,
        is_upsert: false,
        topic: None,
    };
    let messages = crate::format::encoder(&formats).unwrap().encode(&of.batch(0..50).unwrap(), None).unwrap();
    let json: Vec<serde_json::Value> =
        messages.iter().map(|message| serde_json::from_slice(message.value.as_ref().unwrap()).unwrap()).collect();
    assert_eq!(json[0]["person"]["id"], 1_000);
    assert_eq!(json[1]["auction"]["dateTime"], "1970-01-01T00:00:00");
    assert_eq!(json[49]["bid"]["dateTime"], "1970-01-01T00:00:00.004");
    assert!(json[49]["person"].is_null());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn tasks_that_share_the_numbers_make_the_same_events(cuts in prop::collection::vec(0_u64..2_000, 0..6), people in 1_u64..4, auctions in 1_u64..4, bids in 0_u64..4) {
        let of = Nexmark::new(NexmarkOptions { people, auctions, bids, ..NexmarkOptions::default() });
        let mut ends: Vec<u64> = cuts.into_iter().chain([0, 2_000]).collect();
        ends.sort_unstable();
        let parts: Vec<RecordBatch> = ends.windows(2).map(|pair| of.batch(pair[0]..pair[1]).unwrap()).collect();
        let whole = of.batch(0..2_000).unwrap();
        prop_assert_eq!(concat_batches(&of.schema(), &parts).unwrap(), whole);
    }

    #[test]
    fn numbers_of_any_size_are_events(number: u64) {
        let of = Nexmark::new(NexmarkOptions { rate: 1, ..NexmarkOptions::default() });
        prop_assert_eq!(of.batch(number..number.saturating_add(1)).unwrap().num_rows(), usize::from(number < u64::MAX));
    }
}
