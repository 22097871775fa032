//! The eight tables of TPC-H (specification 3.0.1, section 1.4), as `dbgen` makes them.
//!
//! The first table with text costs 300 MB once per process: `dbgen`'s pool of sentences, which every comment is cut from.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::error::Result;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

use super::scan::{Batches, Identity, Source};

/// Keys of the leading table (an order with its lines is one) that are worth a part of their own.
const ROWS_PER_PART_MIN: usize = 10_000;
/// Mean number of lines of an order: 1 to 7, all as likely.
const LINES_PER_ORDER: usize = 4;
/// Suppliers that each part has: TPC-H specification 4.2.5.
const SUPPLIERS_OF_PART: usize = 4;
/// Number of regions.
const REGIONS: usize = 5;
/// Number of nations.
const NATIONS: usize = 25;

const TABLES: [(&str, Kind); 8] = [
    ("customer", Kind::Customer),
    ("lineitem", Kind::LineItem),
    ("nation", Kind::Nation),
    ("orders", Kind::Orders),
    ("part", Kind::Part),
    ("partsupp", Kind::PartSupp),
    ("region", Kind::Region),
    ("supplier", Kind::Supplier),
];

/// Names of the tables, sorted.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, _)| *name)
}

/// A table by name.
pub(super) fn table(name: &str, scale: f64) -> Option<Arc<dyn Source>> {
    let (name, kind) = *TABLES.iter().find(|(known, _)| *known == name)?;
    Some(Arc::new(Table { name, kind, scale }))
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Customer,
    LineItem,
    Nation,
    Orders,
    Part,
    PartSupp,
    Region,
    Supplier,
}

#[derive(Debug)]
struct Table {
    name: &'static str,
    kind: Kind,
    scale: f64,
}

impl Table {
    fn order_count(&self) -> usize {
        count(OrderGenerator::calculate_row_count(self.scale, 1, 1))
    }
}

impl Source for Table {
    fn identity(&self) -> Identity {
        Identity { catalog: "tpch".into(), scale: self.scale, table: self.name.into() }
    }

    fn schema(&self) -> SchemaRef {
        match self.kind {
            Kind::Customer => CustomerArrow::schema_ref(),
            Kind::LineItem => LineItemArrow::schema_ref(),
            Kind::Nation => NationArrow::schema_ref(),
            Kind::Orders => OrderArrow::schema_ref(),
            Kind::Part => PartArrow::schema_ref(),
            Kind::PartSupp => PartSuppArrow::schema_ref(),
            Kind::Region => RegionArrow::schema_ref(),
            Kind::Supplier => SupplierArrow::schema_ref(),
        }
    }

    fn rows(&self) -> Precision<usize> {
        Precision::Exact(match self.kind {
            Kind::Customer => count(CustomerGenerator::calculate_row_count(self.scale, 1, 1)),
            // How many lines an order has is drawn.
            Kind::LineItem => return Precision::Inexact(self.order_count() * LINES_PER_ORDER),
            Kind::Nation => NATIONS,
            Kind::Orders => self.order_count(),
            Kind::Part => count(PartGenerator::calculate_row_count(self.scale, 1, 1)),
            Kind::PartSupp => SUPPLIERS_OF_PART * count(PartSuppGenerator::calculate_row_count(self.scale, 1, 1)),
            Kind::Region => REGIONS,
            Kind::Supplier => count(SupplierGenerator::calculate_row_count(self.scale, 1, 1)),
        })
    }

    fn parts(&self, wanted: usize) -> usize {
        let keys = match self.kind {
            // These two ignore parts: each part would be the whole table.
            Kind::Nation | Kind::Region => return 1,
            Kind::LineItem => self.order_count(),
            _ => *self.rows().get_value().unwrap_or(&0),
        };
        wanted.clamp(1, (keys / ROWS_PER_PART_MIN).max(1))
    }

    fn part(&self, part: usize, parts: usize, batch_size: usize) -> Result<Batches> {
        let scale = self.scale;
        // A scan has far fewer partitions than an i32 holds.
        let part = i32::try_from(part + 1).unwrap_or(i32::MAX);
        let parts = i32::try_from(parts).unwrap_or(i32::MAX);
        macro_rules! batches {
            ($arrow:ident, $generator:ident) => {
                Box::new($arrow::new($generator::new(scale, part, parts)).with_batch_size(batch_size))
            };
        }
        Ok(match self.kind {
            Kind::Customer => batches!(CustomerArrow, CustomerGenerator),
            Kind::LineItem => batches!(LineItemArrow, LineItemGenerator),
            Kind::Nation => batches!(NationArrow, NationGenerator),
            Kind::Orders => batches!(OrderArrow, OrderGenerator),
            Kind::Part => batches!(PartArrow, PartGenerator),
            Kind::PartSupp => batches!(PartSuppArrow, PartSuppGenerator),
            Kind::Region => batches!(RegionArrow, RegionGenerator),
            Kind::Supplier => batches!(SupplierArrow, SupplierGenerator),
        })
    }
}

/// The generators count in i64, never below zero.
fn count(rows: i64) -> usize {
    usize::try_from(rows).unwrap_or(0)
}
