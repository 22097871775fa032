//! Small files of a partition, or of an unpartitioned table, into larger ones.
//!
//! It is an INSERT OVERWRITE of the rows that are there: one commit, which others that change the table at the same time make
//! impossible, and which readers see whole or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Column;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::{ExecutionPlanProperties, collect};
use datafusion::prelude::{Expr, SessionConfig, SessionContext, lit};
use tereza_catalog::store::{PartitionFilter, Snapshot};
use tereza_runtime::{Error, ErrorKind, Result};

use super::{Mode, Target, entry, files, folder_of_partition, folder_of_table, roll_forward};
use crate::engine::Engine;
use crate::error::from_datafusion;
use crate::table;
use crate::types::{partition_scalar, partition_text, table_fields};

/// A file is small if it has fewer bytes.
const SMALL_BYTES: u64 = 128 << 20;
/// Fewer small files are left as they are.
const SMALL_FILES_MIN: usize = 2;
/// Tries while others change the table.
const TRIES_MAX: u32 = 3;

/// Rewrites the partition with these values if it has small files; all of a table that has no partitions. Whether it did.
///
/// # Errors
/// `Conflict` if others change the table all the time; `Unsupported` if its format is only read, or a value is written in a way
/// that no rewritten row would have.
pub(crate) async fn compact(engine: &Arc<Engine>, database: &str, name: &str, values: &[String]) -> Result<bool> {
    for _ in 1..TRIES_MAX {
        match try_compact(engine, database, name, values).await {
            Err(error) if error.kind() == ErrorKind::Conflict => tracing::debug!(database, name, %error, "again"),
            done => return done,
        }
    }
    try_compact(engine, database, name, values).await
}

async fn try_compact(engine: &Arc<Engine>, database: &str, name: &str, values: &[String]) -> Result<bool> {
    // Before its files are listed: what comes in between is seen by the commit.
    let found = engine.catalog.table(database, name).await?;
    let (_, keys) = table_fields(&found.table)?;
    if keys.len() != values.len() {
        let (given, has) = (values.len(), keys.len());
        return Err(Error::invalid_input(format!(
            "{given} values of a partition of table {database}.{name}, which has {has} keys"
        )));
    }
    let is_text = |key: &FieldRef| matches!(key.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let filter = match keys.iter().all(is_text) {
        true => entry::exact_filter(keys.len(), &BTreeSet::from([&values.to_vec()])),
        // Other texts may be the same value.
        false => PartitionFilter::default(),
    };
    let Snapshot { partitions, pending, .. } = engine.catalog.snapshot(database, name, &filter).await?;
    roll_forward::finish_pending(engine, &pending).await?;
    let folder = match keys.is_empty() {
        true => folder_of_table(&found.table),
        false => {
            let partition = partitions.iter().find(|partition| partition.values == values).ok_or_else(|| {
                Error::not_found(format!("table {database}.{name} has no partition {}", values.join("/")))
            })?;
            for others in &partitions {
                require_own(&keys, values, &others.values)
                    .map_err(|error| error.context(format!("table {database}.{name}")))?;
            }
            folder_of_partition(&partition.storage)
        }
    };
    let folder =
        folder.ok_or_else(|| Error::invalid_input(format!("rows of table {database}.{name} have no location")))?;
    if small_files(engine, folder).await? < SMALL_FILES_MIN {
        return Ok(false);
    }

    let config = SessionConfig::new().with_target_partitions(1);
    let state = SessionStateBuilder::new().with_default_features().with_config(config.clone());
    let context = SessionContext::new_with_state(state.with_runtime_env(Arc::clone(&engine.runtime)).build());
    let mut rows = context.read_table(table::provider(engine, found.clone())?).map_err(from_datafusion)?;
    for (key, value) in keys.iter().zip(values) {
        let column = Expr::Column(Column::from_name(key.name()));
        let value = partition_scalar(value, key.data_type())?;
        let is_of = if value.is_null() { column.is_null() } else { column.eq(lit(value)) };
        rows = rows.filter(is_of).map_err(from_datafusion)?;
    }
    let mut input = rows.create_physical_plan().await.map_err(from_datafusion)?;
    // One writer, and so as few files as can be.
    if input.output_partitioning().partition_count() != 1 {
        input = Arc::new(CoalescePartitionsExec::new(input));
    }
    let plan = super::plan(engine, &config, Target::Existing(found), Mode::Overwrite, input)?;
    collect(plan, context.task_ctx()).await.map_err(from_datafusion)?;
    Ok(true)
}

/// Refuses values that a rewritten row would not have, and those that another partition has too, in another text.
fn require_own(keys: &[FieldRef], values: &[String], others: &[String]) -> Result<()> {
    for ((key, value), other) in keys.iter().zip(values).zip(others) {
        let scalar = partition_scalar(value, key.data_type())?;
        let usual = partition_text(&scalar)?;
        if usual != *value {
            let text = format!("files of a partition with '{}' = '{value}', which is written '{usual}',", key.name());
            return Err(Error::unsupported(format!("compacting {text}")));
        }
        if partition_scalar(other, key.data_type())? != scalar {
            return Ok(());
        }
    }
    match values == others {
        true => Ok(()),
        false => {
            let (one, two) = (values.join("/"), others.join("/"));
            Err(Error::unsupported(format!(
                "compacting files of the partition {one}, whose values are those of {two},"
            )))
        }
    }
}

async fn small_files(engine: &Engine, folder: &str) -> Result<usize> {
    let place = engine.stores.place(folder)?;
    let listed = place.store.list_with_delimiter(Some(&place.path)).await;
    let listed = listed.map_err(|error| files::store_error(error, folder))?.objects;
    let small = listed.iter().filter(|file| {
        file.location != place.path && entry::is_visible(&file.location) && (1..SMALL_BYTES).contains(&file.size)
    });
    Ok(small.count())
}

#[cfg(test)]
mod tests;
