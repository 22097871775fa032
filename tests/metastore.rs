//! The catalog's other door: clients of a Hive Metastore beside clients of SQL.

use crate::support::{Server, spark};

#[test]
fn spark_and_tereza_read_what_the_other_wrote() {
    let Some(spark) = spark() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, &[]);
    let warehouse = format!("file:{}", data.join("warehouse").display());
    let arguments = [&server.endpoint("metastore"), &warehouse, env!("CARGO_BIN_EXE_tereza"), &server.flight_sql];
    spark.run_in(folder.path(), "metastore/spark.py", &arguments);
}
