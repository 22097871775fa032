//! Names to tables.
