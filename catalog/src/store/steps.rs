//! The steps by which Tereza's own tables (`TZ_…`) got their present form, in the words of each database.
//!
//! The first makes version 1, each next one the next version. Steps are never changed once released, only added, in
//! both folders and at the end of the list here. In MySQL each statement of a step must bear to be run again, since
//! none is undone when a later one fails: `IF NOT EXISTS`, `INSERT IGNORE`, and one `ALTER TABLE` for all that a step
//! changes about a table.

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) sqlite: &'static str,
    pub(super) mysql: &'static str,
}

macro_rules! step {
    ($file:literal) => {
        Step { sqlite: include_str!(concat!("sqlite/", $file)), mysql: include_str!(concat!("mysql/", $file)) }
    };
}

/// All steps.
pub(super) const STEPS: [Step; 5] =
    [step!("tereza_1.sql"), step!("tereza_2.sql"), step!("tereza_3.sql"), step!("tereza_4.sql"), step!("tereza_5.sql")];
