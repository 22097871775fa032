//! Asking a metastore, and keeping what it is asked and what it answers in a form that does not depend on when and
//! where.

use std::fmt::Debug;

use tereza_runtime::clock::Clock;
use tereza_thrift::call::{Exceptions, Method};
use tereza_thrift::client::{self, CallError, Client};
use tereza_thrift::codec::ApplicationException;
use tereza_thrift::hive::Exception;

use super::lines;

/// How far a number may be from now and still be taken for a time.
const DAY_S: i64 = 86_400;
/// Fields that count up from a number that depends on what was asked before.
const COUNTED: [&str; 3] = ["lockid", "event_id", "blocked_by_ext_id"];

/// A call and its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exchange {
    /// The method, and which of its calls in the scenario it is: `get_table#2`.
    pub(super) call: String,
    /// Its arguments. What a metastore answered before may be in them.
    pub(super) args: String,
    /// `path = value`; what is absent is not there. An exception has the paths `exception` and `message`.
    pub(super) answer: Vec<(String, String)>,
}

impl Exchange {
    pub(super) fn method(&self) -> &str {
        self.call.split('#').next().unwrap_or_default()
    }
}

/// The paths that an answer which is an exception has.
pub(super) const EXCEPTION: &str = "exception";
pub(super) const MESSAGE: &str = "message";

pub(super) struct Asking {
    client: Client,
    address: String,
    /// The folder of the warehouse.
    warehouse: String,
    /// Numbers of each of [`COUNTED`], as they came.
    counted: Vec<String>,
    exchanges: Vec<Exchange>,
}

impl Asking {
    pub(super) async fn new(address: &str, warehouse: &str) -> Self {
        let client = Client::connect(address, client::Settings::default()).await.unwrap();
        let (address, warehouse) = (address.to_owned(), warehouse.to_owned());
        Self { client, address, warehouse, counted: Vec::new(), exchanges: Vec::new() }
    }

    /// All that was asked since the last time.
    pub(super) fn take(&mut self) -> Vec<Exchange> {
        self.counted.clear();
        std::mem::take(&mut self.exchanges)
    }

    /// Asks, and keeps the answer.
    pub(super) async fn ask<M>(&mut self, args: M) -> Option<M::Reply>
    where
        M: Method<Exception = Exception> + Debug,
        M::Reply: Debug,
    {
        self.ask_sorted(args, |_| {}).await
    }

    /// [`Self::ask`] where the answer has no order of its own: `sort` gives it one.
    pub(super) async fn ask_sorted<M>(&mut self, args: M, sort: impl FnOnce(&mut M::Reply)) -> Option<M::Reply>
    where
        M: Method<Exception = Exception> + Debug,
        M::Reply: Debug,
    {
        let printed = lines::compact(&format!("{args:?}"));
        let printed = printed.strip_suffix('}').and_then(|text| text.strip_prefix('{')).unwrap_or_default();
        let args_kept = self.without_place_and_time("", printed);
        let number = self.exchanges.iter().filter(|one| one.method() == M::NAME).count() + 1;
        let call = format!("{}#{number}", M::NAME);
        let mut reply = None;
        let answer = match self.client.call(&args).await {
            Ok(mut found) => {
                sort(&mut found);
                let answer = lines::of(&format!("{found:?}"));
                reply = Some(found);
                answer
            }
            Err(CallError::Exception(exception)) => {
                let name = match exception.as_application() {
                    Some(own) if own.code == ApplicationException::UNKNOWN_METHOD => "unknown method".to_owned(),
                    Some(own) => format!("{} {}", exception.name(), own.code),
                    None => exception.name().to_owned(),
                };
                vec![(EXCEPTION.to_owned(), name), (MESSAGE.to_owned(), format!("{:?}", exception.message()))]
            }
            Err(CallError::Connection(_)) => {
                self.client = Client::connect(&self.address, client::Settings::default()).await.unwrap();
                vec![(EXCEPTION.to_owned(), "the connection is closed".to_owned())]
            }
        };
        let mut kept = Vec::with_capacity(answer.len());
        for (path, value) in answer {
            let value = self.without_place_and_time(&path, &value);
            kept.push((path, value));
        }
        self.exchanges.push(Exchange { call, args: args_kept, answer: kept });
        reply
    }

    fn without_place_and_time(&mut self, path: &str, text: &str) -> String {
        let mut text = text.to_owned();
        let folder = self.warehouse.trim_start_matches("file:").trim_start_matches('/');
        for scheme in ["file:///", "file:/", "/"] {
            text = text.replace(&format!("{scheme}{folder}"), "<warehouse>");
        }
        let field = path.rsplit('.').next().unwrap_or_default();
        if COUNTED.contains(&field) && text != "0" {
            let known = self.counted.iter().position(|known| *known == text);
            let number = known.unwrap_or_else(|| {
                self.counted.push(text.clone());
                self.counted.len() - 1
            });
            return format!("<number {}>", number + 1);
        }
        let counted = COUNTED.iter().flat_map(|name| [format!("{name}: "), format!("{name}:")]);
        without_numbers(&text, Clock::system().unix_s(), &counted.collect::<Vec<_>>(), &self.counted)
    }
}

/// Puts `<time>` in place of each number that is a time of today, in seconds or milliseconds, and the place of each
/// counted number in the order in which they came.
fn without_numbers(text: &str, now_s: i64, before_counted: &[String], counted: &[String]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = rest[begin..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| begin + length);
        out.push_str(&rest[..begin]);
        let digits = &rest[begin..end];
        let is_near = |time_s: i64| (time_s - now_s).abs() < DAY_S;
        let is_time = digits.parse::<i64>().is_ok_and(|number| is_near(number) || is_near(number / 1_000));
        let place = counted.iter().position(|known| known == digits);
        match place.filter(|_| before_counted.iter().any(|name| out.ends_with(name))) {
            Some(place) => out.push_str(&format!("<number {}>", place + 1)),
            None => out.push_str(if is_time { "<time>" } else { digits }),
        }
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn times_and_counted_numbers_are_not_kept() {
    let text = r#"{"timestamp":1700000100, "ms": 1700000100123, "other": 1500000000}"#;
    let kept = without_numbers(text, 1_700_000_000, &[], &[]);
    assert_eq!(kept, r#"{"timestamp":<time>, "ms": <time>, "other": 1500000000}"#);
    let (before, counted) = (["lockid: ".to_owned()], ["8".to_owned(), "9".to_owned()]);
    assert_eq!(
        without_numbers("lockid: 9, id: 9, lockid: 7", 1_700_000_000, &before, &counted),
        "lockid: <number 2>, id: 9, lockid: 7"
    );
}
