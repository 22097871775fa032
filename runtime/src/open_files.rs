//! How many files the process may have open at once.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files to the most that the system allows this process.
///
/// The usual soft limit of 1,024 is for programs that wait with select(2), which this one has not; a statement that spills
/// has hundreds of files open.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where the system refuses, the limit stays, and the statement that meets it says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Whether an error of the operating system says that too many files are open, in this process or in all.
pub fn are_too_many(error: &io::Error) -> bool {
    // By its text: the crate `tempfile` puts a path to it and hides its number.
    let text = error.to_string();
    [Errno::MFILE, Errno::NFILE].iter().any(|number| text.contains(&number.to_string()))
}
