"""PyIceberg's Hive catalog: namespaces, tables, and commits, which take a lock."""

import sys

from pyiceberg.catalog.hive import HiveCatalog
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, LongType, NestedField, StringType

catalog = HiveCatalog("hive", uri=sys.argv[1], warehouse=sys.argv[2])


def fails(kind, call, *args):
    try:
        call(*args)
    except kind:
        return
    raise SystemExit(f"{call} did not fail")


catalog.create_namespace("ice", {"k": "v"})
fails(NamespaceAlreadyExistsError, catalog.create_namespace, "ice")
assert catalog.list_namespaces() == [("default",), ("ice",)], catalog.list_namespaces()
catalog.update_namespace_properties("ice", removals={"k"}, updates={"a": "b"})
properties = catalog.load_namespace_properties("ice")
assert properties["a"] == "b" and "k" not in properties, properties

schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "name", StringType()))
table = catalog.create_table("ice.t", schema)
fails(TableAlreadyExistsError, catalog.create_table, "ice.t", schema)
fails(NoSuchTableError, catalog.load_table, "ice.nope")
assert catalog.list_tables("ice") == [("ice", "t")], catalog.list_tables("ice")
with table.transaction() as transaction:
    transaction.set_properties(x="1")
with table.update_schema() as update:
    update.add_column("z", IntegerType())
found = catalog.load_table("ice.t")
assert found.properties["x"] == "1" and found.schema().find_field("z"), found
assert catalog.table_exists("ice.t") and not catalog.table_exists("ice.nope")

catalog.rename_table("ice.t", "ice.u")
fails(NamespaceNotEmptyError, catalog.drop_namespace, "ice")
catalog.drop_table("ice.u")
catalog.drop_namespace("ice")
fails(NoSuchNamespaceError, catalog.drop_namespace, "ice")
