//! Presto, Spark and Tereza on Tereza's metastore and MinIO: each reads what the others wrote. `scripts/lake.sh` does the same
//! by hand, and gets what is needed.

use std::path::Path;

use crate::support::{home, missing, spark};

#[test]
fn presto_spark_and_tereza_read_what_the_others_wrote() {
    let Some(spark) = spark() else { return };
    let jars = home().join("lake/spark-jars");
    if !jars.exists() {
        missing("Spark's jars for S3 (scripts/lake.sh --get)");
        return;
    }
    let minio = home().join("bin/minio");
    if !minio.exists() {
        missing("MinIO");
        return;
    }
    let mut arguments = vec![
        "--tereza".into(),
        env!("CARGO_BIN_EXE_tereza").into(),
        "--minio".into(),
        minio.display().to_string(),
        "--spark-jars".into(),
        jars.display().to_string(),
    ];
    // It is 2 GB to fetch, and slow to start: it takes part where somebody has it and says so.
    match std::env::var("TEREZA_TEST_PRESTO_HOME") {
        Ok(presto) => {
            assert!(Path::new(&presto).join("lib").exists(), "TEREZA_TEST_PRESTO_HOME: {presto}");
            arguments.extend(["--presto".into(), presto]);
        }
        Err(_) => eprintln!("skipped: Presto; TEREZA_TEST_PRESTO_HOME may name its home (scripts/lake.sh --get)"),
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    println!("{}", spark.run_in(folder.path(), "lake/judge.py", &arguments));
}
