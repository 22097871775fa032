//! The rules of the commit protocol, each of which a test can switch off to show that the simulation sees it missing.

/// A rule that loses or doubles rows when it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// State and files are complete before the record that names them.
    SnapshotBeforeCommit,
    /// Files come into tables when their record is committed, not earlier.
    #[cfg(test)]
    ApplyAfterCommit,
    /// Files up to the table's marker are in it.
    Marker,
    /// A record names all files that are not in their tables yet.
    Carry,
    /// Who is in doubt deletes nothing.
    #[cfg(test)]
    NoCleaning,
    /// Names of objects belong to one attempt.
    OwnNames,
    /// What is deleted is listed in a committed record.
    #[cfg(test)]
    GarbageByList,
    /// Numbers of epochs go on over generations.
    NumbersGoOn,
    /// The logs of a plan are sealed before their records become the cuts of the next one.
    Seal,
    /// Objects of a log are put only where none is.
    PutIfAbsent,
    /// Whether an object that exists is one's own is told by its nonce.
    Nonce,
    /// Older chains are closed before they are read.
    Fence,
    /// The records of the chain that is written stay.
    KeepOwnChain,
}

/// Which rules hold: all, outside of tests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    #[cfg(test)]
    pub(crate) broken: Option<Rule>,
}

impl Rules {
    #[cfg(test)]
    pub(crate) fn breaks(self, rule: Rule) -> bool {
        self.broken == Some(rule)
    }

    #[cfg(not(test))]
    pub(crate) const fn breaks(self, _: Rule) -> bool {
        false
    }
}
