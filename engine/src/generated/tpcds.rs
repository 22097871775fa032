//! The 24 tables of TPC-DS (specification 4.0.0, section 2), as `dsdgen` makes them.
//!
//! Columns have the names that queries use: where the generator follows a slip of the specification's schema, the column
//! is renamed (see `Table::schema`). `reason` has 75 rows at every scale, as `dsdgen` makes it, where the specification's
//! table 3-2 says 35 at scale 1.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::error::{DataFusionError, Result};
use tpcdsgen::config::{Scaling, Session, SessionBuilder, Table as Kind};
use tpcdsgen_arrow::{
    CallCenterArrow, CatalogPageArrow, CatalogReturnsArrow, CatalogSalesArrow, CustomerAddressArrow, CustomerArrow,
    CustomerDemographicsArrow, DateDimArrow, HouseholdDemographicsArrow, IncomeBandArrow, InventoryArrow, ItemArrow,
    PromotionArrow, ReasonArrow, ShipModeArrow, StoreArrow, StoreReturnsArrow, StoreSalesArrow, TimeDimArrow,
    WarehouseArrow, WebPageArrow, WebReturnsArrow, WebSalesArrow, WebSiteArrow,
};

use super::scan::{Batches, Identity, Source};

/// Source rows (an order with its lines is one) that are worth a part of their own.
const ROWS_PER_PART_MIN: u64 = 10_000;
/// One line of an order in so many is returned.
const LINES_PER_RETURN: u64 = 10;

/// What is known of a table at any scale.
struct Definition {
    name: &'static str,
    kind: Kind,
    /// Columns, with the generator's names.
    schema: fn() -> SchemaRef,
    /// The rows of a range of source rows (from 1, both ends included), in batches of so many rows.
    generate: fn(Session, RangeInclusive<u64>, usize) -> Batches,
}

macro_rules! definition {
    ($name:literal, $kind:ident, $generator:ident) => {
        Definition {
            name: $name,
            kind: Kind::$kind,
            schema: $generator::schema_ref,
            generate: |session, range, batch_size| {
                let generator = $generator::new(session).with_source_row_range(*range.start(), *range.end());
                Box::new(generator.with_batch_size(batch_size))
            },
        }
    };
}

static TABLES: [Definition; 24] = [
    definition!("call_center", CallCenter, CallCenterArrow),
    definition!("catalog_page", CatalogPage, CatalogPageArrow),
    definition!("catalog_returns", CatalogReturns, CatalogReturnsArrow),
    definition!("catalog_sales", CatalogSales, CatalogSalesArrow),
    definition!("customer", Customer, CustomerArrow),
    definition!("customer_address", CustomerAddress, CustomerAddressArrow),
    definition!("customer_demographics", CustomerDemographics, CustomerDemographicsArrow),
    definition!("date_dim", DateDim, DateDimArrow),
    definition!("household_demographics", HouseholdDemographics, HouseholdDemographicsArrow),
    definition!("income_band", IncomeBand, IncomeBandArrow),
    definition!("inventory", Inventory, InventoryArrow),
    definition!("item", Item, ItemArrow),
    definition!("promotion", Promotion, PromotionArrow),
    definition!("reason", Reason, ReasonArrow),
    definition!("ship_mode", ShipMode, ShipModeArrow),
    definition!("store", Store, StoreArrow),
    definition!("store_returns", StoreReturns, StoreReturnsArrow),
    definition!("store_sales", StoreSales, StoreSalesArrow),
    definition!("time_dim", TimeDim, TimeDimArrow),
    definition!("warehouse", Warehouse, WarehouseArrow),
    definition!("web_page", WebPage, WebPageArrow),
    definition!("web_returns", WebReturns, WebReturnsArrow),
    definition!("web_sales", WebSales, WebSalesArrow),
    definition!("web_site", WebSite, WebSiteArrow),
];

/// Names of the tables, sorted.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.name)
}

/// A table by name.
pub(super) fn table(name: &str, scale: f64) -> Option<Arc<dyn Source>> {
    let definition = TABLES.iter().find(|table| table.name == name)?;
    Some(Arc::new(Table { definition, scale }))
}

struct Table {
    definition: &'static Definition,
    scale: f64,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.identity())
    }
}

impl Table {
    /// Rows that the generator counts by: orders for sales and for their returns, else the table's own rows.
    fn source_rows(&self) -> u64 {
        let counted = match self.definition.kind {
            Kind::StoreReturns => Kind::StoreSales,
            Kind::CatalogReturns => Kind::CatalogSales,
            Kind::WebReturns => Kind::WebSales,
            own => own,
        };
        Scaling::new(self.scale).get_row_count(counted)
    }
}

impl Source for Table {
    fn identity(&self) -> Identity {
        Identity { catalog: "tpcds".into(), scale: self.scale, table: self.definition.name.into() }
    }

    fn schema(&self) -> SchemaRef {
        let schema = (self.definition.schema)();
        if self.definition.kind != Kind::Store {
            return schema;
        }
        let fields: Fields = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                // The specification's schema misspells it; queries and other engines do not.
                "s_tax_precentage" => Arc::new(field.as_ref().clone().with_name("s_tax_percentage")),
                _ => Arc::clone(field),
            })
            .collect();
        Arc::new(Schema::new(fields))
    }

    fn rows(&self) -> Precision<usize> {
        // How many lines an order has, and which of them are returned, is drawn: the means are known.
        let (lines_per_order, lines_per_row) = match self.definition.kind {
            Kind::StoreSales | Kind::WebSales => (12, 1),
            Kind::StoreReturns | Kind::WebReturns => (12, LINES_PER_RETURN),
            Kind::CatalogSales => (9, 1),
            Kind::CatalogReturns => (9, LINES_PER_RETURN),
            _ => return Precision::Exact(count(self.source_rows())),
        };
        Precision::Inexact(count(self.source_rows() * lines_per_order / lines_per_row))
    }

    fn parts(&self, wanted: usize) -> usize {
        wanted.clamp(1, count(self.source_rows() / ROWS_PER_PART_MIN).max(1))
    }

    fn part(&self, part: usize, parts: usize, batch_size: usize) -> Result<Batches> {
        let session = SessionBuilder::new().with_scale_factor(self.scale).build();
        let session = session.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let (rows, part, parts) = (self.source_rows(), part as u64, parts as u64);
        // Every source row draws from its own place in the random streams, so any range gives the rows of the whole.
        let range = rows * part / parts + 1..=rows * (part + 1) / parts;
        Ok((self.definition.generate)(session, range, batch_size))
    }
}

/// A table of more rows than a usize holds is cut in the statistics only.
fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
