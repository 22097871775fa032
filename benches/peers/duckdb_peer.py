"""DuckDB as a peer, and as the judge of everybody's answers."""

import duckdb

from common import serve


def open_engine(options):
    connection = duckdb.connect()
    connection.execute(f"SET threads = {options['cores']}")
    if options["memory_limit_bytes"]:
        connection.execute(f"SET memory_limit = '{options['memory_limit_bytes']}B'")
    for name, files in options["tables"].items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{files}')")
    return duckdb.__version__, lambda sql: connection.execute(sql).to_arrow_table()


if __name__ == "__main__":
    serve(open_engine)
