//! Real Hive Metastores, where they are installed: `TEREZA_TEST_HIVE_HOME` may name the folder of the standalone distribution of
//! 3.1, and `TEREZA_TEST_HIVE4_HOME` that of 4, each with MySQL's driver (`com.mysql.cj`) and Hadoop's client among the jars in
//! its `lib`. That of 2.3 is in the jars of `pyspark`, which the interpreter has that `TEREZA_TEST_SPARK` names.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, raw_sql};
use tempfile::TempDir;
use tereza_thrift::client::{self, Client};
use tokio::process::{Child, Command};

use crate::clients::interpreter;
use crate::mariadb::TestDatabase;

/// Longer than a metastore takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Hive {
    pub(crate) port: u16,
    /// Its settings and its warehouse.
    pub(crate) folder: TempDir,
    process: Child,
}

/// The distribution of 3.1.
pub(crate) fn home() -> Option<PathBuf> {
    folder_of("TEREZA_TEST_HIVE_HOME", "3.1")
}

/// The distribution of 4.
pub(crate) fn home_of_4() -> Option<PathBuf> {
    folder_of("TEREZA_TEST_HIVE4_HOME", "4")
}

fn folder_of(variable: &str, version: &str) -> Option<PathBuf> {
    let home = std::env::var_os(variable).map(PathBuf::from);
    if home.is_none() {
        eprintln!("skipped: {variable} may name the folder of a standalone Hive Metastore {version}");
    }
    home
}

/// The folder of PySpark's jars.
pub(crate) async fn jars_of_spark() -> Option<PathBuf> {
    let python = interpreter("TEREZA_TEST_SPARK", "import pyspark").await?;
    let print = "import os, pyspark; print(os.path.join(os.path.dirname(pyspark.__file__), 'jars'))";
    let output = Command::new(python).args(["-c", print]).output().await.unwrap();
    Some(String::from_utf8(output.stdout).unwrap().trim().into())
}

/// Makes the tables by the metastore's own file.
pub(crate) async fn make_by_its_own_file(home: &Path, version: &str, conn: &mut MySqlConnection) {
    let file = home.join(format!("scripts/metastore/upgrade/mysql/hive-schema-{version}.mysql.sql"));
    let schema = std::fs::read_to_string(file).unwrap();
    raw_sql(AssertSqlSafe(schema)).execute(conn).await.unwrap();
}

impl Hive {
    /// A metastore of 3.1 or 4 on a database that has its tables.
    pub(crate) async fn start(home: &Path, database: &TestDatabase) -> Self {
        let url = format!(
            "jdbc:mysql://127.0.0.1:{}/{}?useSSL=false&amp;allowPublicKeyRetrieval=true",
            database.port, database.name
        );
        let settings = [
            ("javax.jdo.option.ConnectionDriverName", "com.mysql.cj.jdbc.Driver"),
            ("javax.jdo.option.ConnectionURL", &url),
            ("javax.jdo.option.ConnectionUserName", "tereza"),
            ("javax.jdo.option.ConnectionPassword", "s ecret"),
            ("datanucleus.schema.autoCreateAll", "false"),
            ("metastore.schema.verification", "true"),
            // The standalone distribution lacks the other tasks that it would start.
            ("metastore.task.threads.always", "org.apache.hadoop.hive.metastore.events.EventCleanerTask"),
            // Whoever asks for events is answered.
            ("hive.metastore.event.db.notification.api.auth", "false"),
            ("metastore.expression.proxy", "org.apache.hadoop.hive.metastore.DefaultPartitionExpressionProxy"),
        ];
        Self::launch(&home.join("lib"), "metastore-site.xml", "metastore.warehouse.dir", &settings).await
    }

    /// The metastore of 2.3 in Spark's jars, on a database in its memory.
    pub(crate) async fn start_2(jars: &Path) -> Self {
        let settings = [
            ("javax.jdo.option.ConnectionURL", "jdbc:derby:memory:metastore;create=true"),
            ("datanucleus.schema.autoCreateAll", "true"),
            ("hive.metastore.schema.verification", "false"),
            // It makes the tables of locks only where it is tested.
            ("hive.in.test", "true"),
            // What these two need is not among the jars.
            ("hive.async.log.enabled", "false"),
            ("datanucleus.connectionPoolingType", "none"),
        ];
        Self::launch(jars, "hive-site.xml", "hive.metastore.warehouse.dir", &settings).await
    }

    async fn launch(jars: &Path, file: &str, warehouse: &str, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (uris, place) =
            (format!("thrift://127.0.0.1:{free}"), format!("file://{}/warehouse", folder.path().display()));
        let own = [("metastore.thrift.uris", uris.as_str()), (warehouse, place.as_str())];
        let mut xml = "<configuration>".to_owned();
        for (name, value) in settings.iter().chain(&own) {
            xml.push_str(&format!("<property><name>{name}</name><value>{value}</value></property>"));
        }
        xml.push_str("</configuration>");
        std::fs::write(folder.path().join(file), xml).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut java = Command::new("java");
        java.args(["-Xmx384m", "-XX:+UseSerialGC"]);
        for package in ["net", "lang", "util"] {
            java.arg(format!("--add-opens=java.base/java.{package}=ALL-UNNAMED"));
        }
        java.arg("-cp")
            .arg(format!("{}:{}/*", folder.path().display(), jars.display()))
            .args(["org.apache.hadoop.hive.metastore.HiveMetaStore", "-p", &free.to_string()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true);
        let mut started = Self { port: free, process: java.spawn().expect("java"), folder };
        let answers = async {
            while started.try_client().await.is_none() {
                if started.process.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            true
        };
        if !tokio::time::timeout(PATIENCE, answers).await.unwrap_or_default() {
            panic!("{}", std::fs::read_to_string(started.folder.path().join("log")).unwrap());
        }
        started
    }

    async fn try_client(&self) -> Option<Client> {
        let mut client =
            Client::connect(&format!("127.0.0.1:{}", self.port), client::Settings::default()).await.ok()?;
        client.get_all_databases().await.ok()?;
        Some(client)
    }

    pub(crate) async fn client(&self) -> Client {
        self.try_client().await.expect("the metastore answers")
    }
}
