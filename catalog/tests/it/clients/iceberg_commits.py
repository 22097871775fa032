"""Two processes commit to one Iceberg table at once: by Hive's locks, as PyIceberg does, and by comparing where the metadata is, as
Iceberg in Java does without locks. No commit is lost."""

import subprocess
import sys
import time

import pyarrow
from hive_metastore.ttypes import LockResponse, LockState, MetaException
from pyiceberg.catalog.hive import HiveCatalog
from pyiceberg.exceptions import CommitFailedException

COMMITS_EACH = 100
WRITERS = 2
# What the metastore says to who comes second, by which Iceberg in Java knows that it has to try again.
CHANGED = "The table has been modified. The parameter value for key 'metadata_location' is"

uri, warehouse, *worker = sys.argv[1:]


class WithoutLocks:
    """A client that takes no lock and has the table changed only where it is as it was when it was read."""

    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        return getattr(self.client, name)

    def lock(self, _):
        return LockResponse(lockid=0, state=LockState.ACQUIRED)

    def unlock(self, _):
        pass

    def alter_table_with_environment_context(self, dbname, tbl_name, new_tbl, environment_context):
        expected = new_tbl.parameters["previous_metadata_location"]
        environment_context.properties |= {
            "expected_parameter_key": "metadata_location", "expected_parameter_value": expected}
        try:
            self.client.alter_table_with_environment_context(dbname, tbl_name, new_tbl, environment_context)
        except MetaException as error:
            if CHANGED not in error.message:
                raise
            raise CommitFailedException(error.message) from error


class Connection:
    """What the catalog opens for each of its calls."""

    def __init__(self, opened):
        self.opened = opened

    def __enter__(self):
        return WithoutLocks(self.opened.__enter__())

    def __exit__(self, *error):
        return self.opened.__exit__(*error)


class ComparingCatalog(HiveCatalog):
    @property
    def _client(self):
        return Connection(self.opened)

    @_client.setter
    def _client(self, opened):
        self.opened = opened


def catalog(how):
    kind = HiveCatalog if how == "locks" else ComparingCatalog
    # Whoever waits for a lock asks again soon.
    patience = {"lock-check-min-wait-time": 0.01, "lock-check-max-wait-time": 0.1, "lock-check-retries": 500}
    return kind("hive", uri=uri, warehouse=warehouse, **patience)


def commit(how, number):
    """Commits rows of its own, again and again where another was first."""
    table = catalog(how).load_table(f"commits.{how}")
    done = conflicts = 0
    while done < COMMITS_EACH:
        try:
            table.append(pyarrow.table({"writer": [number], "commit": [done]}))
            done += 1
        except CommitFailedException:
            conflicts += 1
            table.refresh()
    print(conflicts)


def check(how):
    owner = catalog(how)
    schema = pyarrow.schema([("writer", pyarrow.int64()), ("commit", pyarrow.int64())])
    # PyIceberg would try a commit again by itself; here whoever comes second says so.
    owner.create_table(f"commits.{how}", schema, properties={"commit.retry.num-retries": "0"})
    began = time.monotonic()
    command = [sys.executable, __file__, uri, warehouse, how]
    writers = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(WRITERS)]
    said = [writer.communicate()[0].strip() for writer in writers]
    assert all(writer.returncode == 0 for writer in writers), said
    table = owner.load_table(f"commits.{how}")
    assert len(table.snapshots()) == WRITERS * COMMITS_EACH, len(table.snapshots())
    rows = sorted((row["writer"], row["commit"]) for row in table.scan().to_arrow().to_pylist())
    assert rows == [(writer, done) for writer in range(WRITERS) for done in range(COMMITS_EACH)], len(rows)
    print(f"{how}: {len(rows)} commits in {time.monotonic() - began:.1f} s, tried again: {said}")


if worker:
    commit(worker[0], int(worker[1]))
else:
    catalog("locks").create_namespace("commits")
    check("locks")
    check("comparing")
