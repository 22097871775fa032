//! A table of the catalog as DataFusion reads it.
//!
//! A scan is made of the catalog and the object store as they are at that moment: `prune` decides which partitions are
//! read, `listing` finds the files of exactly the commits that the catalog has, `scan` turns them into a plan (with
//! `columns` finding a file's columns by name, `distincts` estimating how many values they have, and `named` adding the file
//! to errors). Writes go to [`crate::write`].

mod columns;
mod distincts;
mod listing;
mod members;
mod named;
mod prune;
mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tereza_catalog::model::{Table, TableKind};
use tereza_catalog::store::VersionedTable;
use tereza_runtime::{Error, Result};

pub(crate) use self::columns::AnyCase;
pub(crate) use self::named::{NamedSource, name_files};
use self::prune::Pruner;
use crate::engine::Engine;
use crate::error::to_datafusion;
use crate::formats::{Format, spark};
use crate::types::table_fields;
use crate::write;

/// The provider of one table (not of views): its scan resolves partitions and files from the catalog at that moment.
pub(crate) fn provider(engine: &Arc<Engine>, table: VersionedTable) -> Result<Arc<dyn TableProvider>> {
    if matches!(table.table.kind, TableKind::View | TableKind::MaterializedView) {
        return Err(Error::internal(format!(
            "view {}.{} is no table of files",
            table.table.database, table.table.name
        )));
    }
    let (columns, keys) = table_fields(&table.table)?;
    // A format that cannot be read is refused when the table is named, not when it is read.
    Format::of_table(&table.table, &table.table.storage)?;
    let fields: Vec<FieldRef> = columns.fields().iter().chain(&keys).cloned().collect();
    Ok(Arc::new(HiveTable { engine: Arc::clone(engine), columns, keys, schema: Arc::new(Schema::new(fields)), table }))
}

/// The parameters of a table of files; none for other tables.
pub(crate) fn parameters(provider: &dyn TableProvider) -> Option<&BTreeMap<String, String>> {
    provider.downcast_ref::<HiveTable>().map(|table| &table.table.table.parameters)
}

/// A table of files with its partitions in the catalog.
#[derive(Debug)]
struct HiveTable {
    engine: Arc<Engine>,
    /// As it was when the statement was planned.
    table: VersionedTable,
    columns: SchemaRef,
    keys: Vec<FieldRef>,
    /// Columns, then keys.
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for HiveTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let parameter = |name: &str| -> Precision<usize> {
            let value = self.table.table.parameters.get(name).and_then(|value| value.parse().ok());
            value.map_or(Precision::Absent, Precision::Inexact)
        };
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = parameter("numRows");
        statistics.total_byte_size = parameter("totalSize");
        Some(statistics)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> datafusion::error::Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if prune::is_on_keys(&self.keys, filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let Table { database, name, .. } = &self.table.table;
        let pruner = Pruner::new(state, &self.keys, filters).map_err(to_datafusion)?;
        let listing = listing::list(&self.engine, database, name, &pruner).await.map_err(to_datafusion)?;
        self.check_unchanged(&listing.table.table).map_err(to_datafusion)?;
        let column_statistics =
            self.engine.catalog.column_statistics(database, name, None).await.map_err(to_datafusion)?;
        let request = scan::Request {
            state,
            columns: Arc::clone(&self.columns),
            keys: self.keys.clone(),
            projection,
            limit,
            has_row_filters: filters.iter().any(|filter| !prune::is_on_keys(&self.keys, filter)),
            column_statistics,
        };
        scan::plan(&request, listing).await
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        insert_op: InsertOp,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let mode = match insert_op {
            InsertOp::Append => write::Mode::Append,
            InsertOp::Overwrite => write::Mode::Overwrite,
            InsertOp::Replace => {
                let error = Error::unsupported("REPLACE INTO").with_hint("use INSERT INTO or INSERT OVERWRITE");
                return Err(to_datafusion(error));
            }
        };
        let target = write::Target::Existing(self.table.clone());
        write::plan(&self.engine, state.config(), target, mode, input).map_err(to_datafusion)
    }
}

impl HiveTable {
    /// Refuses to read a table whose columns are not those that the statement was planned with.
    fn check_unchanged(&self, now: &Table) -> Result<()> {
        let then = &self.table.table;
        let types = |table: &Table| -> Result<Vec<(String, String)>> {
            let columns = spark::columns(table)?;
            let columns = columns.iter().chain(&table.partition_keys);
            Ok(columns.map(|column| (column.name.clone(), column.type_name.clone())).collect())
        };
        if types(then)? == types(now)? && then.partition_keys.len() == now.partition_keys.len() {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "columns of table {}.{} changed while the statement was planned",
            now.database, now.name
        ))
        .with_hint("run the statement again"))
    }
}

#[cfg(test)]
mod tests;
