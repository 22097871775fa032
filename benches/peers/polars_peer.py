"""Polars by its SQL, on lazily scanned files. What its SQL does not know is reported as its error."""

import os


def open_engine(options):
    # Read when Polars is imported.
    os.environ["POLARS_MAX_THREADS"] = str(options["cores"])
    import polars

    context = polars.SQLContext()
    for name, files in options["tables"].items():
        context.register(name, polars.scan_parquet(files))
    return polars.__version__, lambda sql: context.execute(sql.strip().rstrip(";"), eager=True).to_arrow()


if __name__ == "__main__":
    from common import serve

    serve(open_engine)
