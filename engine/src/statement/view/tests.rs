use std::collections::BTreeMap;

use arrow::util::pretty::pretty_format_batches;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tereza_catalog::store::sqlite::SqliteStore;
use tereza_runtime::clock::Clock;
use tereza_runtime::settings::Settings;

use super::*;
use crate::engine::Engine;
use crate::query::{SessionDefaults, SessionId};
use crate::statement::{self, Work};

struct Fixture {
    session: Arc<Session>,
    _folder: TempDir,
}

impl Fixture {
    /// A session on a catalog with the view `base` of two rows.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.engine.spill_dir = folder.path().join("spill");
        settings.warehouse.url = folder.path().to_str().unwrap().to_owned();
        let clock = Clock::fixed(0);
        let catalog = SqliteStore::open_in_memory(clock.clone()).await.unwrap();
        let engine = Engine::over(&settings, Arc::new(catalog), clock).await.unwrap();
        let id = SessionId("tests".into());
        let session = Session::open(engine, id, "somebody", SessionDefaults::default()).await.unwrap();
        let fixture = Self { session, _folder: folder };
        let base = "SELECT 1 AS id, 'a' AS name, 'x' AS p UNION ALL SELECT 2, 'b', 'y'";
        fixture.run(&format!("CREATE VIEW base AS {base}")).await.unwrap();
        fixture
    }

    async fn put(&self, view: &Table) {
        self.session.engine.catalog.create_table(view).await.unwrap();
    }

    /// What a statement gives, one line a row.
    async fn run(&self, sql: &str) -> Result<String> {
        let batches = match statement::plan(&self.session, sql, None).await?.work {
            Work::Task(task) => task.await?,
            Work::Plan(plan) => {
                let frame = self.session.context.execute_logical_plan(*plan).await.map_err(from_datafusion)?;
                frame.collect().await.map_err(from_datafusion)?
            }
        };
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
        let row = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
        Ok(rows.map(row).collect::<Vec<_>>().join("\n"))
    }

    async fn refused(&self, sql: &str) -> Error {
        match self.run(sql).await {
            Ok(rows) => panic!("{sql} gives {rows}"),
            Err(error) => error,
        }
    }
}

fn view(name: &str, original: &str, expanded: &str, columns: &[(&str, &str)], parameters: &[(&str, &str)]) -> Table {
    let column =
        |(name, kind): &(&str, &str)| Column { name: (*name).into(), type_name: (*kind).into(), comment: None };
    Table {
        database: "default".into(),
        name: name.into(),
        kind: TableKind::View,
        owner: None,
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: Storage { columns: columns.iter().map(column).collect(), ..Storage::default() },
        partition_keys: Vec::new(),
        parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        view_original_text: Some(original.to_owned()),
        view_expanded_text: Some(expanded.to_owned()),
        owner_kind: Default::default(),
    }
}

