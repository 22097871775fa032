//! Locations as they are compared: what is at, above or below what.

/// Ways to write the scheme of one and the same place, the plain one first: Java writes `file:/x` for `file:///x`, and S3 has
/// had three file systems.
const SPELLINGS: [&[&str]; 2] = [&["file:/", "file:///"], &["s3://", "s3a://", "s3n://"]];

/// A location without slashes at its end and in its plain spelling. Two locations are the same place if these are equal.
pub(crate) fn plain(location: &str) -> String {
    let trimmed = location.trim_end_matches('/');
    if let Some(path) = trimmed.strip_prefix("file:") {
        return format!("file:/{}", path.trim_start_matches('/'));
    }
    match SPELLINGS.iter().find_map(|all| all.iter().find_map(|one| Some((all[0], trimmed.strip_prefix(one)?)))) {
        Some((scheme, rest)) => format!("{scheme}{rest}"),
        None => trimmed.to_owned(),
    }
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
        ] {
            assert_eq!(plain(one), plain(two));
            assert!(spellings(two).contains(&plain(one)), "{one} {two}");
        }
        assert_eq!(spellings("file:///a/b/"), ["file:/a/b", "file:///a/b"]);
        assert_eq!(spellings("s3a://b/x"), ["s3://b/x", "s3a://b/x", "s3n://b/x"]);
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
