#!/usr/bin/env python3
"""Makes the messages in this folder again, with an implementation of Thrift that is not ours.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install thrift==0.22.0 pymetastore==0.4.2 pyiceberg==0.12.0
    /tmp/venv/bin/python make.py

Each file is one whole message, unframed. `*.call` is what a client sends, `*.reply` what a server answers; `*.old.call` is
the same without the version of the protocol. The classes of pymetastore are those of Hive 3, PyIceberg's those of Hive 4.
Maps are given in the order of their keys, as ours are written.
"""

import pathlib

from hive_metastore import ThriftHiveMetastore as hms4
from hive_metastore import ttypes as t4
from pymetastore.hive_metastore import ThriftHiveMetastore as hms
from pymetastore.hive_metastore import ttypes as t
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport.TTransport import TMemoryBuffer

HERE = pathlib.Path(__file__).parent
SEQUENCE = 7


def write(file, method, kind, body, strict=True):
    buffer = TMemoryBuffer()
    protocol = TBinaryProtocol(buffer, strictWrite=strict)
    protocol.writeMessageBegin(method, kind, SEQUENCE)
    body.write(protocol)
    protocol.writeMessageEnd()
    (HERE / file).write_bytes(buffer.getvalue())


def column(name, kind, comment=None):
    return t.FieldSchema(name=name, type=kind, comment=comment)


def descriptor(location):
    return t.StorageDescriptor(
        cols=[column("id", "bigint"), column("größe", "decimal(10,2)", "in Metern, ≈")],
        location=location,
        inputFormat="org.apache.hadoop.mapred.TextInputFormat",
        outputFormat="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
        compressed=False,
        numBuckets=-1,
        serdeInfo=t.SerDeInfo(
            name=None,
            serializationLib="org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
            parameters={"field.delim": "\x01", "serialization.format": "1"},
        ),
        bucketCols=[],
        sortCols=[t.Order(col="id", order=1)],
        parameters={},
        skewedInfo=t.SkewedInfo(
            skewedColNames=["id"], skewedColValues=[["1"], ["2"]], skewedColValueLocationMaps={}
        ),
        storedAsSubDirectories=False,
    )


def table():
    return t.Table(
        tableName="events",
        dbName="web",
        owner="eve",
        createTime=1700000000,
        lastAccessTime=0,
        retention=2147483647,
        sd=descriptor("s3a://bucket/web/events"),
        partitionKeys=[column("day", "date")],
        parameters={"EXTERNAL": "TRUE", "spark.sql.create.version": "4.1.0"},
        viewOriginalText=None,
        viewExpandedText="",
        tableType="EXTERNAL_TABLE",
        catName="hive",
        ownerType=t.PrincipalType.USER,
        writeId=-1,
    )


def partition(day):
    return t.Partition(
        values=[day],
        dbName="web",
        tableName="events",
        createTime=1700000001,
        lastAccessTime=0,
        sd=descriptor("s3a://bucket/web/events/day=" + day),
        parameters={"numRows": "3"},
    )


def statistics():
    desc = t.ColumnStatisticsDesc(isTblLevel=True, dbName="web", tableName="events", lastAnalyzed=1700000002)
    long = t.LongColumnStatsData(
        lowValue=-5, highValue=9223372036854775807, numNulls=0, numDVs=3, bitVectors=b"\xff\x00"
    )
    decimal = t.DecimalColumnStatsData(
        lowValue=t.Decimal(scale=2, unscaled=b"\x80"),
        highValue=t.Decimal(scale=2, unscaled=b"\x7f\xff"),
        numNulls=1, numDVs=2
    )
    double = t.DoubleColumnStatsData(lowValue=-0.5, highValue=1e300, numNulls=0, numDVs=2)
    return t.ColumnStatistics(
        statsDesc=desc,
        statsObj=[
            t.ColumnStatisticsObj("id", "bigint", t.ColumnStatisticsData(longStats=long)),
            t.ColumnStatisticsObj("größe", "decimal(10,2)", t.ColumnStatisticsData(decimalStats=decimal)),
            t.ColumnStatisticsObj("x", "double", t.ColumnStatisticsData(doubleStats=double)),
        ],
    )


