"""Spark with the metastore as its catalog: tables of its own and of Hive, partitions, views, functions."""

import os
import sys

from pyspark.sql import SparkSession

uri, warehouse = sys.argv[1], sys.argv[2]
spark = (
    SparkSession.builder.master("local[1]")
    .enableHiveSupport()
    .config("spark.hadoop.hive.metastore.uris", uri)
    .config("spark.sql.warehouse.dir", warehouse)
    .config("spark.ui.enabled", "false")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.hadoop.hive.exec.dynamic.partition.mode", "nonstrict")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("OFF")
wrong = []


def q(text, expected=None):
    try:
        rows = [tuple(row) for row in spark.sql(text).collect()]
    except Exception as error:
        wrong.append(f"{text}: {str(error)[:500]}")
        return
    if expected is not None and rows != expected:
        wrong.append(f"{text}: {rows}, expected {expected}")


def fails(text, part):
    try:
        spark.sql(text).collect()
        wrong.append(f"{text} did not fail")
    except Exception as error:
        if part not in str(error):
            wrong.append(f"{text} failed otherwise: {str(error)[:500]}")


def check(is_so, text):
    if not is_so:
        wrong.append(text)


q("SHOW DATABASES", [("default",)])
q("CREATE DATABASE web COMMENT 'c' WITH DBPROPERTIES (a='b')")
fails("CREATE DATABASE web", "already exists")
q("CREATE DATABASE IF NOT EXISTS web")
q("DESCRIBE DATABASE EXTENDED web")
for fmt, name in (("USING parquet", "ds"), ("STORED AS PARQUET", "hv")):
    t = "web." + name
    part = "PARTITIONED BY (ds, k)" if fmt.startswith("USING") else "PARTITIONED BY (ds STRING, k INT)"
    cols = "id BIGINT, name STRING" + (", ds STRING, k INT" if fmt.startswith("USING") else "")
    q(f"CREATE TABLE {t} ({cols}) {fmt} {part}")
    fails(f"CREATE TABLE {t} ({cols}) {fmt} {part}", "already exists")
    q(f"INSERT INTO {t} VALUES (1,'a','d1',1),(2,'b','d1',2),(3,'c','d2',1),(4,'d',NULL,3),(5,'e','x/y=z',10)")
    q(f"INSERT INTO {t} PARTITION (ds='d3', k=7) VALUES (6,'f')")
    q(f"SELECT id FROM {t} WHERE ds='d1' ORDER BY id", [(1,),(2,)])
    q(f"SELECT id FROM {t} WHERE k > 2 ORDER BY id", [(4,),(5,),(6,)])
    q(f"SELECT id FROM {t} WHERE ds IN ('d1','d2') AND k = 1 ORDER BY id", [(1,),(3,)])
    q(f"SELECT id FROM {t} WHERE ds LIKE 'd%' AND NOT k = 1 ORDER BY id", [(2,),(6,)])
    q(f"SELECT id FROM {t} WHERE ds IS NULL", [(4,)])
    q(f"SELECT id FROM {t} WHERE ds = 'x/y=z'", [(5,)])
    q(f"SELECT id FROM {t} WHERE ds <> 'd1' AND k BETWEEN 1 AND 7 ORDER BY id", [(3,),(6,)])
    q(f"SELECT id FROM {t} WHERE (ds = 'd1' OR k = 10) AND id > 1 ORDER BY id", [(2,),(5,)])
    q(f"SHOW PARTITIONS {t}")
    q(f"SHOW PARTITIONS {t} PARTITION (ds='d1')", [("ds=d1/k=1",),("ds=d1/k=2",)])
    q(f"ALTER TABLE {t} ADD PARTITION (ds='new', k=1)")
    fails(f"ALTER TABLE {t} ADD PARTITION (ds='new', k=1)", "already exist")
    q(f"ALTER TABLE {t} ADD IF NOT EXISTS PARTITION (ds='new', k=1) PARTITION (ds='new', k=2)")
    q(f"ALTER TABLE {t} DROP PARTITION (ds='new', k=2)")
    fails(f"ALTER TABLE {t} DROP PARTITION (ds='new', k=2)", "PARTITION")
    # Its files would stay, and Spark would write rows of the old values to them.
    fails(f"ALTER TABLE {t} PARTITION (ds='d3', k=7) RENAME TO PARTITION (ds='d4', k=8)", "files would stay")
    q(f"SELECT id FROM {t} WHERE ds='d3'", [(6,)])
    q(f"INSERT INTO {t} PARTITION (ds='d4', k=8) VALUES (7,'g')")
    q(f"SELECT id FROM {t} WHERE ds='d4'", [(7,)])
    q(f"ALTER TABLE {t} DROP PARTITION (ds='d4', k=8)")
    q(f"INSERT OVERWRITE {t} PARTITION (ds='d2', k=1) VALUES (33,'cc')")
    q(f"SELECT id FROM {t} WHERE ds='d2'", [(33,)])
    q(f"ALTER TABLE {t} ADD COLUMNS (extra INT)")
    q(f"SELECT id, extra FROM {t} WHERE ds='d2'", [(33,None)])
    q(f"ALTER TABLE {t} SET TBLPROPERTIES ('x'='y')")
    q(f"ANALYZE TABLE {t} COMPUTE STATISTICS")
    q(f"ANALYZE TABLE {t} COMPUTE STATISTICS FOR COLUMNS id, name")
    q(f"DESCRIBE EXTENDED {t}")
    q(f"ALTER TABLE {t} RENAME TO web.{name}2")
    q(f"SELECT count(*) FROM {t}2", [(6,)])
    q(f"SELECT id FROM {t}2 WHERE ds='d1' ORDER BY id", [(1,),(2,)])
    # The files stay where they are, and Spark looks there before it makes a table anew.
    fails(f"CREATE TABLE {t} ({cols}) {fmt} {part}", "LOCATION_ALREADY_EXISTS")
    q(f"MSCK REPAIR TABLE {t}2")
    q(f"TRUNCATE TABLE {t}2 PARTITION (ds='d2', k=1)")
    q(f"SELECT count(*) FROM {t}2", [(5,)])
q("CREATE TABLE web.plain (a INT, d DATE) USING parquet")
q("INSERT INTO web.plain VALUES (1, DATE'2024-01-01')")
q("CREATE TABLE web.bydate USING parquet PARTITIONED BY (d) AS SELECT 1 a, DATE'2024-01-01' d UNION ALL SELECT 2, DATE'2024-02-01'")
q("SELECT a FROM web.bydate WHERE d > DATE'2024-01-15'", [(2,)])
q("SELECT a FROM web.bydate WHERE d = '2024-01-01'", [(1,)])
q("CREATE TABLE web.buck (a INT, b STRING) USING parquet CLUSTERED BY (a) SORTED BY (b) INTO 4 BUCKETS")
q("SHOW CREATE TABLE web.buck")
q("CREATE VIEW web.v AS SELECT a FROM web.plain")
q("SELECT * FROM web.v", [(1,)])
q("SHOW VIEWS IN web", [("web", "v", False)])
q("SHOW TABLES IN web LIKE 'p*|bu*'", [("web", "buck", False), ("web", "plain", False)])
q("SHOW TABLE EXTENDED IN web LIKE 'plain'")
q("DROP VIEW web.v")
q("CREATE FUNCTION web.f AS 'org.apache.hadoop.hive.ql.udf.generic.GenericUDFUpper'")
q("SHOW USER FUNCTIONS IN web", [("spark_catalog.web.f",)])
q("SELECT web.f('a')", [("A",)])
q("DROP FUNCTION web.f")
q(f"CREATE TABLE web.ext (a INT) USING parquet LOCATION '{warehouse}/ext'")
q("INSERT INTO web.ext VALUES (9)")
q("DROP TABLE web.ext")
check(os.path.exists(warehouse.removeprefix("file:") + "/ext"), "the files of an external table are gone")
fails("DROP DATABASE web", "SCHEMA_NOT_EMPTY")
fails("SELECT * FROM web.nope", "cannot be found")
q("DROP DATABASE web CASCADE")
check(not os.path.exists(warehouse.removeprefix("file:") + "/web.db"), "the folder of a dropped database is there")
q("SHOW DATABASES", [("default",)])
spark.stop()
sys.exit("\n".join(wrong) or 0)
