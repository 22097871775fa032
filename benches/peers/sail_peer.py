"""Sail: a Spark Connect server in this process, asked by Spark's own client."""

import os

from common import backticks, serve


def open_engine(options):
    # One worker's threads, as for the others.
    os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"] = str(options["cores"])
    import pysail
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    _, port = server.listening_address
    session = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
    for name, files in options["tables"].items():
        session.read.parquet(files.removesuffix("*.parquet")).createOrReplaceTempView(name)
    open_engine.server = server
    return pysail.__version__, lambda sql: session.sql(backticks(sql)).toArrow()


if __name__ == "__main__":
    serve(open_engine)
