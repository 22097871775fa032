use std::env;
use std::thread;

use super::{Broken, KINDS, Kind, Ran, run};
use crate::rules::Rule;

/// Runs that a test makes without being told.
const SEEDS: u64 = if cfg!(debug_assertions) { 400 } else { 10_000 };
/// Runs within which a broken rule must show.
const SEEDS_BROKEN: u64 = 20_000;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn kind(seed: u64) -> Kind {
    KINDS[usize::try_from(seed % 4).unwrap()]
}

#[test]
fn every_row_is_counted_once() {
    if let Some(seed) = number("TEREZA_SIM_SEED") {
        match run(seed, kind(seed), None, true) {
            Ok(ran) => println!("seed {seed}: {ran:?}"),
            Err(what) => panic!("{what}"),
        }
        return;
    }
    let seeds = number("TEREZA_SIM_SEEDS").unwrap_or(SEEDS);
    let part = |of: u64| move || (of..seeds).step_by(2).map(|seed| run(seed, kind(seed), None, false)).collect();
    let threads = [thread::spawn(part(0)), thread::spawn(part(1))];
    let mut sum = Ran::default();
    let mut failed = Vec::new();
    for thread in threads {
        let ran: Vec<Result<Ran, String>> = thread.join().unwrap();
        for ran in ran {
            match ran {
                Ok(ran) => {
                    sum.attempts += ran.attempts;
                    sum.fenced += ran.fenced;
                    sum.unknown += ran.unknown;
                    sum.plans += ran.plans;
                    sum.polls += ran.polls;
                }
                Err(what) => failed.push(what),
            }
        }
    }
    println!("{seeds} seeds: {sum:?}");
    assert!(failed.is_empty(), "{} of {seeds} seeds fail, the first: {}", failed.len(), failed[0]);
    // Else nothing was tried.
    assert!(sum.attempts > 3 * seeds && sum.fenced > seeds && sum.unknown > 0 && sum.plans > 0, "{sum:?}");
}

/// The simulation sees it when a rule is broken.
fn is_caught(broken: Broken, kinds: &[Kind]) {
    for seed in 0..SEEDS_BROKEN {
        let kind = kinds[usize::try_from(seed).unwrap() % kinds.len()];
        if let Err(what) = run(seed, kind, Some(broken), false) {
            println!("{broken:?} is caught after {} runs: {what}", seed + 1);
            return;
        }
    }
    panic!("{broken:?} loses and doubles nothing in {SEEDS_BROKEN} runs");
}

const KAFKA: &[Kind] = &[Kind::KafkaToTopic, Kind::KafkaToBoth];
const TABLE: &[Kind] = &[Kind::KafkaToTable, Kind::KafkaToBoth, Kind::ObjectsToTable];
const OBJECTS: &[Kind] = &[Kind::ObjectsToTable];

macro_rules! caught {
    ($($name:ident: $broken:expr, $kinds:expr;)*) => {
        $(#[test]
        fn $name() {
            is_caught($broken, $kinds);
        })*
    };
}

caught! {
    sees_that_nobody_is_fenced: Broken::NoFencing, KAFKA;
    sees_that_the_log_is_read_before_others_are_fenced: Broken::ReadBeforeInit, KAFKA;
    sees_that_the_log_is_read_to_what_seems_its_end: Broken::ReadToEnd, KAFKA;
    sees_that_outputs_and_record_are_two_transactions: Broken::TwoTransactions, KAFKA;
    sees_a_table_that_compares_nothing: Broken::BlindTable, TABLE;
    sees_state_put_after_the_commit: Broken::Rule(Rule::SnapshotBeforeCommit), &KINDS;
    sees_files_applied_before_the_commit: Broken::Rule(Rule::ApplyAfterCommit), TABLE;
    sees_a_marker_that_is_not_looked_at: Broken::Rule(Rule::Marker), TABLE;
    sees_files_that_are_not_carried: Broken::Rule(Rule::Carry), TABLE;
    sees_cleaning_up_in_doubt: Broken::Rule(Rule::NoCleaning), &KINDS;
    sees_names_that_attempts_share: Broken::Rule(Rule::OwnNames), &KINDS;
    sees_garbage_found_by_listing: Broken::Rule(Rule::GarbageByList), &KINDS;
    sees_numbers_of_epochs_that_begin_again: Broken::Rule(Rule::NumbersGoOn), TABLE;
    sees_logs_that_are_not_sealed: Broken::Rule(Rule::Seal), &KINDS;
    sees_objects_of_a_log_replaced: Broken::Rule(Rule::PutIfAbsent), OBJECTS;
    sees_what_exists_taken_for_ones_own: Broken::Rule(Rule::Nonce), OBJECTS;
    sees_chains_that_are_not_closed: Broken::Rule(Rule::Fence), OBJECTS;
    sees_a_writer_that_deletes_in_its_own_chain: Broken::Rule(Rule::KeepOwnChain), OBJECTS;
}
