//! The catalogs `tpch` and `tpcds`: tables generated on the fly at any scale.

use std::sync::Arc;

use datafusion::catalog::CatalogProvider;

/// The catalog `tpch`: schemas `tiny` (scale 0.01) and `sf<N>`.
pub(crate) fn tpch() -> Arc<dyn CatalogProvider> {
    unimplemented!()
}

/// The catalog `tpcds`: schemas `tiny` (scale 0.01) and `sf<N>`.
pub(crate) fn tpcds() -> Arc<dyn CatalogProvider> {
    unimplemented!()
}
