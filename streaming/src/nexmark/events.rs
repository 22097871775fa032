//! What an event is, as a function of the seed and its number.

use super::{Nexmark, NexmarkOptions};

const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
/// Of how many auctions or people one is hot.
const HOT_OF: u64 = 100;
/// How many auctions may still be bid for.
const IN_FLIGHT_AUCTIONS: u64 = 100;
/// How many people may still do something.
const ACTIVE_PEOPLE: u64 = 1_000;
/// How many ids beyond the last one may be referred to, as if events had come in another order.
const ID_LEAD: u64 = 10;
const CHANNELS: u64 = 10_000;
/// The decades that prices are spread over.
const PRICE_DECADES: f64 = 6.0;

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Random numbers that follow from a seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(u64);

/// One step of SplitMix64 from `state`.
pub(crate) fn mix(state: u64) -> u64 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Random {
    /// Numbers of the row with this number.
    pub(crate) fn of(seed: u64, number: u64) -> Self {
        Self(mix(seed).wrapping_add(mix(!number)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or_default()
    }

    /// A number from 0 to 1, without 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        let at = self.below(texts.len() as u64);
        usize::try_from(at).ok().and_then(|at| texts.get(at)).copied().unwrap_or_default()
    }

    /// Adds exactly `len` letters.
    fn letters(&mut self, len: u64, out: &mut Vec<u8>) {
        // 26 to the 13th is less than 2 to the 64th.
        let (mut word, mut left) = (0, 0);
        for _ in 0..len {
            if left == 0 {
                (word, left) = (self.next(), 13);
            }
            out.push(letter(word % 26));
            word /= 26;
            left -= 1;
        }
    }

    /// Adds at least three and less than `max` characters, each the 13th of them a `blank`; blanks at the ends are left out
    /// if they are spaces.
    fn words(&mut self, max: u64, blank: u8, out: &mut Vec<u8>) {
        let start = out.len();
        let (mut word, mut left) = (0, 0);
        for _ in 0..3 + self.below(max - 3) {
            if left == 0 {
                (word, left) = (self.next(), 7);
            }
            let draw = word % (13 * 26);
            let is_blank = draw < 26;
            if !(is_blank && blank == b' ' && out.len() == start) {
                out.push(if is_blank { blank } else { letter(draw % 26) });
            }
            word /= 13 * 26;
            left -= 1;
        }
        while out.len() > start && out.last() == Some(&b' ') {
            out.pop();
        }
    }

    /// Adds letters so that with `len` others there are `average` of them on average.
    fn extra(&mut self, len: usize, average: u64, out: &mut Vec<u8>) {
        let missing = average.saturating_sub(len as u64);
        let spread = (missing + 2) / 5;
        let count = missing - spread + self.below(2 * spread);
        self.letters(count, out);
    }

    fn price(&mut self) -> u64 {
        (10_f64.powf(self.unit() * PRICE_DECADES) * 100.0).round() as u64
    }
}

fn letter(number: u64) -> u8 {
    b'a' + u8::try_from(number).unwrap_or_default()
}

/// What an event is about; the numbers are those of `event_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

/// An event to be looked at once.
pub(super) struct Event<'a> {
    options: &'a NexmarkOptions,
    nexmark: &'a Nexmark,
    number: u64,
    random: Random,
}

/// A row of an auction; its texts are added to columns.
pub(super) struct Auction {
    pub(super) id: i64,
    pub(super) initial_bid: i64,
    pub(super) reserve: i64,
    pub(super) time_ms: i64,
    pub(super) expires_ms: i64,
    pub(super) seller: i64,
    pub(super) category: i64,
}

