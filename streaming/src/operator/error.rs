//! Errors of Arrow and DataFusion as errors of Tereza.

use datafusion::error::DataFusionError;
use tereza_runtime::error::Error;

/// Rows that an expression cannot take are the input's fault; what is left is a defect.
pub(crate) fn failed(error: impl Into<DataFusionError>) -> Error {
    let error = error.into();
    let message = error.strip_backtrace();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => Error::resource_exhausted(message),
        DataFusionError::NotImplemented(_) => Error::unsupported(message),
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => Error::invalid_input(message),
        _ => Error::internal(message),
    }
    .with_source(error)
}