def lock():
    part = t.LockComponent(type=t.LockType.EXCLUSIVE, level=t.LockLevel.TABLE, dbname="web", tablename="events")
    part.operationType = t.DataOperationType.UNSET
    return t.LockRequest(component=[part], txnid=None, user="eve", hostname="host", agentInfo="Iceberg-1")


CALL, REPLY, EXCEPTION = TMessageType.CALL, TMessageType.REPLY, TMessageType.EXCEPTION
context = t.EnvironmentContext(properties={"expected_parameter_key": "metadata_location"})

for strict, suffix in ((True, "call"), (False, "old.call")):
    write(f"create_table.{suffix}", "create_table", CALL, hms.create_table_args(tbl=table()), strict)
    write(f"get_table.{suffix}", "get_table", CALL, hms.get_table_args("web", "events"), strict)
write("get_all_databases.call", "get_all_databases", CALL, hms.get_all_databases_args())
write(
    "add_partitions.call", "add_partitions", CALL, hms.add_partitions_args([partition("2026-01-01"), partition("2026-01-02")])
)
write(
    "alter_table_with_environment_context.call",
    "alter_table_with_environment_context",
    CALL,
    hms.alter_table_with_environment_context_args("web", "events", table(), context),
)
write("get_partition_names.call", "get_partition_names", CALL, hms.get_partition_names_args("web", "events", -1))
write(
    "update_table_column_statistics.call",
    "update_table_column_statistics",
    CALL,
    hms.update_table_column_statistics_args(statistics()),
)
write("lock.call", "lock", CALL, hms.lock_args(lock()))
write("no_such_method.call", "no_such_method", CALL, hms.create_table_args(tbl=table()))

write("get_all_databases.reply", "get_all_databases", REPLY, hms.get_all_databases_result(success=["default", "web"]))
write("get_table.reply", "get_table", REPLY, hms.get_table_result(success=table()))
write(
    "get_table.missing.reply",
    "get_table",
    REPLY,
    hms.get_table_result(o2=t.NoSuchObjectException(message="web.events table not found")),
)
write("create_table.reply", "create_table", REPLY, hms.create_table_result())
write("add_partitions.reply", "add_partitions", REPLY, hms.add_partitions_result(success=2))
write(
    "lock.reply", "lock", REPLY, hms.lock_result(success=t.LockResponse(lockid=4294967297, state=t.LockState.WAITING))
)
write(
    "no_such_method.reply",
    "no_such_method",
    EXCEPTION,
    TApplicationException(TApplicationException.UNKNOWN_METHOD, "Invalid method name: 'no_such_method'"),
)

capabilities = t4.ClientCapabilities(values=[t4.ClientCapability.TEST_CAPABILITY])
get = t4.GetTableRequest(dbName="@hive#web", tblName="events", capabilities=capabilities, catName="hive", engine="hive")
write("get_table_req.call", "get_table_req", CALL, hms4.get_table_req_args(get))
table4 = t4.Table(tableName="events", dbName="web", requiredReadCapabilities=["EXTREAD"], accessType=8, id=77, txnId=3)
write("get_table_req.reply", "get_table_req", REPLY, hms4.get_table_req_result(success=t4.GetTableResult(table=table4)))
alter = t4.AlterTableRequest(
    dbName="web", tableName="events", table=table4, writeId=5, validWriteIdList="5:", processorIdentifier="p"
)
write("alter_table_req.call", "alter_table_req", CALL, hms4.alter_table_req_args(alter))
names = t4.GetPartitionsByNamesRequest(
    db_name="web", tbl_name="events", names=["day=2026-01-01"], get_col_stats=True, engine="hive"
)
write(
    "get_partitions_by_names_req.call", "get_partitions_by_names_req", CALL, hms4.get_partitions_by_names_req_args(names)
)
