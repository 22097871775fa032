"""What an ADBC client does with a Flight SQL server: connect, list, describe, parameters, update, ingest, cancel, a big
result, polling, session options, errors. Prints one line per step that was right; stops with a traceback at a wrong one.

usage: adbc_check.py URI [BIG_ROWS]
"""

import datetime
import decimal
import sys
import threading

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow as pa

uri = sys.argv[1]
big_rows = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000_000


def done(step):
    print("ok", step, flush=True)


def expect(actual, wanted):
    assert actual == wanted, f"got {actual!r}, wanted {wanted!r}"


def fails(kind, run):
    try:
        run()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def connect(**options):
    return flight_sql.connect(uri, db_kwargs={"username": "tester", "password": "", **options}, autocommit=True)


with connect() as connection, connection.cursor() as cursor:
    cursor.execute("select 1 as one, 'zwei' as two, null as nothing")
    expect(cursor.fetchall(), [(1, "zwei", None)])
    done("connect and query")

    cursor.execute("create schema adbc_check")
    cursor.execute("create table adbc_check.numbers (id bigint, name string, price decimal(10,2), day date)")
    cursor.execute("insert into adbc_check.numbers values (1, 'one', 1.50, date '2024-02-29'), (2, null, null, null)")
    expect(cursor.rowcount, 2)
    cursor.execute("select * from adbc_check.numbers order by id")
    expect(cursor.fetchall(), [(1, "one", decimal.Decimal("1.50"), datetime.date(2024, 2, 29)), (2, None, None, None)])
    done("create, insert and read back")

    objects = connection.adbc_get_objects(catalog_filter="tereza", db_schema_filter="adbc_check").read_all().to_pylist()
    schemas = {schema["db_schema_name"]: schema for schema in objects[0]["catalog_db_schemas"]}
    tables = {table["table_name"]: table for table in schemas["adbc_check"]["db_schema_tables"]}
    expect([column["column_name"] for column in tables["numbers"]["table_columns"]], ["id", "name", "price", "day"])
    catalogs = {row["catalog_name"] for row in connection.adbc_get_objects(depth="catalogs").read_all().to_pylist()}
    assert {"tereza", "memory", "tpch", "tpcds", "system"} <= catalogs, catalogs
    assert "TABLE" in connection.adbc_get_table_types()
    schema = connection.adbc_get_table_schema("numbers", catalog_filter="tereza", db_schema_filter="adbc_check")
    expect(schema.field("price").type, pa.decimal128(10, 2))
    done("list and describe")

    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Tereza", info
    done("server information")

    cursor.execute("select $1 + 1 as more, $2 as word", (41, "x"))
    expect(cursor.fetchall(), [(42, "x")])
    cursor.execute("select id from adbc_check.numbers where name = ?", ("one",))
    expect(cursor.fetchall(), [(1,)])
    cursor.executemany("insert into adbc_check.numbers (id, name) values (?, ?)", [(3, "three"), (4, "four")])
    cursor.execute("select count(*) from adbc_check.numbers")
    expect(cursor.fetchone(), (4,))
    done("prepare with parameters, many rows of them")

    rows = pa.table({"id": pa.array(range(100_000), pa.int64()), "half": pa.array([n / 2 for n in range(100_000)])})
    expect(cursor.adbc_ingest("ingested", rows, mode="create", db_schema_name="adbc_check"), 100_000)
    expect(cursor.adbc_ingest("ingested", rows.to_reader(1000), mode="append", db_schema_name="adbc_check"), 100_000)
    cursor.execute("select count(*), sum(id), sum(half) from adbc_check.ingested")
    expect(cursor.fetchone(), (200_000, 2 * 4_999_950_000, 4_999_950_000.0))
    fails(Exception, lambda: cursor.adbc_ingest("ingested", rows, mode="create", db_schema_name="adbc_check"))
    expect(cursor.adbc_ingest("ingested", rows.slice(0, 10), mode="replace", db_schema_name="adbc_check"), 10)
    expect(cursor.adbc_ingest("ingested", rows.slice(0, 5), mode="create_append", db_schema_name="adbc_check"), 5)
    cursor.execute("select count(*) from adbc_check.ingested")
    expect(cursor.fetchone(), (15,))
    expect(cursor.adbc_ingest("mine", rows.slice(0, 7), mode="create", temporary=True), 7)
    cursor.execute("select count(*) from memory.public.mine")
    expect(cursor.fetchone(), (7,))
    done("ingest: create, append, replace, create_append, temporary")

    message = fails(Exception, lambda: cursor.execute("select * from adbc_check.numbrs"))
    assert "numbrs" in message and "numbers" in message, message
    message = fails(Exception, lambda: cursor.execute("selec 1"))
    assert "line 1" in message, message
    cursor.execute("select 1")
    expect(cursor.fetchone(), (1,))
    done("errors name what is wrong and the session goes on")

    count = 0
    total = 0
    cursor.execute(f"select value, value * 2 as twice from generate_series(1, {big_rows})")
    for batch in cursor.fetch_record_batch():
        count += batch.num_rows
        total += pa.compute.sum(batch.column(0)).as_py()
    expect((count, total), (big_rows, big_rows * (big_rows + 1) // 2))
    done(f"a result of {big_rows} rows")

    slow = "select count(*) from generate_series(1, 100000000000) a where a.value % 7 = 3"
    timer = threading.Timer(1.0, cursor.adbc_cancel)
    timer.start()
    fails(Exception, lambda: (cursor.execute(slow), cursor.fetchall()))
    timer.join()
    done("cancel")

with connect() as connection, connection.cursor() as cursor:
    cursor.execute("select count(*) from system.runtime.queries where state = 'running' and query like '%100000000000) a%'"
                   " and query not like '%system.runtime%'")
    expect(cursor.fetchone(), (0,))
    done("a cancelled statement is gone")

    cursor.execute("use adbc_check")
    cursor.execute("select count(*) from numbers")
    expect(cursor.fetchone(), (4,))
    connection.adbc_current_catalog = "tpch"
    connection.adbc_current_db_schema = "tiny"
    expect((connection.adbc_current_catalog, connection.adbc_current_db_schema), ("tpch", "tiny"))
    cursor.execute("select count(*) from nation")
    expect(cursor.fetchone(), (25,))
    done("session options")

    partitions, schema = cursor.adbc_execute_partitions("select * from tpch.tiny.region")
    expect(len(partitions), 1)
    cursor.adbc_read_partition(partitions[0])
    expect(len(cursor.fetchall()), 5)
    done("partitions: one endpoint")

    cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
    cursor.adbc_statement.set_sql_query("select count(*) from tpch.tiny.lineitem")
    rows = []
    while True:
        handles, _, _ = cursor.adbc_statement.execute_partitions()
        if not handles:
            break
        for handle in handles:
            stream = connection.adbc_connection.read_partition(handle)
            rows += pa.RecordBatchReader._import_from_c(stream.address).read_all().to_pylist()
    expect([list(row.values()) for row in rows], [[60175]])
    done("polling")

    cursor.execute("drop schema tereza.adbc_check cascade")
    done("drop")
