"""A table with very many partitions: how long each engine takes to plan and to run what asks for one of them."""

import subprocess
import time

from words import create, insert

# No client waits longer for its metastore unless it is told to: Presto's `hive.metastore-timeout`.
PLAN_LIMIT_S = 10
ROUNDS = 5


def ask_for_one(judge, count, python, metastore):
    judge.begin(f"{count} partitions")
    table, columns, keys = "default.many", [("id", "bigint")], [("p", "string")]
    maker = judge.names("Presto", "Spark", "Tereza")[0]
    judge.do(maker, create(maker, table, columns, keys, {"Presto": "PARQUET"}.get(maker, "STORED AS PARQUET")))
    rows = [["1", "x"], ["2", "x"], ["3", "y"]]
    judge.do(maker, insert(maker, table, columns + keys, rows))
    command = [python, "add_partitions.py", metastore, "default", "many", str(count)]
    print(subprocess.run(command, cwd=__file__.rpartition("/")[0], check=True, capture_output=True, text=True).stdout.strip())
    query = f"SELECT id FROM {table} WHERE p = 'x'"
    judge.same(maker, table, query, [["1"], ["2"]])
    judge.same(maker, table, f"SELECT count(*) FROM {table} WHERE p > 'w'", [["3"]])
    if "Presto" in judge.engines:
        judge.do("Presto", f"ANALYZE {table} WITH (partitions = ARRAY[ARRAY['x'], ARRAY['y']])")
        judge.found("Presto", table, "Presto", statistics(judge, table), ["2", "1", "2"])
    if "Spark" in judge.engines:
        judge.do("Spark", f"ANALYZE TABLE {table} PARTITION (p = 'x') COMPUTE STATISTICS")
    if "Tereza" in judge.engines:
        judge.do("Tereza", f"ANALYZE TABLE {table} PARTITION (p = 'x') COMPUTE STATISTICS")
    for name in judge.names():
        for text in (f"EXPLAIN {query}", query):
            took = []
            for _ in range(ROUNDS):
                if name == "Spark":
                    judge.rows(name, f"REFRESH TABLE {table}")
                before, began = judge.engines["Tereza"].calls(), time.monotonic()
                judge.do(name, text)
                took.append(time.monotonic() - began)
            after = judge.engines["Tereza"].calls()
            calls = {method: after[method] - before.get(method, 0) for method in after if after[method] != before.get(method, 0)}
            print(f"{name:8} {text.split()[0]:8} {' '.join(f'{seconds:.2f}' for seconds in took)} s; the last called {calls}")
            if min(took) > PLAN_LIMIT_S:
                judge.complain(f"{name}: {text} took {took} s")


def statistics(judge, table):
    rows = {row[0]: row for row in judge.rows("Presto", f"SHOW STATS FOR (SELECT * FROM {table} WHERE p = 'x')")}
    return [rows[None][4], rows["id"][5], rows["id"][6]]