/// As Spark 4.3 leaves a view.
fn spark(name: &str, text: &str, columns: &[(&str, &str)], picked: &[&str]) -> Table {
    let mut parameters: BTreeMap<String, String> = [
        ("spark.sql.create.version", "4.3.0"),
        ("view.catalogAndNamespace.numParts", "2"),
        ("view.catalogAndNamespace.part.0", "spark_catalog"),
        ("view.catalogAndNamespace.part.1", "default"),
        ("view.schemaMode", "COMPENSATION"),
        ("view.sqlConfig.spark.sql.ansi.enabled", "true"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    parameters.insert("view.query.out.numCols".into(), picked.len().to_string());
    for (number, column) in picked.iter().enumerate() {
        parameters.insert(format!("view.query.out.col.{number}"), (*column).to_owned());
    }
    Table { parameters, ..view(name, text, text, columns, &[]) }
}

/// As Presto leaves a view.
fn presto(name: &str, text: &str, columns: &[(&str, &str)], catalog: &str) -> Table {
    let column = |(name, kind): &(&str, &str)| serde_json::json!({"name": name, "type": kind});
    let columns: Vec<_> = columns.iter().map(column).collect();
    let json = serde_json::json!({
        "originalSql": text, "catalog": catalog, "schema": "default", "columns": columns, "owner": "root",
        "runAsInvoker": false,
    });
    let encoded = format!("/* Presto View: {} */", STANDARD.encode(json.to_string()));
    let parameters = [("comment", "Presto View"), ("presto_view", "true")];
    view(name, &encoded, "/* Presto View */", &[("dummy", "string")], &parameters)
}

#[tokio::test]
async fn views_of_spark_mean_what_they_mean_to_spark() {
    let fixture = Fixture::new().await;
    let text =
        r#"SELECT id, upper(name) AS `Na me`, "lit" AS l, id/2 AS half, 'it\'s \\ ''q' AS q FROM `BASE` WHERE P = 'x'"#;
    let columns = [("id", "bigint"), ("na me", "string"), ("l", "string"), ("half", "double"), ("q", "string")];
    fixture.put(&spark("v", text, &columns, &["id", "Na me", "l", "half", "q"])).await;
    assert_eq!(fixture.run("SELECT * FROM v").await.unwrap(), r"1|A|lit|0.5|it's \ 'q");
    assert_eq!(fixture.run(r#"SELECT "na me" FROM v"#).await.unwrap(), "A");

    // Columns that came to the table since are none of the view's.
    fixture
        .put(&spark(
            "two",
            "SELECT * FROM spark_catalog.default.base",
            &[("a", "int"), ("b", "string")],
            &["id", "name"],
        ))
        .await;
    assert_eq!(fixture.run("SELECT a, b FROM two ORDER BY a").await.unwrap(), "1|a\n2|b");
    // A view of a view, and types as the view says.
    fixture.put(&spark("three", "SELECT a + 1 AS c FROM two", &[("c", "decimal(10,2)")], &["c"])).await;
    assert_eq!(fixture.run("SELECT c FROM three ORDER BY c").await.unwrap(), "2.00\n3.00");
    assert_eq!(fixture.run("DESCRIBE three").await.unwrap(), "c|decimal(10,2)|YES||");
    let zero = spark("zero", "SELECT id / (id - 1) AS q FROM base", &[("q", "double")], &["q"]);
    fixture.put(&zero).await;
    assert!(fixture.refused("SELECT q FROM zero").await.message().contains("zero"));
    // Without ANSI mode, and in Hive, it is NULL.
    let hives = view(
        "hives",
        "…",
        "SELECT `base`.`id` / (`base`.`id` - 1) AS `q` FROM `default`.`base`",
        &[("q", "double")],
        &[],
    );
    fixture.put(&hives).await;
    assert_eq!(fixture.run("SELECT q FROM hives ORDER BY q").await.unwrap(), "2.0\n");
}

#[tokio::test]
async fn views_of_presto_mean_what_they_mean_to_presto() {
    let fixture = Fixture::new().await;
    let text = "SELECT\n  id\n, \"Name\"\n, CAST(id + 0.5 AS integer) up\n, concat(name, NULL) nothing\n, trim('\t x\n') t\n, substr(name, 1) s\nFROM\n  hive.DEFAULT.base\nWHERE (\"P\" = 'x')\n";
    let columns = [
        ("id", "bigint"),
        ("name", "varchar"),
        ("up", "integer"),
        ("nothing", "varchar"),
        ("t", "varchar(3)"),
        ("s", "varchar"),
    ];
    fixture.put(&presto("v", text, &columns, "hive")).await;
    assert_eq!(fixture.run("SELECT * FROM v").await.unwrap(), "1|a|2||x|a");
    assert_eq!(fixture.run("SELECT count(*) FROM v WHERE id = 1").await.unwrap(), "1");
    let described = fixture.run("DESCRIBE v").await.unwrap();
    assert!(
        described.starts_with("id|bigint|YES||\nname|string|") && described.contains("t|varchar(3)"),
        "{described}"
    );
    assert!(fixture.run("SHOW CREATE VIEW v").await.unwrap().contains("concat(name, NULL)"));
    // As Presto writes a query, and a type that has no word here.
    let text = "SELECT\n  \"count\"(*) c\n, CAST(DECIMAL '1.5' AS decimal(3,1)) d\n, (DECIMAL '1.5' * 1.5E0) f\nFROM\n  base\n";
    fixture.put(&presto("w", text, &[("c", "bigint"), ("d", "decimal(3,1)"), ("f", "double")], "hive")).await;
    assert_eq!(fixture.run("SELECT * FROM w").await.unwrap(), "2|1.5|2.25");
    fixture.put(&presto("odd", "SELECT 1 r", &[("r", "row(integer,varchar(1))")], "hive")).await;
    assert_eq!(fixture.run("DESCRIBE odd").await.unwrap(), "r|row(integer,varchar(1))|YES||");
    let error = fixture.refused("SELECT * FROM odd").await;
    assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("column 'r'"), "{error}");
    let nested = [("n", "array(row(a integer, b map(varchar, bigint)))")];
    fixture.put(&presto("deep", "SELECT NULL n", &nested, "hive")).await;
    assert_eq!(fixture.run("DESCRIBE deep").await.unwrap(), "n|array<struct<a:int,b:map<string,bigint>>>|YES||");
}

#[tokio::test]
async fn what_cannot_be_read_is_said_with_its_words_and_owner() {
    let fixture = Fixture::new().await;
    let n = [("n", "bigint")];
    for (name, table, words) in [
        ("a", presto("a", "SELECT date_diff('day', NULL, NULL) n", &n, "hive"), "date_diff"),
        ("b", presto("b", "SELECT greatest(1, NULL) n", &n, "hive"), "greatest"),
        ("c", presto("c", "SELECT n FROM mysql.web.t", &n, "hive"), "catalog 'mysql'"),
        ("d", presto("d", "SELECT n FROM t", &n, "mysql"), "catalog 'mysql'"),
        ("e", presto("e", "SELECT substr('abc', -2) n", &n, "hive"), "substr"),
        ("f", spark("f", "SELECT id FROM base WHERE WHERE id", &n, &["id"]), "line 1, column"),
        ("g", spark("g", "SELECT no_such_function(id) AS n FROM base", &n, &["n"]), "no_such_function"),
        ("h", spark("h", "SELECT 1.00 / 3.0 AS n", &n, &["n"]), "division of decimals"),
        ("i", spark("i", "SELECT n FROM iceberg.web.t", &n, &["n"]), "catalog 'iceberg'"),
        ("j", spark("j", "SELECT array(1) AS n", &n, &["n"]), "column 'n' is bigint"),
    ] {
        fixture.put(&table).await;
        let error = fixture.refused(&format!("SELECT * FROM {name}")).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let owner = if "abcde".contains(name) { "Presto" } else { "Spark" };
        let begin = format!("view default.{name} of {owner}: ");
        assert!(error.message().starts_with(&begin) && error.message().contains(words), "{error}");
        // It is there all the same.
        assert_eq!(fixture.run(&format!("DESCRIBE {name}")).await.unwrap(), "n|bigint|YES||");
    }
    assert!(fixture.run("SHOW TABLES").await.unwrap().contains("f|VIEW"));

    fixture.put(&spark("gone", "SELECT id FROM no_such_table", &n, &["id"])).await;
    let error = fixture.refused("SELECT * FROM gone").await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    for (name, original) in [("x", "/* Presto View: !! */"), ("y", "/* Presto Materialized View: abc */"), ("z", "")] {
        fixture.put(&view(name, original, "", &[], &[])).await;
        let error = fixture.refused(&format!("SELECT * FROM {name}")).await;
        assert!(error.message().starts_with(&format!("view default.{name}")), "{error}");
    }
}

#[tokio::test]
async fn a_query_that_changes_something_is_no_view() {
    let fixture = Fixture::new().await;
    for (name, text) in [("a", "DROP TABLE base"), ("b", "INSERT INTO base VALUES (1, 'a', 'x')"), ("c", "SELECT ?")] {
        fixture.put(&spark(name, text, &[], &[])).await;
        fixture.refused(&format!("SELECT * FROM {name}")).await;
    }
}

#[tokio::test]
async fn a_view_that_is_defined_by_itself_is_refused() {
    let fixture = Fixture::new().await;
    fixture.put(&spark("one", "SELECT id FROM two", &[("id", "bigint")], &["id"])).await;
    fixture.put(&presto("two", "SELECT id FROM one", &[("id", "bigint")], "hive")).await;
    let error = fixture.refused("SELECT * FROM one").await;
    let circle = "view default.one → view default.two → view default.one";
    assert!(error.message().contains("defined by itself") && error.message().contains(circle), "{error}");
    fixture.run("CREATE VIEW three AS SELECT id FROM base").await.unwrap();
    fixture.run("CREATE VIEW four AS SELECT id FROM three").await.unwrap();
    let error = fixture.refused("CREATE OR REPLACE VIEW three AS SELECT id FROM four").await;
    assert!(error.message().contains("defined by itself"), "{error}");
    assert_eq!(fixture.run("SELECT count(*) FROM four").await.unwrap(), "2");
}

#[tokio::test]
async fn own_views_are_kept_for_the_readers_of_other_systems() {
    let fixture = Fixture::new().await;
    let sql =
        r#"SELECT id, "p" || 'it''s \' AS "The P", count(*), CAST(id AS VARCHAR)::text FROM base b GROUP BY id, p"#;
    fixture.run(&format!("CREATE VIEW v AS {sql}")).await.unwrap();
    let table = fixture.session.engine.catalog.table("default", "v").await.unwrap().table;
    let for_spark = table.view_expanded_text.clone().unwrap();
    assert_eq!(
        for_spark,
        r"SELECT id, `p` || 'it\'s \\' AS `The P`, count(*) AS `count(*)`, CAST(CAST(id AS STRING) AS STRING) AS `base.id` FROM `default`.`base` b GROUP BY id, p"
            .replace("`base.id`", &format!("`{}`", table.storage.columns[3].name))
    );
    assert_eq!(table.parameters.get("presto_view").map(String::as_str), Some("true"));
    let json = table.view_original_text.as_deref().unwrap();
    let json = json.strip_prefix("/* Presto View: ").unwrap().strip_suffix(" */").unwrap();
    let json: serde_json::Value = serde_json::from_slice(&STANDARD.decode(json).unwrap()).unwrap();
    let text = json["originalSql"].as_str().unwrap();
    assert!(
        text.contains(r#""p" || 'it''s \' AS "The P""#) && text.contains(r#"FROM "hive"."default"."base" b"#),
        "{text}"
    );
    assert!(text.contains("CAST(CAST(id AS VARCHAR) AS VARCHAR)"), "{text}");
    assert_eq!(json["columns"][2], serde_json::json!({"name": "count(*)", "type": "bigint"}));
    assert_eq!(json["catalog"], "hive");
    // Here it is what was written.
    assert_eq!(query_text(&table).as_deref(), Some(sql));
    assert_eq!(fixture.run("SELECT * FROM v ORDER BY id").await.unwrap(), "1|xit's \\|1|1\n2|yit's \\|1|2");

    // What is named otherwise than the query names it is named around it.
    fixture.run("CREATE VIEW w (a, b) AS SELECT id AS i, name FROM base ORDER BY i").await.unwrap();
    let table = fixture.session.engine.catalog.table("default", "w").await.unwrap().table;
    let text = table.view_expanded_text.unwrap();
    assert_eq!(
        text,
        "SELECT * FROM (SELECT id AS i, name AS `b` FROM `default`.`base` ORDER BY i) AS `view` (`a`, `b`)"
    );
    assert_eq!(fixture.run("SELECT a, b FROM w ORDER BY a").await.unwrap(), "1|a\n2|b");
    // Spark leaves what it does not know when it gives a view another query.
    let altered = Table {
        view_original_text: Some("SELECT \"q\" AS q".into()),
        view_expanded_text: Some("SELECT \"q\" AS q".into()),
        storage: Storage {
            columns: vec![Column { name: "q".into(), type_name: "string".into(), comment: None }],
            ..Storage::default()
        },
        parameters: table.parameters.into_iter().chain(spark("w", "", &[], &["q"]).parameters).collect(),
        ..view("altered", "", "", &[], &[])
    };
    fixture.put(&altered).await;
    assert_eq!(fixture.run("SELECT q FROM altered").await.unwrap(), "q");
}

#[tokio::test]
async fn a_session_of_sparks_functions_reads_the_views_of_others() {
    let fixture = Fixture::new().await;
    fixture.run("CREATE VIEW own AS SELECT 7 / 2 AS n, substr('abc', 2) AS s").await.unwrap();
    fixture
        .put(&presto("prestos", "SELECT 7 / 2 n, substr('abc', 2) s", &[("n", "integer"), ("s", "varchar")], "hive"))
        .await;
    fixture
        .put(&spark(
            "sparks",
            "SELECT 7 / 2 AS n, substr('abc', -2) AS s",
            &[("n", "double"), ("s", "string")],
            &["n", "s"],
        ))
        .await;
    for _ in 0..2 {
        assert_eq!(fixture.run("SELECT * FROM own").await.unwrap(), "3|bc");
        assert_eq!(fixture.run("SELECT * FROM prestos").await.unwrap(), "3|bc");
        assert_eq!(fixture.run("SELECT * FROM sparks").await.unwrap(), "3.5|bc");
        fixture.session.set_dialect("spark").unwrap();
    }
}
