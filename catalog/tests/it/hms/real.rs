//! A real Hive Metastore 3.1.
