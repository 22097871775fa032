"""Spark and Tereza on one catalog: each reads what the other wrote, at once."""

import csv
import subprocess
import sys

from pyspark.sql import SparkSession

metastore, warehouse, tereza, flight_sql, *options = sys.argv[1:]
settings = {
    "spark.hadoop.hive.metastore.uris": metastore,
    "spark.sql.warehouse.dir": warehouse,
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.session.timeZone": "UTC",
    "spark.hadoop.hive.exec.dynamic.partition.mode": "nonstrict",
} | dict(option.split("=", 1) for option in options)
builder = SparkSession.builder.master("local[2]").enableHiveSupport()
for key, value in settings.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("OFF")
wrong = []


def in_spark(text):
    return [[None if value is None else str(value) for value in row] for row in spark.sql(text).collect()]


def in_tereza(text):
    command = [tereza, "sql", "--url", flight_sql, "--format", "csv", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return list(csv.reader(done.stdout.splitlines()))[1:]


def check(engine, text, expected=None):
    """Runs a statement; NULL is written as an empty text."""
    try:
        rows = [[value or "" for value in row] for row in engine(text)]
    except Exception as error:
        wrong.append(f"{engine.__name__}: {text}: {str(error)[:600]}")
        return
    if expected is not None and rows != [[str(value) for value in row] for row in expected]:
        wrong.append(f"{engine.__name__}: {text}: {rows}, expected {expected}")


both = (in_spark, in_tereza)
check(in_spark, "CREATE DATABASE web")

# What Spark makes, in each of its formats and of Hive's.
formats = ["USING parquet", "USING orc", "USING json", "USING csv"]
formats += [f"STORED AS {name}" for name in ("PARQUET", "ORC", "AVRO", "TEXTFILE")]
columns = "id BIGINT, name STRING, price DECIMAL(10,2), day DATE, ok BOOLEAN"
rows = [[1, "a", "1.50", "2024-01-31", "true"], [2, "ü,\"x", "-0.25", "1969-12-31", "false"], [3, "", "", "", ""]]
values = """(1, 'a', 1.50, DATE'2024-01-31', true), (2, 'ü,"x', -0.25, DATE'1969-12-31', false), (3, NULL, NULL, NULL, NULL)"""
texts = "CAST(id AS STRING), name, CAST(price AS STRING), CAST(day AS STRING), CAST(ok AS STRING)"
for index, storage in enumerate(formats):
    table = f"web.f{index}"
    check(in_spark, f"CREATE TABLE {table} ({columns}) {storage}")
    check(in_spark, f"INSERT INTO {table} VALUES {values}")
    for engine in both:
        check(engine, f"SELECT {texts} FROM {table} ORDER BY id", rows)
    check(in_tereza, f"SELECT count(*) FROM {table} WHERE price > 0 AND ok", [[1]])
    check(in_tereza, f"SELECT count(*) FROM {table} WHERE name IS NULL", [[1]])

# Partitions, made by both.
for index, head in enumerate(["(id BIGINT, ds STRING, k INT) USING parquet PARTITIONED BY (ds, k)",
                              "(id BIGINT) PARTITIONED BY (ds STRING, k INT) STORED AS PARQUET"]):
    table = f"web.p{index}"
    check(in_spark, f"CREATE TABLE {table} {head}")
    check(in_spark, f"INSERT INTO {table} VALUES (1, 'd1', 1), (2, 'd1', 2), (3, NULL, 3), (4, 'x/y=z', 10)")
    check(in_tereza, f"INSERT INTO {table} VALUES (5, 'd2', 1), (6, 'x/y=z', 10), (7, NULL, 3)")
    for engine in both:
        check(engine, f"SELECT id FROM {table} ORDER BY id", [[id] for id in range(1, 8)])
        check(engine, f"SELECT id FROM {table} WHERE ds = 'x/y=z' ORDER BY id", [[4], [6]])
        check(engine, f"SELECT id FROM {table} WHERE ds IS NULL ORDER BY id", [[3], [7]])
        check(engine, f"SELECT id FROM {table} WHERE ds = 'd1' AND k > 1", [[2]])
    check(in_spark, f"INSERT OVERWRITE TABLE {table} PARTITION (ds = 'd1', k = 1) VALUES (11)")
    check(in_tereza, f"INSERT OVERWRITE TABLE {table} PARTITION (ds = 'd2', k = 1) VALUES (12)")
    check(in_spark, f"ALTER TABLE {table} DROP PARTITION (ds = 'd1', k = 2)")
    check(in_tereza, f"ALTER TABLE {table} ADD PARTITION (ds = 'd9', k = 9)")
    check(in_spark, f"INSERT INTO {table} PARTITION (ds = 'd9', k = 9) VALUES (13)")
    for engine in both:
        check(engine, f"SELECT id FROM {table} ORDER BY id", [[3], [4], [6], [7], [11], [12], [13]])
    check(in_spark, f"ALTER TABLE {table} RENAME TO web.renamed{index}")
    for engine in both:
        check(engine, f"SELECT count(*) FROM web.renamed{index}", [[7]])
    check(in_tereza, f"INSERT INTO web.renamed{index} VALUES (14, 'd9', 9)")
    # Spark keeps the files that it has listed.
    check(in_spark, f"REFRESH TABLE web.renamed{index}")
    check(in_spark, f"SELECT id FROM web.renamed{index} WHERE ds = 'd9' ORDER BY id", [[13], [14]])

# Columns that come later, and nested ones.
check(in_spark, "CREATE TABLE web.grown (id INT) USING parquet")
check(in_spark, "INSERT INTO web.grown VALUES (1)")
check(in_spark, "ALTER TABLE web.grown ADD COLUMNS (extra STRING)")
check(in_tereza, "INSERT INTO web.grown VALUES (2, 'x')")
for engine in both:
    check(engine, "SELECT id, extra FROM web.grown ORDER BY id", [[1, ""], [2, "x"]])
check(in_spark, "CREATE TABLE web.capitals (Id INT) USING json")
check(in_spark, "INSERT INTO web.capitals VALUES (5)")
check(in_tereza, "INSERT INTO web.capitals VALUES (6)")
check(in_spark, "REFRESH TABLE web.capitals")
for engine in both:
    check(engine, "SELECT id FROM web.capitals ORDER BY id", [[5], [6]])
check(in_spark, "CREATE TABLE web.nested (a ARRAY<INT>, m MAP<STRING, INT>, s STRUCT<x: INT, y: STRING>, t TIMESTAMP) USING parquet")
check(in_spark, "INSERT INTO web.nested VALUES (array(1, 2), map('k', 3), named_struct('x', 4, 'y', 'z'), TIMESTAMP'2024-02-29 12:34:56.789')")
check(in_tereza, "SELECT a[2], m['k'], s['y'], date_part('second', t) FROM web.nested", [[2, 3, "z", "56"]])

# What Tereza makes.
check(in_tereza, "CREATE SCHEMA shop")
check(in_tereza, f"CREATE TABLE shop.made ({columns}) STORED AS PARQUET")
check(in_tereza, f"INSERT INTO shop.made VALUES {values}")
check(in_spark, f"INSERT INTO shop.made VALUES (4, 'spark', 9.99, DATE'2024-03-01', true)")
for engine in both:
    check(engine, f"SELECT {texts} FROM shop.made ORDER BY id", rows + [[4, "spark", "9.99", "2024-03-01", "true"]])
check(in_tereza, "CREATE TABLE shop.copied PARTITIONED BY (ok) AS SELECT id, name, ok FROM shop.made WHERE ok IS NOT NULL")
check(in_spark, "SELECT id FROM shop.copied WHERE ok ORDER BY id", [[1], [4]])
check(in_spark, "SHOW TABLES IN shop", [["shop", "copied", "False"], ["shop", "made", "False"]])
check(in_spark, "CREATE VIEW shop.seen AS SELECT id FROM shop.made WHERE ok")
check(in_spark, "ANALYZE TABLE shop.made COMPUTE STATISTICS FOR COLUMNS id")
check(in_tereza, "ANALYZE TABLE shop.made")
check(in_spark, "DROP TABLE shop.copied")
check(in_tereza, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' AND table_name = 'copied'", [])
check(in_tereza, "DROP TABLE shop.made")
check(in_spark, "DROP DATABASE shop CASCADE")
check(in_spark, "DROP DATABASE web CASCADE")
for engine in both:
    check(engine, "SHOW TABLES IN default", [])
spark.stop()
sys.exit("\n".join(wrong) or 0)
