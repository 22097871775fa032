//! Which partition names a [`PartitionFilter`] lets through, and which ranges of the sorted names hold them.
//!
//! A partition's name is `key=value` for each key, joined by `/`; `/` inside a key or value is escaped, so the text
//! between two slashes is one key's *segment*. The empty value and NULL have the same segment.

use std::collections::BTreeSet;

use tereza_runtime::{Error, Result};

use crate::model::{Column, partition_name};
use crate::store::PartitionFilter;

/// Most ranges that a filter is turned into; one with more is answered by reading all names of the table.
const MAX_RANGES: usize = 1_000;

/// A filter, ready to be compared with names.
pub(crate) struct NameFilter {
    /// For each key the segments that may match, or `None` for all.
    segments: Vec<Option<BTreeSet<String>>>,
}

/// Where in the sorted names of a table the matches are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Places {
    /// Anywhere.
    All,
    /// Among these names, in order.
    Names(Vec<String>),
    /// In these ranges, in order; the lower bound is part of a range, the upper is not.
    Ranges(Vec<(String, String)>),
}

impl NameFilter {
    /// Prepares `filter` for a table with partition keys `keys`.
    pub(crate) fn new(keys: &[Column], filter: &PartitionFilter) -> Result<Self> {
        if filter.values.len() > keys.len() {
            return Err(Error::invalid_input(format!(
                "the partition filter has {} values, but the table has {} partition keys",
                filter.values.len(),
                keys.len()
            )));
        }
        let segments = keys.iter().enumerate().map(|(at, key)| {
            let values = filter.values.get(at)?.as_ref()?;
            let key = std::slice::from_ref(key);
            Some(values.iter().map(|value| partition_name(key, std::slice::from_ref(value))).collect())
        });
        Ok(Self { segments: segments.collect() })
    }

    /// Whether the partition called `name` passes.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut parts = name.split('/');
        self.segments.iter().all(|allowed| match (allowed, parts.next()) {
            (None, _) => true,
            (Some(allowed), Some(part)) => allowed.contains(part),
            (Some(_), None) => false,
        })
    }

    /// Where to look. A range may hold names that do not pass: they are to be compared with [`Self::matches`].
    pub(crate) fn places(&self) -> Places {
        let mut prefixes = vec![String::new()];
        let mut bound_keys = 0;
        for allowed in &self.segments {
            let Some(allowed) = allowed else { break };
            if prefixes.len().saturating_mul(allowed.len()) > MAX_RANGES {
                break;
            }
            let longer = |prefix: &String| {
                let slash = if prefix.is_empty() { "" } else { "/" };
                allowed.iter().map(|part| format!("{prefix}{slash}{part}")).collect::<Vec<_>>()
            };
            prefixes = prefixes.iter().flat_map(longer).collect();
            bound_keys += 1;
        }
        if bound_keys == 0 && !self.segments.is_empty() {
            return Places::All;
        }
        prefixes.sort_unstable();
        if bound_keys == self.segments.len() {
            return Places::Names(prefixes);
        }
        // '0' is the character after '/': everything that begins with "prefix/" lies between the two. The bounds are sorted
        // anew because "a/" can sort before "a-b/" although "a" sorts before it too.
        let mut ranges: Vec<_> = prefixes.iter().map(|prefix| (format!("{prefix}/"), format!("{prefix}0"))).collect();
        ranges.sort_unstable();
        Places::Ranges(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(values: &[Option<&[&str]>]) -> NameFilter {
        let keys: Vec<Column> = ["ds", "k"]
            .iter()
            .map(|name| Column { name: (*name).into(), type_name: "string".into(), comment: None })
            .collect();
        let values = values.iter().map(|set| set.map(|set| set.iter().map(ToString::to_string).collect())).collect();
        NameFilter::new(&keys, &PartitionFilter { values }).expect("not more values than keys")
    }

    #[test]
    fn a_bound_prefix_becomes_ranges_and_bound_keys_names() {
        assert_eq!(filter(&[]).places(), Places::All);
        assert_eq!(filter(&[None, Some(&["a"])]).places(), Places::All);
        assert_eq!(filter(&[Some(&["1"])]).places(), Places::Ranges(vec![("ds=1/".into(), "ds=10".into())]));
        assert_eq!(
            filter(&[Some(&["2", "1"]), Some(&["a/b", ""])]).places(),
            Places::Names(vec![
                "ds=1/k=__HIVE_DEFAULT_PARTITION__".into(),
                "ds=1/k=a%2Fb".into(),
                "ds=2/k=__HIVE_DEFAULT_PARTITION__".into(),
                "ds=2/k=a%2Fb".into(),
            ])
        );
        assert_eq!(filter(&[Some(&[])]).places(), Places::Ranges(vec![]));
    }

    #[test]
    fn ranges_are_in_the_order_of_names() {
        let Places::Ranges(ranges) = filter(&[Some(&["a", "a-b"])]).places() else { panic!("a prefix is bound") };
        assert_eq!(ranges[0].0, "ds=a-b/");
        assert_eq!(ranges[1].0, "ds=a/");
    }

    #[test]
    fn too_many_prefixes_read_all_names() {
        let many: Vec<String> = (0..=MAX_RANGES).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let filter = filter(&[Some(&many)]);
        assert_eq!(filter.places(), Places::All);
        assert!(filter.matches("ds=7/k=x"));
        assert!(!filter.matches("ds=x/k=7"));
    }
}
