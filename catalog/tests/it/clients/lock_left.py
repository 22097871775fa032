"""Takes a lock as PyIceberg does when it commits, says so, and never gives it back."""

import sys
import time

from pyiceberg.catalog.hive import HiveCatalog

catalog = HiveCatalog("hive", uri=sys.argv[1], warehouse=sys.argv[2])
with catalog._client as client:
    lock = client.lock(catalog._create_lock_request("default", "held"))
    print(lock.lockid, flush=True)
    while True:
        time.sleep(3600)
