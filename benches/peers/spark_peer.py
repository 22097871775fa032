"""Apache Spark in local mode, one JVM for all queries, so that its compiler is warm when the warm runs come."""

from common import backticks, serve


def open_engine(options):
    import pyspark
    from pyspark.sql import SparkSession

    # The JVM takes a fixed heap; without a limit, enough for every query at scale 10.
    heap_mb = (options["memory_limit_bytes"] or 8 << 30) >> 20
    session = (
        SparkSession.builder.master(f"local[{options['cores']}]")
        .config("spark.driver.memory", f"{heap_mb}m")
        .config("spark.driver.maxResultSize", "0")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        # 200, the default, is for clusters: two tasks a core suit a single machine far better.
        .config("spark.sql.shuffle.partitions", str(2 * options["cores"]))
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    for name, files in options["tables"].items():
        session.read.parquet(files.removesuffix("*.parquet")).createOrReplaceTempView(name)
    return pyspark.__version__, lambda sql: session.sql(backticks(sql)).toArrow()


if __name__ == "__main__":
    serve(open_engine)
