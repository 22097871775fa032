"""A table with very many partitions: how long each engine takes to plan and to run what asks for one of them."""

import subprocess
import time

from words import create, insert

# No client waits longer for its metastore unless it is told to: Presto's `hive.metastore-timeout`.
LIMIT_S = 10
ROUNDS = 5


def ask_for_one(judge, count, python, metastore):
    judge.begin(f"{count} partitions")
    table, columns, keys = "default.many", [("id", "bigint")], [("p", "string")]
    maker = judge.names("Presto", "Spark", "Tereza")[0]
    judge.do(maker, create(maker, table, columns, keys, {"Presto": "PARQUET"}.get(maker, "STORED AS PARQUET")))
    rows = [["1", "x"], ["2", "x"], ["3", "y"]]
    judge.do(maker, insert(maker, table, columns + keys, rows))
    command = [python, "add_partitions.py", metastore, "default", "many", str(count)]
    print(subprocess.run(command, cwd=__file__.rpartition("/")[0], stdout=subprocess.PIPE, check=True, text=True).stdout.strip(), flush=True)
    query = f"SELECT id FROM {table} WHERE p = 'x'"
    judge.same(maker, table, query, [["1"], ["2"]])
    judge.same(maker, table, f"SELECT count(*) FROM {table} WHERE p > 'w'", [["3"]])
    if "Presto" in judge.engines:
        judge.do("Presto", f"ANALYZE {table} WITH (partitions = ARRAY[ARRAY['x'], ARRAY['y']])")
        judge.found("Presto", table, "Presto", statistics(judge, table), ["2", "1", "2"])
    analyze = f"ANALYZE TABLE {table} PARTITION (p = 'x') COMPUTE STATISTICS"
    for name in judge.names():
        for text in (f"EXPLAIN {query}", query) + ((analyze,) if name != "Presto" else ()):
            time_it(judge, name, table, text)


def time_it(judge, name, table, text):
    took = []
    for _ in range(ROUNDS):
        if name == "Spark":
            judge.rows(name, f"REFRESH TABLE {table}")
        before, began = judge.engines["Tereza"].calls(), time.monotonic()
        done = judge.do(name, text)
        took.append(time.monotonic() - began)
        if not done or took[-1] > LIMIT_S:
            break
    after = judge.engines["Tereza"].calls()
    calls = {method: count - before.get(method, 0) for method, count in after.items() if count != before.get(method, 0)}
    seconds = " ".join(f"{one:.2f}" for one in took)
    print(f"{name:8} {text.split()[0]:8} {seconds} s; the last called {calls}; Tereza has {judge.engines['Tereza'].rss()}", flush=True)
    if min(took) > LIMIT_S:
        judge.complain(f"{name}: {text} took {took} s")


def statistics(judge, table):
    rows = {row[0]: row for row in judge.rows("Presto", f"SHOW STATS FOR (SELECT * FROM {table} WHERE p = 'x')")}
    return [rows[None][4], rows["id"][5], rows["id"][6]]
