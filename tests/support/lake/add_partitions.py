"""Adds partitions `p=v0000000`, … to a table through its metastore, a thousand at a time. Run by the Python that has PyIceberg.

    add_partitions.py URI DATABASE TABLE COUNT
"""

import copy
import sys
import time

from hive_metastore.ttypes import Partition
from pyiceberg.catalog.hive import HiveCatalog

AT_ONCE = 1000

uri, database, name, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
with HiveCatalog("hive", uri=uri)._client as client:
    table = client.get_table(database, name)
    began = time.monotonic()
    for start in range(0, count, AT_ONCE):
        new = []
        for number in range(start, min(start + AT_ONCE, count)):
            value = f"v{number:07}"
            storage = copy.copy(table.sd)
            storage.location = f"{table.sd.location}/p={value}"
            new.append(Partition(values=[value], dbName=database, tableName=name, sd=storage, parameters={}))
        assert client.add_partitions(new) == len(new)
    took = time.monotonic() - began
    print(f"{count} partitions added in {took:.1f} s, {count / took:.0f} a second")
