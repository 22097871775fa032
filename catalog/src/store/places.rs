//! Locations as they are compared: what is at, above or below what.

use tereza_runtime::settings::without_passwords;
use tereza_runtime::{Error, Result};

/// Ways to write the scheme of one and the same place, the plain one first: Java writes `file:/x` for `file:///x`, a path
/// alone is on this machine, and S3 has had three file systems.
const SPELLINGS: [&[&str]; 2] = [&["file:/", "file:///", "/"], &["s3://", "s3a://", "s3n://"]];

/// A location in its plain spelling, without slashes at its end, doubled slashes and `.`. Two locations are the same place if
/// these are equal.
pub(crate) fn plain(location: &str) -> String {
    let (scheme, path) = split(location);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("{scheme}{}", parts.join("/"))
}

/// Whether the path of a location is written as it is: without doubled slashes, `.` and `..`, at which file systems and
/// object stores look elsewhere than the text says.
pub(crate) fn is_tidy(location: &str) -> bool {
    let (_, path) = split(location);
    // A name node may be left out: hdfs:///x.
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.is_empty() || path.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// Refuses a location that is not tidy: what is checked must be what is removed one day.
pub(crate) fn check(location: Option<&str>) -> Result<()> {
    match location.filter(|location| !is_tidy(location)) {
        None => Ok(()),
        Some(location) => Err(Error::invalid_input(format!(
            "location '{}' has an empty part, or . or ..",
            without_passwords(location)
        ))),
    }
}

/// The plain spelling of the scheme, and what comes after it.
fn split(location: &str) -> (&str, &str) {
    let (local, stores) = (SPELLINGS[0][0], SPELLINGS[1]);
    if let Some(path) = location.strip_prefix("file:").or(location.starts_with('/').then_some(location)) {
        return (local, path.trim_start_matches('/'));
    }
    if let Some(rest) = stores.iter().find_map(|scheme| location.strip_prefix(scheme)) {
        return (stores[0], rest);
    }
    location.split_at(location.find("://").map_or(0, |at| at + 3))
}

/// All ways to write a location, without a slash at its end.
pub(crate) fn spellings(location: &str) -> Vec<String> {
    let plain = plain(location);
    match SPELLINGS.iter().find_map(|all| Some((*all, plain.strip_prefix(all[0])?))) {
        Some((schemes, rest)) => schemes.iter().map(|scheme| format!("{scheme}{rest}")).collect(),
        None => vec![plain],
    }
}

/// The folders above a location, in its plain spelling, nearest first.
pub(crate) fn above(location: &str) -> Vec<String> {
    let mut folders = Vec::new();
    let mut rest = plain(location);
    let root = rest.find(":/").map_or(0, |at| at + 2);
    while let Some(slash) = rest.rfind('/').filter(|slash| *slash >= root) {
        rest.truncate(slash);
        if !rest.ends_with('/') && rest.len() > root {
            folders.push(rest.clone());
        }
    }
    folders
}

/// Whether two locations are one place.
pub(crate) fn is_same(one: &str, two: &str) -> bool {
    plain(one) == plain(two)
}

/// Whether `location` is below `folder`.
pub(crate) fn is_below(location: &str, folder: &str) -> bool {
    plain(location).strip_prefix(&plain(folder)).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_place_are_one() {
        for (one, two) in [
            ("file:/a/b", "file:///a/b/"),
            ("file://a/b", "file:/a/b"),
            ("s3a://b/x", "s3://b/x"),
            ("hdfs://n/x/", "hdfs://n/x"),
            ("/a/b", "file:/a/b"),
            ("file:/a//b/./", "file:/a/b"),
            ("s3a://b//x/.", "s3://b/x"),
        ] {
            assert_eq!(plain(one), plain(two));
            assert!(spellings(two).contains(&plain(one)), "{one} {two}");
        }
        assert_eq!(spellings("file:///a/b/"), ["file:/a/b", "file:///a/b", "/a/b"]);
        assert_eq!(spellings("s3a://b/x"), ["s3://b/x", "s3a://b/x", "s3n://b/x"]);
    }

    #[test]
    fn a_path_that_leads_elsewhere_than_it_says_is_told() {
        for tidy in [
            "file:/a/b",
            "file:///a/b/",
            "/a",
            "s3://b/x/ds=a b%2F..c",
            "s3://b",
            "hdfs://n:1/x",
            "hdfs:///x",
            "file:/",
            "x",
            "",
        ] {
            assert!(is_tidy(tidy), "{tidy}");
        }
        for other in ["file:/a//b", "s3a://b/x/.", "file:/a/../b", "s3://b//", "/a/./b", "hdfs://n/.."] {
            assert!(!is_tidy(other), "{other}");
        }
    }

    #[test]
    fn what_is_above_and_below_is_told() {
        assert_eq!(above("file:///a/b/c/"), ["file:/a/b", "file:/a"]);
        assert_eq!(above("s3a://bucket/x/y"), ["s3://bucket/x", "s3://bucket"]);
        assert_eq!(above("s3://bucket"), Vec::<String>::new());
        assert_eq!(above("file:/"), Vec::<String>::new());
        assert!(is_below("s3a://b/x/y", "s3://b/x/"));
        assert!(!is_below("s3://b/xy", "s3://b/x") && !is_below("s3://b/x", "s3://b/x"));
    }
}
