"""Plain DataFusion of the same major version as Tereza's, with its defaults."""

import datafusion
import pyarrow

from common import serve


def open_engine(options):
    config = datafusion.SessionConfig().with_target_partitions(options["cores"])
    runtime = datafusion.RuntimeEnvBuilder()
    if options["memory_limit_bytes"]:
        runtime = runtime.with_fair_spill_pool(options["memory_limit_bytes"]).with_disk_manager_os()
    context = datafusion.SessionContext(config, runtime)
    for name, files in options["tables"].items():
        # A folder, since a glob is not taken here.
        context.register_parquet(name, files.removesuffix("*.parquet"))

    def run(sql):
        frame = context.sql(sql)
        batches = frame.collect()
        return pyarrow.Table.from_batches(batches, schema=batches[0].schema if batches else frame.schema())

    return datafusion.__version__, run


if __name__ == "__main__":
    serve(open_engine)