/// A row of a bid; its texts are added to columns.
pub(super) struct Bid {
    pub(super) auction: i64,
    pub(super) bidder: i64,
    pub(super) price: i64,
    pub(super) time_ms: i64,
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl<'a> Event<'a> {
    pub(super) fn new(nexmark: &'a Nexmark, number: u64) -> Self {
        let options = &nexmark.options;
        Self { options, nexmark, number, random: Random::of(options.seed, number) }
    }

    /// The round of all kinds that the event is in, and its place there.
    fn place(&self) -> (u64, u64) {
        let total = self.options.people + self.options.auctions + self.options.bids;
        (self.number / total, self.number % total)
    }

    pub(super) fn kind(&self) -> Kind {
        let (_, offset) = self.place();
        if offset < self.options.people {
            Kind::Person
        } else if offset < self.options.people + self.options.auctions {
            Kind::Auction
        } else {
            Kind::Bid
        }
    }

    pub(super) fn time_ms(&self) -> i64 {
        self.nexmark.time_ms(self.number)
    }

    /// The last person so far, counted from 0; this one if it is a person.
    fn last_person(&self) -> u64 {
        let (round, offset) = self.place();
        round * self.options.people + offset.min(self.options.people - 1)
    }

    /// The last auction so far, counted from 0; this one if it is an auction. There is none before the first person.
    fn last_auction(&self) -> u64 {
        let (round, offset) = self.place();
        match offset.checked_sub(self.options.people) {
            Some(offset) => round * self.options.auctions + offset.min(self.options.auctions - 1),
            None => (round * self.options.auctions).saturating_sub(1),
        }
    }

    /// Someone who may still do something.
    fn any_person(&mut self) -> u64 {
        let people = self.last_person() + 1;
        let active = people.min(ACTIVE_PEOPLE);
        people - active + self.random.below(active + ID_LEAD)
    }

    pub(super) fn person_id(&self) -> i64 {
        signed(FIRST_ID + self.last_person())
    }

    /// Adds the texts of a person: name, address, card, city, state and what fills it up.
    pub(super) fn person_texts(mut self, [name, email, card, city, state, extra]: [&mut Vec<u8>; 6]) {
        let random = &mut self.random;
        let before = name.len() + email.len() + card.len() + city.len() + state.len();
        name.extend_from_slice(random.one_of(&FIRST_NAMES).as_bytes());
        name.push(b' ');
        name.extend_from_slice(random.one_of(&LAST_NAMES).as_bytes());
        random.words(7, b' ', email);
        email.push(b'@');
        random.words(5, b' ', email);
        email.extend_from_slice(b".com");
        for group in 0..4 {
            if group > 0 {
                card.push(b' ');
            }
            let number = random.below(10_000);
            for place in [1_000, 100, 10, 1] {
                card.push(b'0' + u8::try_from(number / place % 10).unwrap_or_default());
            }
        }
        city.extend_from_slice(random.one_of(&CITIES).as_bytes());
        state.extend_from_slice(random.one_of(&STATES).as_bytes());
        let len = name.len() + email.len() + card.len() + city.len() + state.len() - before;
        random.extra(8 + len, self.options.person_bytes, extra);
    }

    pub(super) fn auction(&mut self) -> Auction {
        let options = self.options;
        let time_ms = self.time_ms();
        let seller = match self.random.below(options.hot_sellers) {
            0 => self.any_person(),
            _ => self.last_person() / HOT_OF * HOT_OF,
        };
        let category = FIRST_CATEGORY + self.random.below(CATEGORIES);
        let initial_bid = self.random.price();
        let reserve = initial_bid + self.random.price();
        // When all that are in flight now will have been followed by as many.
        let total = options.people + options.auctions + options.bids;
        let later = self.number.saturating_add(IN_FLIGHT_AUCTIONS * total / options.auctions);
        let horizon = u64::try_from(self.nexmark.time_ms(later).saturating_sub(time_ms)).unwrap_or_default();
        let length = 1 + self.random.below((horizon * 2).max(1));
        Auction {
            id: signed(FIRST_ID + self.last_auction()),
            initial_bid: signed(initial_bid),
            reserve: signed(reserve),
            time_ms,
            expires_ms: time_ms.saturating_add(signed(length)),
            seller: signed(FIRST_ID + seller),
            category: signed(category),
        }
    }

    /// Adds the texts of an auction: name, description and what fills it up.
    pub(super) fn auction_texts(mut self, name: &mut Vec<u8>, description: &mut Vec<u8>, extra: &mut Vec<u8>) {
        let before = name.len() + description.len();
        self.random.words(20, b' ', name);
        self.random.words(100, b' ', description);
        let len = name.len() + description.len() - before;
        self.random.extra(6 * 8 + len, self.options.auction_bytes, extra);
    }

    pub(super) fn bid(&mut self) -> Bid {
        let last = self.last_auction();
        let auction = match self.random.below(self.options.hot_auctions) {
            0 => {
                let first = last.saturating_sub(IN_FLIGHT_AUCTIONS);
                first + self.random.below(last - first + 1 + ID_LEAD)
            }
            _ => last / HOT_OF * HOT_OF,
        };
        let bidder = match self.random.below(self.options.hot_bidders) {
            0 => self.any_person(),
            // The second of them, so that who bids much is not who sells much.
            _ => self.last_person() / HOT_OF * HOT_OF + 1,
        };
        Bid {
            auction: signed(FIRST_ID + auction),
            bidder: signed(FIRST_ID + bidder),
            price: signed(self.random.price()),
            time_ms: self.time_ms(),
        }
    }

    /// Adds the texts of a bid: channel, address and what fills it up.
    pub(super) fn bid_texts(mut self, channel: &mut Vec<u8>, url: &mut Vec<u8>, extra: &mut Vec<u8>) {
        let random = &mut self.random;
        if random.below(2) > 0 {
            let at = random.below(HOT_CHANNELS.len() as u64);
            channel.extend_from_slice(HOT_CHANNELS[usize::try_from(at).unwrap_or_default()].as_bytes());
            // A hot channel has one address.
            let mut of_channel = Random(mix(self.options.seed).wrapping_add(at));
            base_url(&mut of_channel, url);
        } else {
            let number = random.below(CHANNELS);
            crate::format::push_display(channel, format_args!("channel-{number}"));
            let mut of_channel = Random(mix(self.options.seed ^ CHANNELS).wrapping_add(number));
            base_url(&mut of_channel, url);
            if of_channel.below(10) > 0 {
                let id = u32::try_from(number).unwrap_or_default().reverse_bits().cast_signed().unsigned_abs();
                crate::format::push_display(url, format_args!("&channel_id={id}"));
            }
        }
        random.extra(4 * 8, self.options.bid_bytes, extra);
    }
}

fn base_url(random: &mut Random, out: &mut Vec<u8>) {
    out.extend_from_slice(b"https://www.nexmark.com/");
    for _ in 0..3 {
        random.words(5, b'_', out);
        out.push(b'/');
    }
    out.extend_from_slice(b"item.htm?query=1");
}
