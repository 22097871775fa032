//! Rows to files, and the commit.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use tereza_catalog::model::Table;
use tereza_catalog::store::{Commit, VersionedTable};
use tereza_runtime::{Error, Result};

use crate::engine::Engine;

/// What is written to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A table that exists.
    Existing(VersionedTable),
    /// A table that the commit makes (CTAS); its location is set.
    New(Table),
}

/// What happens to the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They stay.
    Append,
    /// They go: all of an unpartitioned table, and of a partitioned one the partitions that get rows, as Hive's dynamic
    /// `INSERT OVERWRITE` does.
    Overwrite,
}

/// The plan that writes `input` (table columns, then partition keys, by position) and commits; it yields one `count` row.
pub(crate) fn plan(
    _engine: &Arc<Engine>,
    _target: Target,
    _mode: Mode,
    _input: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    Err(Error::unsupported("INSERT"))
}

/// Brings the files of a commit to their places; harmless when repeated, also by several processes at once.
pub(crate) async fn roll_forward(_engine: &Engine, _commit: &Commit) -> Result<()> {
    Err(Error::unsupported("commits"))
}

/// Finishes what dead processes left: rolls committed writes forward and removes what never committed.
pub(crate) async fn recover(_engine: &Engine) -> Result<()> {
    Err(Error::unsupported("commits"))
}
