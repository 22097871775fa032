"""TPC-H and TPC-DS by DuckDB's own extensions: data as Parquet, and the texts of the queries.

    tpc.py make tpch|tpcds SCALE FOLDER     makes FOLDER/TABLE/TABLE.parquet for every table, once
    tpc.py queries tpch|tpcds               prints [[NUMBER, TEXT]] as JSON

DuckDB and its extensions come from PyPI as wheels (duckdb, duckdb-extension-tpch, duckdb-extension-tpcds), so nothing
is downloaded at run time.
"""

import glob
import importlib
import json
import os
import shutil
import sys

import duckdb

GENERATORS = {"tpch": "dbgen", "tpcds": "dsdgen"}
# Rows of a Parquet row group: enough of them for two cores at scale 1, few enough to be long.
ROW_GROUP_ROWS = 250_000


def connect(path=":memory:"):
    """A connection with both extensions."""
    connection = duckdb.connect(path)
    for name in GENERATORS:
        # By the file in its wheel: INSTALL would write into the home folder, for all processes at once.
        (package,) = importlib.import_module(f"duckdb_extension_{name}").__path__
        (extension,) = glob.glob(os.path.join(package, "extensions", f"v{duckdb.__version__}", "*.duckdb_extension"))
        connection.execute(f"LOAD '{extension}'")
    return connection


def queries(benchmark):
    """(number, text) of every query, in order; the texts are DuckDB's, in standard SQL."""
    return connect().execute(f"SELECT query_nr, query FROM {benchmark}_queries() ORDER BY 1").fetchall()


def make(benchmark, scale, folder):
    """Makes `folder`/TABLE/TABLE.parquet for every table, once: a folder that is there is whole."""
    if os.path.isdir(folder):
        return
    making = f"{folder}.making-{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    os.makedirs(making)
    try:
        connection = connect(os.path.join(making, "tables.duckdb"))
        connection.execute(f"CALL {GENERATORS[benchmark]}(sf={scale})")
        for (table,) in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall():
            os.mkdir(os.path.join(making, table))
            target = os.path.join(making, table, f"{table}.parquet")
            connection.execute(
                f"COPY {table} TO '{target}' (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {ROW_GROUP_ROWS})"
            )
        connection.close()
        os.remove(os.path.join(making, "tables.duckdb"))
        # One step, so that a folder is there whole or not at all, also when two processes make it at once.
        try:
            os.rename(making, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def tables(folder):
    """{NAME: GLOB} of a folder that `make` made, or that looks like it."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return {name: os.path.join(folder, name, "*.parquet") for name in names}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", benchmark, scale, folder]:
            make(benchmark, scale, folder)
        case ["queries", benchmark]:
            json.dump(queries(benchmark), sys.stdout)
        case _:
            sys.exit(__doc__)
