//! DataFusion's, Arrow's and the object stores' errors as Tereza's.

use datafusion::error::DataFusionError;
use tereza_runtime::Error;

/// The public error for one of DataFusion: kind, message without its layers of context, and the place in the statement.
pub(crate) fn from_datafusion(error: DataFusionError) -> Error {
    Error::internal(error.to_string()).with_source(error)
}

/// The way back, for code that DataFusion calls: [`from_datafusion`] finds the same error in it again.
pub(crate) fn to_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
