"""What pymetastore asks, about a table that its own Thrift classes make."""

import sys

from pymetastore.hive_metastore import ttypes
from pymetastore.metastore import HMS

host, port = sys.argv[1].removeprefix("thrift://").split(":")
with HMS.create(host, int(port)) as hms:
    assert hms.list_databases() == ["default"]
    assert hms.get_database("default").location == sys.argv[2]
    hms.client.create_database(ttypes.Database(name="web"))
    serde = ttypes.SerDeInfo(serializationLib="org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe", parameters={})
    storage = ttypes.StorageDescriptor(
        cols=[ttypes.FieldSchema("id", "bigint", None), ttypes.FieldSchema("größe", "decimal(10,2)", "Länge")],
        inputFormat="org.apache.hadoop.mapred.TextInputFormat",
        outputFormat="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
        compressed=False,
        numBuckets=-1,
        serdeInfo=serde,
        bucketCols=[],
        sortCols=[],
        parameters={},
    )
    table = ttypes.Table(
        dbName="web",
        tableName="events",
        owner="ada",
        sd=storage,
        partitionKeys=[ttypes.FieldSchema("ds", "string", None)],
        parameters={},
        tableType="MANAGED_TABLE",
    )
    hms.client.create_table(table)
    hms.client.append_partition("web", "events", ["2024-01-01"])
    assert hms.list_tables("web") == ["events"]
    found = hms.get_table("web", "events")
    assert [column.name for column in found.columns] == ["id", "größe"], found
    assert hms.list_columns("web", "events") == ["id", "größe"]
    assert hms.list_partitions("web", "events") == ["ds=2024-01-01"]
    assert [partition.values for partition in hms.get_partitions("web", "events")] == [["2024-01-01"]]
    assert hms.get_partition("web", "events", "ds=2024-01-01").values == ["2024-01-01"]
    desc = ttypes.ColumnStatisticsDesc(isTblLevel=True, dbName="web", tableName="events")
    data = ttypes.LongColumnStatsData(lowValue=1, highValue=9, numNulls=0, numDVs=3)
    data = ttypes.ColumnStatisticsData(longStats=data)
    statistics = ttypes.ColumnStatistics(desc, [ttypes.ColumnStatisticsObj("id", "bigint", data)])
    hms.client.update_table_column_statistics(statistics)
    (kept,) = hms.get_table_stats(found, found.columns[:1])
    assert kept.columnName == "id", kept
    try:
        hms.get_table("web", "nope")
        raise SystemExit("a table that is not there")
    except ttypes.NoSuchObjectException as error:
        assert error.message == "hive.web.nope table not found", error
