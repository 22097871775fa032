"""Begins to read a result without end, prints a line, and stops reading without going away.

usage: stalled_client.py URI
"""

import sys
import threading

import adbc_driver_flightsql.dbapi as flight_sql

connection = flight_sql.connect(sys.argv[1], db_kwargs={"username": "tester", "password": ""}, autocommit=True)
cursor = connection.cursor()
cursor.execute("select value, value + 1, value + 2, value + 3 from generate_series(1, 10000000000)")
reader = cursor.fetch_record_batch()
next(reader)
print("reading", flush=True)
threading.Event().wait()
