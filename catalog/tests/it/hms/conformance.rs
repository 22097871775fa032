//! The public suite over a metastore in this process: all cases but those that are listed here with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use tereza_catalog::Store;
use tereza_catalog::conformance::*;
use tereza_catalog::store::hms::HmsStore;

use super::open;
use crate::support::Metastore;

const NAMES: &str = "a metastore gives new things names of letters, digits and _ only";
const FILES: &str = "the metastore removes the files of what is dropped, in its own way: nothing is noted here";

/// What does not apply, and why. A case that passes must not be here.
const NOT_HERE: [(&str, &str); 10] = [
    ("names::hostile_names_are_only_names", NAMES),
    ("names::impossible_names_are_refused", NAMES),
    ("databases::missing_and_empty_values_stay_apart", "an empty description stands for the one that is there"),
    ("locks::writers_wait_in_line", "a metastore says nothing of it when a lock is given back that is gone"),
    ("tables::missing_and_empty_values_stay_apart", "an absent location is where the metastore puts it"),
    (
        "statistics::statistics_come_back_as_they_were_given",
        "the interface has a shape of statistics for each type, and no time",
    ),
    ("removals::only_what_owns_its_files_is_noted", FILES),
    ("removals::partitions_are_noted_inside_their_table_only", FILES),
    ("removals::a_database_leaves_what_is_not_its_own", FILES),
    ("removals::a_place_is_not_given_before_it_is_empty", FILES),
];

macro_rules! cases {
    ($store:expr, $($module:ident: [$($case:ident),* $(,)?]),* $(,)?) => {
        BTreeMap::from([$($({
            let store: Arc<HmsStore> = Arc::clone(&$store);
            let name = concat!(stringify!($module), "::", stringify!($case));
            // In a task, which may fail alone.
            (name, tokio::spawn(async move { $module::$case(store.as_ref()).await }).await.is_ok())
        }),*),*])
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metastore_conforms() {
    let metastore = Metastore::new().await;
    let store = open(&metastore.address.to_string(), metastore.folder.path(), "beside.db", &metastore.clock).await;
    let store = Arc::new(store);
    let outcomes = cases!(store,
        databases: [the_default_database_always_exists, a_database_comes_back_as_it_was_given,
            missing_and_empty_values_stay_apart, names_are_sorted_and_folded, an_altered_database_keeps_its_name,
            missing_databases_are_not_found, a_name_is_given_once,
            only_an_empty_database_is_dropped_without_cascade],
        tables: [a_folder_is_taken_as_long_as_its_table_lives, a_table_comes_back_as_it_was_given,
            a_view_comes_back_as_it_was_given, missing_and_empty_values_stay_apart, an_external_table_says_so,
            the_store_sets_the_times, names_are_sorted_and_folded, missing_tables_are_not_found, a_name_is_given_once,
            senseless_columns_are_refused, a_wide_table_is_kept, altering_replaces_everything,
            a_stale_version_is_refused, a_renamed_table_keeps_what_it_has, a_rename_needs_a_free_name,
            partition_keys_stay_while_there_are_partitions, a_dropped_table_is_gone,
            a_name_never_gets_the_same_version_twice, locations_in_use_are_known],
        names: [hostile_names_are_only_names, hostile_texts_are_only_texts, hostile_partition_values_are_only_values,
            impossible_names_are_refused, long_comments_are_cut],
        partitions: [a_partition_comes_back_as_it_was_given, partitions_come_in_the_order_of_their_names,
            a_filter_picks_by_any_key, a_filter_without_sense_is_refused, null_and_the_empty_value_are_one_partition,
            adding_is_all_or_nothing, only_partitioned_tables_have_partitions, altering_replaces_everything,
            dropping_is_all_or_nothing, partitions_keep_their_columns, the_version_counts_changes_of_partitions,
            thousands_are_handled_at_once, partitions_are_found_by_their_names,
            a_renamed_partition_keeps_its_statistics, partitions_get_the_columns_of_their_table],
        statistics: [statistics_come_back_as_they_were_given, setting_some_keeps_the_others,
            a_table_and_its_partitions_have_their_own, unknown_columns_and_partitions_are_not_found,
            a_changed_column_loses_them, statistics_are_deleted],
        commits: [a_commit_does_all_that_it_says, numbers_are_added, a_commit_may_make_its_table,
            a_commit_that_fails_leaves_nothing, a_stale_version_is_refused,
            rows_for_a_dropped_table_are_not_the_next_ones, a_commit_needs_its_write,
            a_commit_asked_for_twice_happens_once, pending_commits_are_listed_until_finished,
            finished_commits_are_kept_until_forgotten, staged_files_are_noted, abandoned_writes_are_found,
            the_journal_follows_a_renamed_table, a_dropped_table_leaves_its_staged_files_to_the_cleaner,
            commits_to_a_dropped_external_table_stay_pending],
        jobs: [a_job_comes_back_as_it_was_given, an_update_names_the_version_it_read, a_live_name_is_given_once,
            the_newest_come_first, the_greatest_priority_is_next_and_then_the_oldest,
            a_commit_is_a_step_of_the_attempt_that_runs, old_jobs_are_forgotten,
            jobs_that_left_something_are_kept, senseless_jobs_are_refused],
        functions: [a_function_comes_back_as_it_was_given, a_function_is_altered_and_dropped,
            functions_keep_their_database],
        locks: [writers_wait_in_line, readers_share, a_request_is_all_or_nothing, senseless_requests_are_refused],
        removals: [only_what_owns_its_files_is_noted, what_others_need_is_kept,
            partitions_are_noted_inside_their_table_only, a_database_leaves_what_is_not_its_own,
            a_place_is_not_given_before_it_is_empty],
    );
    let expected: BTreeMap<&str, &str> = NOT_HERE.into_iter().collect();
    let failed: Vec<&str> = outcomes.iter().filter(|(_, passed)| !**passed).map(|(name, _)| *name).collect();
    assert_eq!(failed, expected.into_keys().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_at_once_lose_nothing() {
    let metastore = Metastore::new().await;
    let address = metastore.address.to_string();
    let store = open(&address, metastore.folder.path(), "beside.db", &metastore.clock).await;
    races::run(&store as &dyn Store).await;
}
