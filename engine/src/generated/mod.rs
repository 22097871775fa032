//! The catalogs `tpch` and `tpcds`: tables generated on the fly at any scale, so that a query needs no data.
//!
//! A schema is a scale: `tiny` (0.01) and `sf<N>` for any N such as `sf1`, `"sf0.1"` or `sf1000`. Rows come from the crates
//! `tpchgen` and `tpcdsgen`, which follow TPC's own `dbgen` and `dsdgen` byte for byte; each partition of a scan generates
//! its own range of rows, a batch at a time, so memory does not grow with the scale.
//!
//! Files in reading order: this one (names), [`scan`] (a table as DataFusion reads it), [`tpch`] and [`tpcds`] (the tables).

mod scan;
mod tpcds;
mod tpch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::TableType;

use scan::{GeneratedTable, Identity, Source};

pub(crate) use scan::{GenerateExec, Generated};

/// Schemas that are listed; others can be named all the same.
const LISTED_SCHEMAS: [&str; 5] = ["tiny", "sf0.1", "sf1", "sf10", "sf100"];
/// Scale of the schema `tiny`.
const TINY: f64 = 0.01;
/// Smallest scale: below it TPC-H's smallest tables have no rows.
const SCALE_MIN: f64 = 0.001;
/// Largest scale: the last one that TPC-DS defines; TPC-H's last one too.
const SCALE_MAX: f64 = 100_000.0;

/// The catalog `tpch`: schemas `tiny` (scale 0.01) and `sf<N>`.
pub(crate) fn tpch() -> Arc<dyn CatalogProvider> {
    Arc::new(Catalog { benchmark: Benchmark::TpcH })
}

/// The catalog `tpcds`: schemas `tiny` (scale 0.01) and `sf<N>`.
pub(crate) fn tpcds() -> Arc<dyn CatalogProvider> {
    Arc::new(Catalog { benchmark: Benchmark::TpcDs })
}

#[derive(Debug, Clone, Copy)]
enum Benchmark {
    TpcH,
    TpcDs,
}

impl Benchmark {
    fn catalog(self) -> &'static str {
        match self {
            Self::TpcH => "tpch",
            Self::TpcDs => "tpcds",
        }
    }

    fn table_names(self) -> Vec<String> {
        match self {
            Self::TpcH => tpch::names().map(Into::into).collect(),
            Self::TpcDs => tpcds::names().map(Into::into).collect(),
        }
    }

    fn table(self, name: &str, scale: f64) -> Option<Arc<dyn Source>> {
        match self {
            Self::TpcH => tpch::table(name, scale),
            Self::TpcDs => tpcds::table(name, scale),
        }
    }
}

/// The generator of a table.
fn source(identity: &Identity) -> Option<Arc<dyn Source>> {
    let benchmark =
        [Benchmark::TpcH, Benchmark::TpcDs].into_iter().find(|known| known.catalog() == identity.catalog)?;
    benchmark.table(&identity.table, identity.scale)
}

#[derive(Debug)]
struct Catalog {
    benchmark: Benchmark,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        LISTED_SCHEMAS.map(Into::into).to_vec()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let scale = scale_of(name)?;
        Some(Arc::new(Schema { benchmark: self.benchmark, scale }))
    }
}

#[derive(Debug)]
struct Schema {
    benchmark: Benchmark,
    scale: f64,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.benchmark.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let source = self.benchmark.table(name, self.scale);
        Ok(source.map(|source| Arc::new(GeneratedTable::new(source)) as Arc<dyn TableProvider>))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.benchmark.table(name, self.scale).is_some()
    }
}

/// The scale that a schema's name stands for; `None` if the name is no scale or the scale is out of bounds.
fn scale_of(schema: &str) -> Option<f64> {
    if schema == "tiny" {
        return Some(TINY);
    }
    let number = schema.strip_prefix("sf")?;
    // Plain digits only: Rust's parser also takes `inf`, `1e3` and signs, which would be second names of the same scale.
    if !number.starts_with(|c: char| c.is_ascii_digit()) || !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let scale: f64 = number.parse().ok()?;
    (SCALE_MIN..=SCALE_MAX).contains(&scale).then_some(scale)
}
