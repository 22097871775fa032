//! The steps by which Tereza's own tables (`TZ_…`) got their present form, in the words of each database.
//!
//! The first makes version 1, each next one the next version. Steps are never changed once released, only added: a file in
//! the folder of each database, and a line at the end of the list here.

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) sqlite: &'static str,
}

macro_rules! step {
    ($file:literal) => {
        Step { sqlite: include_str!(concat!("sqlite/", $file)) }
    };
}

/// All steps.
pub(super) const STEPS: [Step; 2] = [step!("tereza_1.sql"), step!("tereza_2.sql")];
