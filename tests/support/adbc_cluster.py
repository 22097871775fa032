"""Asks a server with executors through ADBC: the same rows in both lanes, and the lane that was asked for."""

import sys

import adbc_driver_flightsql.dbapi

JOIN = """SELECT o_orderpriority, count(*) FROM tpch.tiny.lineitem JOIN tpch.tiny.orders ON l_orderkey = o_orderkey
GROUP BY o_orderpriority ORDER BY o_orderpriority"""
LANES = "SELECT lane, count(*) FROM system.runtime.queries WHERE query LIKE 'SELECT o_orderpriority%' GROUP BY lane ORDER BY lane"

with adbc_driver_flightsql.dbapi.connect(sys.argv[1], autocommit=True) as connection, connection.cursor() as cursor:

    def ask(mode):
        cursor.execute(f"SET tereza.mode = '{mode}'")
        cursor.execute(JOIN)
        return cursor.fetchall()

    rows = ask("cluster")
    assert len(rows) == 5 and rows == ask("local"), rows
    cursor.execute(LANES)
    assert cursor.fetchall() == [("cluster", 1), ("local", 1)]
print("ok")
