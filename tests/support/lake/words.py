"""The same tables and rows in the words of each engine: types, values, and statements that make and fill tables."""

# A type: what each engine calls it. Nested ones are made of these by `array`, `map` and `struct` below.
NAMES = {
    "tinyint": "TINYINT", "smallint": "SMALLINT", "int": "INT", "bigint": "BIGINT", "boolean": "BOOLEAN", "double": "DOUBLE",
    "date": "DATE", "timestamp": "TIMESTAMP", "string": "STRING", "float": "FLOAT", "binary": "BINARY",
}
PRESTO_NAMES = NAMES | {"int": "INTEGER", "string": "VARCHAR", "float": "REAL", "binary": "VARBINARY"}


def type_name(engine, kind):
    """`kind` is a name, `("array", t)`, `("map", k, v)` or `("struct", (name, t), …)`."""
    presto = engine == "Presto"
    if isinstance(kind, str):
        return (PRESTO_NAMES if presto else NAMES).get(kind, kind)
    of = lambda inner: type_name(engine, inner)
    if kind[0] == "array":
        return f"ARRAY({of(kind[1])})" if presto else f"ARRAY<{of(kind[1])}>"
    if kind[0] == "map":
        return f"MAP({of(kind[1])}, {of(kind[2])})" if presto else f"MAP<{of(kind[1])}, {of(kind[2])}>"
    fields = kind[1:]
    if presto:
        return "ROW(" + ", ".join(f"{name} {of(inner)}" for name, inner in fields) + ")"
    return "STRUCT<" + ", ".join(f"{name}: {of(inner)}" for name, inner in fields) + ">"


def literal(engine, kind, value):
    """`value` as an expression of the type; values are the plain ones of `peers`."""
    if value is None and engine == "Tereza":
        # It has no casts to all types of tables.
        return "NULL"
    if value is None:
        return f"CAST(NULL AS {type_name(engine, kind)})"
    inner = [literal(engine, kind[1], item) for item in value] if kind[0] == "array" else []
    if kind[0] == "array":
        return f"array({', '.join(inner)})" if engine == "Spark" else f"ARRAY[{', '.join(inner)}]"
    if kind[0] == "map":
        keys = [literal(engine, kind[1], key) for key in value]
        items = [literal(engine, kind[2], item) for item in value.values()]
        if engine == "Spark":
            return "map(" + ", ".join(f"{key}, {item}" for key, item in zip(keys, items)) + ")"
        return f"MAP(ARRAY[{', '.join(keys)}], ARRAY[{', '.join(items)}])"
    if kind[0] == "struct":
        fields = [(name, literal(engine, of, value[name])) for name, of in kind[1:]]
        if engine == "Presto":
            return f"CAST(ROW({', '.join(item for _, item in fields)}) AS {type_name(engine, kind)})"
        return "named_struct(" + ", ".join(f"'{name}', {item}" for name, item in fields) + ")"
    if kind == "binary":
        return f"X'{value}'"
    if kind in ("string", "date", "timestamp"):
        text = "'" + text_of(engine, value) + "'"
        return text if kind == "string" else f"{kind.upper()} {text}"
    text = str(value).lower() if isinstance(value, bool) else f"'{value}'"
    return f"CAST({text} AS {type_name(engine, kind)})"


def text_of(engine, value):
    if engine == "Spark":
        return value.replace("\\", "\\\\").replace("'", "\\'")
    return value.replace("'", "''")


def create(engine, table, columns, keys, storage):
    """`storage` is what the engine says of the format; `columns` and `keys` are lists of name and type."""
    listed = lambda pairs: ", ".join(f"{name} {type_name(engine, kind)}" for name, kind in pairs)
    if engine == "Presto":
        names = ", ".join(f"'{name}'" for name, _ in keys)
        more = f", partitioned_by = ARRAY[{names}]" if keys else ""
        return f"CREATE TABLE {table} ({listed(columns + keys)}) WITH (format = '{storage}'{more})"
    if storage.startswith("USING"):
        names = ", ".join(name for name, _ in keys)
        return f"CREATE TABLE {table} ({listed(columns + keys)}) {storage}" + (f" PARTITIONED BY ({names})" if keys else "")
    return f"CREATE TABLE {table} ({listed(columns)})" + (f" PARTITIONED BY ({listed(keys)})" if keys else "") + f" {storage}"


def insert(engine, table, columns, rows, how="INTO"):
    selects = []
    for row in rows:
        items = [f"{literal(engine, kind, value)} AS {name}" for (name, kind), value in zip(columns, row)]
        selects.append("SELECT " + ", ".join(items))
    return f"INSERT {how} {table} " + " UNION ALL ".join(selects)
