"""The judge of answers: DuckDB with its tpch and tpcds extensions, all from PyPI.

    judge.py make BENCHMARK SCALE FOLDER     makes FOLDER/TABLE/TABLE.parquet for every table, once
    judge.py answers BENCHMARK FOLDER        prints [{"number", "query", "kinds", "rows"}] on those files
    judge.py columns BENCHMARK               prints {TABLE: [COLUMN]}
    judge.py compare SCALE FOLDER            compares FOLDER/TABLE.csv with dbgen's tables row by row, in the columns
                                             that each file has; prints {TABLE: [ROWS TOO FEW, ROWS TOO MANY]}

A benchmark is tpch or tpcds. Kinds and texts of values are those of benches/peers/common.py.
"""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../benches/peers"))

import common
import tpc

KINDS = {
    "BIGINT": "int", "INTEGER": "int", "HUGEINT": "int", "SMALLINT": "int", "TINYINT": "int", "UBIGINT": "int",
    "DECIMAL": "decimal", "DOUBLE": "float", "FLOAT": "float", "BOOLEAN": "bool", "NULL": "bool",
    "DATE": "date", "TIMESTAMP": "timestamp", "VARCHAR": "text",
}


def answers(benchmark, folder):
    connection = tpc.connect()
    for name, files in tpc.tables(folder).items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{files}')")
    found = []
    for number, query in tpc.queries(benchmark):
        result = connection.execute(query)
        kinds = [KINDS[str(column[1]).split("(")[0].upper()] for column in result.description]
        rows = [[common.cell(value) for value in row] for row in result.fetchall()]
        found.append({"number": number, "query": query, "kinds": kinds, "rows": rows})
    return found


def columns(benchmark):
    connection = tpc.connect()
    connection.execute(f"CALL {tpc.GENERATORS[benchmark]}(sf=0)")
    return table_columns(connection)


def table_columns(connection):
    found = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index"
    ).fetchall():
        found.setdefault(table, []).append(column)
    return found


def compare(scale, folder):
    connection = tpc.connect()
    connection.execute(f"CALL dbgen(sf={scale})")
    found = {}
    for table in table_columns(connection):
        path = os.path.join(folder, f"{table}.csv")
        with open(path) as file:
            names = file.readline().strip().split(",")
        selected = ", ".join(names)
        described = connection.execute(f"SELECT {selected} FROM {table} LIMIT 0").description
        types = {name: str(kind) for name, kind, *_ in described}
        given = f"(SELECT {selected} FROM read_csv('{path}', header = true, delim = ',', quote = '\"', columns = {types}))"
        wanted = f"(SELECT {selected} FROM {table})"
        found[table] = [
            connection.execute(f"SELECT count(*) FROM ({left} EXCEPT ALL {right})").fetchone()[0]
            for left, right in ((wanted, given), (given, wanted))
        ]
    return found


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", benchmark, scale, folder]:
            tpc.make(benchmark, scale, folder)
        case ["answers", benchmark, folder]:
            json.dump(answers(benchmark, folder), sys.stdout)
        case ["columns", benchmark]:
            json.dump(columns(benchmark), sys.stdout)
        case ["compare", scale, folder]:
            json.dump(compare(scale, folder), sys.stdout)
        case _:
            sys.exit(__doc__)
