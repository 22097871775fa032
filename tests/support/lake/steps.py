"""What the engines do, and what all of them must read after it."""

from words import create, insert, literal

SCALARS = [
    ("id", "bigint"), ("t", "tinyint"), ("s", "smallint"), ("i", "int"), ("ok", "boolean"), ("r", "float"), ("f", "double"),
    ("price", "DECIMAL(10,2)"), ("wide", "DECIMAL(38,10)"), ("name", "string"), ("day", "date"),
]
ROWS = [
    ["1", "127", "32767", "2147483647", True, "0.5", "2.25", "1.5", "1234567890123456789012345678.0123456789", "a", "2024-02-29"],
    ["2", "-128", "-32768", "-2147483648", False, "-1.75", "-0.001", "-0.25", "-0.0000000001", "ü, \"x\" | \\ 'y'", "1969-12-31"],
    ["3"] + [None] * 10,
    ["9223372036854775807", "0", "0", "0", True, "0", "0", "99999999.99", "0", "日本 \t tab", "1582-10-15"],
]
TIMES = [("id", "bigint"), ("at", "timestamp")]
TIME_ROWS = [["1", "2024-02-29 12:34:56.789"], ["2", "1969-12-31 23:59:59.999"], ["3", None], ["4", "2038-01-19 03:14:08"],
             ["5", "1900-01-01 00:00:00"]]
NESTED = [
    ("id", "bigint"), ("a", ("array", "int")), ("m", ("map", "string", "bigint")),
    ("st", ("struct", ("x", "int"), ("y", "string"))), ("deep", ("array", ("struct", ("k", "string"), ("v", ("array", "double"))))),
]
NESTED_ROWS = [
    ["1", ["1", "2"], {"k": "3"}, {"x": "4", "y": "z"}, [{"k": "q", "v": ["1.5", None]}, {"k": None, "v": ["2"]}]],
    ["2", ["7", None], {"ü": None}, {"x": None, "y": "w"}, [{"k": "only", "v": ["0.25"]}]],
    ["3", None, None, None, None],
]
BYTES = [("id", "bigint"), ("b", "binary")]
BYTE_ROWS = [["1", "00ff10"], ["2", "68692c0a0d"], ["3", None]]
TEXTS = [("id", "string"), ("name", "string"), ("note", "string")]
# Hive's reader takes a backslash for an escape and its writer does not: there is none here.
TEXT_ROWS = [["1", "a", "b c"], ["2", "ü, \"x\"", "it's"], ["3", "1,2", " "]]

# What each engine calls a format that it can make and fill.
FORMATS = {
    "Presto": {"Parquet": "PARQUET", "ORC": "ORC", "Avro": "AVRO", "JSON": "JSON", "text": "TEXTFILE"},
    "Spark": {"Parquet": "STORED AS PARQUET", "ORC": "STORED AS ORC", "Avro": "STORED AS AVRO",
              "JSON": "ROW FORMAT SERDE 'org.apache.hive.hcatalog.data.JsonSerDe'", "text": "STORED AS TEXTFILE",
              "own Parquet": "USING parquet", "own ORC": "USING orc", "own JSON": "USING json", "own CSV": "USING csv"},
    "Tereza": {"Parquet": "STORED AS PARQUET", "JSON": "STORED AS JSON", "text": "STORED AS TEXTFILE"},
}
PLAIN = "Parquet"



def schemas(judge):
    """One for what each engine makes, where it says."""
    judge.begin("schema")
    for name in judge.names():
        database = f"of_{name.lower()}"
        place = f"s3a://lake/places/{database}"
        where = f"WITH (location = '{place}')" if name == "Presto" else f"LOCATION '{place}'"
        judge.do(name, f"CREATE SCHEMA {database} {where}")
    expected = sorted(["default"] + [f"of_{name.lower()}" for name in judge.names()])
    for name in judge.names():
        found = sorted(row[0] for row in judge.rows(name, "SHOW SCHEMAS") if row[0] != "information_schema")
        judge.found("all", "schemas", name, found, expected)


# Formats

def formats(judge):
    for writer in judge.names():
        for label, storage in FORMATS[writer].items():
            for shape, columns, rows in shapes(label):
                if not judge.begin(f"{label}: {shape}"):
                    continue
                table = f"of_{writer.lower()}.{shape}_{label.lower().replace(' ', '_')}"
                if not judge.do(writer, create(writer, table, columns, [], storage)):
                    continue
                names = ", ".join(name for name, _ in columns)
                query = f"SELECT {names} FROM {table} ORDER BY id"
                there, cannot = [], cannot_read(label, shape)
                # The others add the same rows to the same table, if they can.
                for name in [writer] + [name for name in judge.names() if name != writer]:
                    if can_write(name, label, shape) and judge.do(name, insert(name, table, columns, rows)):
                        there += rows
                        judge.same(writer if name == writer else f"+{name}", table, query, there, cannot)


def shapes(label):
    """Names, columns and rows of the tables of a format, as far as it can hold them."""
    kind, scalars, times = label.removeprefix("own "), SCALARS, TIME_ROWS
    if kind == "Avro":
        # It has no numbers as short as that.
        scalars = [column for column in SCALARS if column[0] not in ("t", "s")]
    if kind == "ORC":
        # Presto and Spark themselves do not find again what they write of fractions before 1970.
        times = [[id, at.replace(":59.999", ":59") if at else at] for id, at in TIME_ROWS]
    places = [SCALARS.index(column) for column in scalars]
    yield "scalars", scalars, [[row[place] for place in places] for row in ROWS]
    yield "times", TIMES, times
    if kind != "CSV":
        yield "nested", NESTED, NESTED_ROWS
    # Other texts hold bytes that are no text in as many ways as there are writers.
    if kind in ("Parquet", "ORC", "Avro") or label == "own JSON":
        yield "bytes", BYTES, BYTE_ROWS


def can_write(engine, label, shape):
    """What an engine cannot write, whatever the metastore."""
    kind = label.removeprefix("own ")
    if engine == "Tereza":
        return kind not in ("ORC", "Avro") and not (kind == "text" and shape == "nested")
    return engine != "Presto" or label not in SPARKS_OWN


# Tables of these formats have their columns in Spark's own properties; Presto sees none.
SPARKS_OWN = ("own JSON", "own CSV")


def cannot_read(label, shape):
    return {"Presto": "cannot be resolved"} if label in SPARKS_OWN else {}


def csv(judge):
    """Hive's CSV, whose columns are all texts."""
    for writer in judge.names("Presto", "Tereza"):
        if not judge.begin("CSV: texts"):
            return
        table = f"of_{writer.lower()}.texts_csv"
        judge.do(writer, create(writer, table, TEXTS, [], "CSV" if writer == "Presto" else "STORED AS CSV"))
        judge.do(writer, insert(writer, table, TEXTS, TEXT_ROWS))
        query = f"SELECT id, name, note FROM {table} ORDER BY id"
        judge.same(writer, table, query, TEXT_ROWS)


# Lines of CSV and of text that their owners read in ways of their own.
ODD_LINES = [
    r"1,a\b,e", r'2,"a\b",e', r'3,"a\\b",e', '4,"a""b",e', r'5,"a\"b",e', "6,,e", '7,"",e', '8,"x" y,e', '9,x "y" z,e',
    r'10,\"x\",e', '11, "x" ,e', r"12,x\,y,e", "13", "14,x,e,more", '15,"open,e', r"17,\\,e", r'18,"q\",e', r'19,"a\nb",e',
    '20,"x"",e', '21,"x""y",e', '22,a"b,e', '23,""x,e', r"24,\N,e", '25,"x" ,e', r'26,"a\\\"b",e', '27,"a"b"c",e', '28,"a,"b",e',
    "29,a\rb,e", "30,a\r", "", "  ", "31,NA,e", "32, lead , trail ",
]
ODD_TEXTS = [("id", "string"), ("name", "string"), ("note", "string")]
# What Tereza adds in each.
ODD_ROWS = [["100", "a\\b", "say \"hi\""], ["101", "\\", "\\\\"], ["102", " lead", "trail "], ["103", "c,d|e", "it's"],
            ["104", "\\\"", "q\"\",z"], ["105", "\"", "a\tb"], ["106", "ü\\N", "\\,"]]
# A storage of Spark's, what is between the fields, who else reads it, and whether it can hold all of these rows.
ODD_STORAGES = {
    "OpenCSV": ("ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde'", ",", True, True),
    "OpenCSV with an escape": ("ROW FORMAT SERDE 'org.apache.hadoop.hive.serde2.OpenCSVSerde' WITH SERDEPROPERTIES "
                               "('escapeChar' = '\\\\', 'separatorChar' = '|')", "|", True, True),
    "own CSV": ("USING csv", ",", False, True),
    "own CSV with quotes twice": ("USING csv OPTIONS (escape '\"')", ",", False, True),
    "own CSV with options": ("USING csv OPTIONS (HEADER 'true', sep '|', nullValue 'NA')", "|", False, True),
    "text": ("ROW FORMAT DELIMITED FIELDS TERMINATED BY ','", ",", True, False),
    "text with an escape": ("ROW FORMAT DELIMITED FIELDS TERMINATED BY ',' ESCAPED BY '\\\\'", ",", True, True),
}


def odd_texts(judge):
    """Lines that nobody wrote well, and texts with all that is special: Spark says what they mean, in Hive's formats and its own."""
    if "Spark" not in judge.engines:
        return
    for place, (label, (storage, between, is_common, is_all)) in enumerate(ODD_STORAGES.items()):
        if not judge.begin(f"odd lines: {label}"):
            continue
        table = f"of_spark.odd_{place}"
        judge.do("Spark", create("Spark", table, ODD_TEXTS, [], storage))
        lines = "\n".join(line.replace(",", between) for line in ODD_LINES)
        judge.minio.put(f"places/of_spark/odd_{place}/odd", lines.encode())
        judge.rows("Spark", f"REFRESH TABLE {table}")
        query = f"SELECT id, name, note FROM {table}"
        expected = judge.rows("Spark", query)
        readers = ["Spark", "Tereza"] + (["Presto"] if is_common else [])
        judge.same("hand", table, query, expected, readers=readers)
        rows = ODD_ROWS if is_all else [row for row in ODD_ROWS if not any("," in text for text in row)]
        if judge.do("Tereza", insert("Tereza", table, ODD_TEXTS, rows)):
            judge.same("+Tereza", table, f"{query} WHERE id LIKE '10_'", rows, readers=readers)
        if label != "text with an escape":
            judge.refused("Tereza", insert("Tereza", table, ODD_TEXTS, [["110", "a\nb", ""]]), "line break")


def json_bytes(judge):
    """Bytes in Hive's JSON are texts, and what is none is refused: Presto loses it. Spark's Hive has no bytes there."""
    for writer in judge.names("Presto", "Tereza"):
        if not judge.begin("JSON: bytes"):
            return
        table, rows = f"of_{writer.lower()}.bytes_json", [["1", "68692c0a0d225c"], ["2", "c3a9"], ["3", None]]
        judge.do(writer, create(writer, table, BYTES, [], FORMATS[writer]["JSON"]))
        there = []
        for name in judge.names("Presto", "Tereza"):
            if judge.do(name, insert(name, table, BYTES, rows)):
                there += rows
        judge.same(writer, table, f"SELECT id, b FROM {table}", there, readers=["Presto", "Tereza"])
        judge.refused("Tereza", insert("Tereza", table, BYTES, [["4", "00ff10"]]), "no text")


def sparks_columns(judge):
    """Names with capital letters, and columns that Tereza adds, in tables whose columns Spark keeps for itself."""
    if "Spark" not in judge.engines:
        return
    for label, storage in [("JSON", "USING json"), ("Parquet", "USING parquet"), ("JSON in partitions", "USING json PARTITIONED BY (p)"),
                           ("Parquet in partitions", "USING parquet PARTITIONED BY (p)")]:
        if not judge.begin(f"Spark's own columns: {label}"):
            continue
        table = "of_spark.capitals_" + label.lower().replace(" ", "_")
        judge.do("Spark", f"CREATE TABLE {table} (Id BIGINT, userName STRING, St STRUCT<Aa: INT, bB: ARRAY<STRUCT<Cc: STRING>>>, p STRING) "
                          f"{storage}")
        # Tereza knows no names with capital letters.
        nested = {"Spark": "named_struct('Aa', 1, 'bB', array(named_struct('Cc', 'c')))",
                  "Tereza": "named_struct('aa', 1, 'bb', make_array(named_struct('cc', 'c')))"}
        inner = {"Spark": "St.bB[0].Cc", "Tereza": "get_field(st['bb'][1], 'cc')"}
        expected = []
        for name in ("Spark", "Tereza", "Spark"):
            if judge.do(name, f"INSERT INTO {table} SELECT 7, '{name}', {nested[name]}, 'x'"):
                expected.append(["7", name, "c", "x"])
            judge.rows("Spark", f"REFRESH TABLE {table}")
            for reader in ("Spark", "Tereza"):
                judge.same(f"+{name}", table, f"SELECT Id, userName, {inner[reader]}, p FROM {table}", expected, readers=[reader])
        judge.do("Tereza", f"ALTER TABLE {table} ADD COLUMNS (late INT COMMENT 'since', short VARCHAR(3))")
        select = f"SELECT userName, late, short, p FROM {table}"
        expected = [[row[1], None, None, "x"] for row in expected]
        judge.same("+Tereza", table, select, expected, readers=["Spark", "Tereza"])
        for name in ("Spark", "Tereza"):
            keyed = "St, " + ("late, short, p" if "partitions" in label else "p, late, short")
            values = "NULL, " + ("1, 'abc', 'y'" if "partitions" in label else "'y', 1, 'abc'")
            judge.do(name, f"INSERT INTO {table} (Id, userName, {keyed}) SELECT 8, '{name}', {values}")
            expected.append([name, "1", "abc", "y"])
            judge.same(f"+{name}", table, select, expected, readers=["Spark", "Tereza"])
            judge.refused(name, f"INSERT INTO {table} (Id, userName, {keyed}) SELECT 9, 'x', {values.replace('abc', 'abcd')}", "")


# Partitions

def too_long(judge):
    """A text that is too long for its column is refused, by all: the others would read a part of it."""
    for writer in judge.names():
        if not judge.begin("VARCHAR(3)"):
            return
        table, columns = f"of_{writer.lower()}.short", [("name", "VARCHAR(3)")]
        judge.do(writer, create(writer, table, columns, [], FORMATS[writer][PLAIN]))
        rows = []
        for name in judge.names():
            if judge.do(name, insert(name, table, columns, [["ab"], ["äöü"]])):
                rows += [["ab"], ["äöü"]]
            if not judge.refused(name, insert(name, table, [("name", "string")], [["abcd"]]), ""):
                break
            judge.same(f"+{name}", table, f"SELECT name FROM {table} ORDER BY name", rows)


def partitions(judge):
    """A table made of a query, to which all add rows in partitions of their own and in one of all."""
    for writer in judge.names():
        if not judge.begin("partitioned, made AS query"):
            return
        table = f"of_{writer.lower()}.made"
        text = "VARCHAR" if writer == "Presto" else "STRING"
        query = f"SELECT CAST(1 AS BIGINT) AS id, CAST('x' AS {text}) AS name, CAST('common' AS {text}) AS p, 1 AS k"
        how = {"Presto": "WITH (format = 'PARQUET', partitioned_by = ARRAY['p', 'k'])",
               "Spark": "USING parquet PARTITIONED BY (p, k)", "Tereza": "STORED AS PARQUET PARTITIONED BY (p, k)"}[writer]
        if not judge.do(writer, f"CREATE TABLE {table} {how} AS {query}"):
            continue
        rows = [["1", "x", "common", "1"]]
        select = f"SELECT id, name, p, k FROM {table} ORDER BY id"
        judge.same(writer, table, select, rows)
        columns = [("id", "bigint"), ("name", "string"), ("p", "string"), ("k", "int")]
        for index, name in enumerate(judge.names(), 2):
            new = [[str(index * 10), name, "common", "1"], [str(index * 10 + 1), name, name, str(index)]]
            if judge.do(name, insert(name, table, columns, new)):
                rows += new
            judge.same(f"+{name}", table, select, rows)
            judge.same(f"+{name}", table, f"SELECT id FROM {table} WHERE p = '{name}' AND k > 1 ORDER BY id",
                       [[str(index * 10 + 1)]])


SPECIAL = ["plain", "a b", "a/b", "a%b", "a:b", "ü", "x=y", "it's", "[q]", "{r}", "a\"b", "a#b", "a\\b", "%2F", "..",
           "+", "a?b", "a*b", "日本", " lead", None]


def special_partitions(judge):
    columns, key = [("id", "bigint")], [("p", "string")]
    for writer in judge.names():
        if not judge.begin("special partition values"):
            return
        table = f"of_{writer.lower()}.special"
        judge.do(writer, create(writer, table, columns, key, FORMATS[writer][PLAIN]))
        rows = []
        for start, name in zip((100, 200, 300), [writer] + [name for name in judge.names() if name != writer]):
            # Presto writes no other letters than those of ASCII into the names of partitions.
            values = [value for value in SPECIAL if name != "Presto" or value is None or value.isascii()]
            new = [[str(start + index), value] for index, value in enumerate(values)]
            if judge.do(name, insert(name, table, columns + key, new)):
                rows += new
            judge.same(writer if name == writer else f"+{name}", table, f"SELECT id, p FROM {table} ORDER BY id", rows)
        for value in SPECIAL:
            expected = [[id] for id, p in rows if p == value]
            for reader in judge.names():
                where = "p IS NULL" if value is None else f"p = {literal(reader, 'string', value)}"
                judge.same(writer, table, f"SELECT id FROM {table} WHERE {where} ORDER BY id", expected, readers=[reader])


def typed_partitions(judge):
    """Keys of other types than text."""
    keys = [("b", "bigint", "-5", "77"), ("d", "date", "2024-02-29", "1969-12-31"), ("n", "DECIMAL(6,2)", "1.5", "-20"),
            ("o", "boolean", True, False), ("c", "VARCHAR(5)", "abc", "e f")]
    for writer in judge.names():
        for key, kind, one, two in keys:
            if not judge.begin("typed partition keys"):
                return
            table = f"of_{writer.lower()}.typed_{key}"
            columns, keyed = [("id", "bigint")], [(key, kind)]
            if not judge.do(writer, create(writer, table, columns, keyed, FORMATS[writer][PLAIN])):
                continue
            rows = [["1", one], ["2", two], ["3", None]]
            judge.do(writer, insert(writer, table, columns + keyed, rows))
            select = f"SELECT id, {key} FROM {table} ORDER BY id"
            judge.same(writer, table, select, rows)
            for start, other in enumerate(judge.names(), 1):
                if other != writer:
                    new = [[f"{start}1", one], [f"{start}2", two], [f"{start}3", None]]
                    if judge.do(other, insert(other, table, columns + keyed, new)):
                        rows += new
            judge.same("all", table, select, rows)
            for reader in judge.names():
                where = f"{key} = {literal(reader, kind, one)}"
                judge.same("all", table, f"SELECT id FROM {table} WHERE {where} ORDER BY id",
                           [[row[0]] for row in rows if row[1] == one], readers=[reader])


def filled(judge, writer, name, keyed=True):
    """A table with two partitions, or none."""
    table = f"of_{writer.lower()}.{name}"
    columns, keys = [("id", "bigint"), ("name", "string")], [("p", "string")] if keyed else []
    judge.do(writer, create(writer, table, columns, keys, FORMATS[writer][PLAIN]))
    rows = [["1", "a", "x"], ["2", "b", "x"], ["3", "c", "y"]]
    rows = rows if keyed else [row[:2] for row in rows]
    judge.do(writer, insert(writer, table, columns + keys, rows))
    return table, columns, keys


def overwritten(judge):
    for writer in judge.names():
        if not judge.begin("INSERT OVERWRITE"):
            return
        table, columns, keys = filled(judge, writer, "over")
        expected = {"1": ["1", "a", "x"], "2": ["2", "b", "x"], "3": ["3", "c", "y"]}
        select = f"SELECT id, name, p FROM {table} ORDER BY id"
        for index, name in enumerate(judge.names(), 1):
            expected = {key: row for key, row in expected.items() if row[2] != "x"} | {f"{index}0": [f"{index}0", name, "x"]}
            if name == "Presto":
                text = insert(name, table, columns + keys, [[f"{index}0", name, "x"]])
                judge.do(name, text, session="hive.insert_existing_partitions_behavior=OVERWRITE")
            else:
                head = f"INSERT OVERWRITE TABLE {table} PARTITION (p = 'x') "
                judge.do(name, f"{head}SELECT CAST({index}0 AS BIGINT), '{name}'")
            judge.same(f"+{name}", table, select, list(expected.values()))
        table, columns, _ = filled(judge, writer, "over_all", keyed=False)
        for index, name in enumerate(judge.names("Spark", "Tereza"), 1):
            judge.do(name, f"INSERT OVERWRITE TABLE {table} SELECT CAST({index} AS BIGINT), '{name}'")
            judge.same(f"+{name}", table, f"SELECT id, name FROM {table}", [[str(index), name]])


def deleted(judge):
    """Presto deletes whole partitions, and all rows of a table."""
    for writer in judge.names():
        if "Presto" not in judge.engines or not judge.begin("DELETE, TRUNCATE"):
            return
        table, columns, keys = filled(judge, writer, "gone")
        judge.do("Presto", f"DELETE FROM {table} WHERE p = 'x'")
        select = f"SELECT id, name, p FROM {table} ORDER BY id"
        judge.same("+Presto", table, select, [["3", "c", "y"]])
        judge.do("Presto", insert("Presto", table, columns + keys, [["4", "d", "x"]]))
        judge.same("+Presto", table, select, [["3", "c", "y"], ["4", "d", "x"]])
        for name in judge.names():
            table, columns, _ = filled(judge, writer, f"emptied_{name.lower()}", keyed=False)
            judge.do(name, f"DELETE FROM {table}" if name == "Presto" else f"TRUNCATE TABLE {table}")
            judge.same(f"+{name}", table, f"SELECT id FROM {table}", [])


def partitions_by_hand(judge):
    for writer in judge.names():
        if not judge.begin("ADD and DROP PARTITION"):
            return
        table, columns, keys = filled(judge, writer, "by_hand")
        database, name_alone = table.split(".")
        expected = [["1", "a", "x"], ["2", "b", "x"], ["3", "c", "y"]]
        select = f"SELECT id, name, p FROM {table} ORDER BY id"
        for index, name in enumerate(judge.names(), 1):
            value = f"new {name}"
            if name == "Presto":
                judge.do(name, f"CALL system.create_empty_partition('{database}', '{name_alone}', ARRAY['p'], ARRAY['{value}'])")
            else:
                judge.do(name, f"ALTER TABLE {table} ADD PARTITION (p = '{value}')")
            judge.same(f"+{name}", table, select, expected)
            for start, other in enumerate(judge.names(), 1):
                new = [f"{index}{start}", other, value]
                if judge.do(other, insert(other, table, columns + keys, [new])):
                    expected.append(new)
            judge.same(f"+{name}", table, select, expected)
        for name in judge.names():
            value = f"new {name}"
            judge.do(name, f"DELETE FROM {table} WHERE p = '{value}'" if name == "Presto" else
                     f"ALTER TABLE {table} DROP PARTITION (p = '{value}')")
            expected = [row for row in expected if row[2] != value]
            judge.same(f"+{name}", table, select, expected)
        if not judge.begin("folders that are found"):
            return
        # Folders that somebody else made, with files of this table.
        source = next(key for key in judge.minio.keys(f"/{name_alone}/p=y/") if of(writer, key))
        for name in judge.names():
            value = f"found{name}"
            judge.minio.put(source.replace("/p=y/", f"/p={value}/"), source=source)
            judge.do(name, f"CALL system.sync_partition_metadata('{database}', '{name_alone}', 'ADD')" if name == "Presto" else
                     f"MSCK REPAIR TABLE {table}")
            expected.append(["3", "c", value])
            expected.sort(key=lambda row: (int(row[0]), row[2]))
            judge.same(f"+{name}", table, f"SELECT id, name, p FROM {table} ORDER BY id, p", expected)


def of(writer, key):
    """Whether the table of an object is in the schema of an engine."""
    return f"/of_{writer.lower()}" in key


# Tables

def columns_added(judge):
    for writer in judge.names():
        if not judge.begin("ADD COLUMN"):
            return
        table, columns, keys = filled(judge, writer, "grown")
        rows = [["1", "a", "x"], ["2", "b", "x"], ["3", "c", "y"]]
        for index, name in enumerate(judge.names(), 1):
            column = f"by_{name.lower()}"
            word = {"Presto": f"ADD COLUMN {column} INTEGER", "Spark": f"ADD COLUMNS ({column} INT)",
                    "Tereza": f"ADD COLUMN {column} INT"}[name]
            if not judge.do(name, f"ALTER TABLE {table} {word}"):
                continue
            columns.append((column, "int"))
            rows = [row[:-1] + [None] + row[-1:] for row in rows]
            for start, other in enumerate(judge.names(), 1):
                if other == "Spark":
                    judge.do("Spark", f"REFRESH TABLE {table}")
                new = [f"{index}{start}", other] + [str(index)] * index + ["x" if start == 1 else "n" + other]
                if judge.do(other, insert(other, table, columns + keys, [new])):
                    rows.append(new)
            names = ", ".join(name for name, _ in columns + keys)
            judge.same(f"+{name}", table, f"SELECT {names} FROM {table} ORDER BY id", rows)


def columns_renamed(judge):
    """Of a table of text, whose columns have their places; Spark has no such statement for tables of Hive."""
    for writer in judge.names():
        if not judge.begin("RENAME COLUMN"):
            return
        table = f"of_{writer.lower()}.columns"
        columns = [("id", "bigint"), ("name", "string")]
        judge.do(writer, create(writer, table, columns, [], FORMATS[writer]["text"]))
        judge.do(writer, insert(writer, table, columns, [["1", "a"]]))
        column = "name"
        for name in judge.names("Presto", "Tereza"):
            new = f"name_{name.lower()}"
            judge.do(name, f"ALTER TABLE {table} RENAME COLUMN {column} TO {new}")
            column = new
            judge.same(f"+{name}", table, f"SELECT id, {column} FROM {table}", [["1", "a"]])


def properties(judge):
    for writer in judge.names():
        if not judge.begin("properties"):
            return
        table, columns, keys = filled(judge, writer, "described")
        for name in judge.names("Spark", "Tereza"):
            judge.do(name, f"ALTER TABLE {table} SET TBLPROPERTIES ('lake.by' = '{name}', 'lake.{name.lower()}' = 'ü = \"1\"')")
            for reader in judge.names("Spark", "Tereza"):
                rows = {row[0]: row[1] for row in judge.rows(reader, f"SHOW TBLPROPERTIES {table}")}
                found = [rows.get("lake.by"), rows.get(f"lake.{name.lower()}")]
                judge.found(f"+{name}", table, reader, found, [name, 'ü = "1"'])
            judge.same(f"+{name}", table, f"SELECT id FROM {table} ORDER BY id", [["1"], ["2"], ["3"]])


def renamed(judge):
    for writer in judge.names():
        if not judge.begin("RENAME TABLE"):
            return
        for keyed in (False, True):
            table, columns, keys = filled(judge, writer, f"first_{keyed}".lower(), keyed)
            rows = [["1"], ["2"], ["3"]]
            for index, name in enumerate(judge.names(), 1):
                new = f"of_{writer.lower()}.name_{keyed}_{index}".lower()
                judge.do(name, f"ALTER TABLE {table} RENAME TO {new}")
                old, table = table, new
                judge.same(f"+{name}", table, f"SELECT id FROM {table} ORDER BY id", rows)
                for start, other in enumerate(judge.names(), 1):
                    row = [f"{index}{start}", "r", "x"]
                    if judge.do(other, insert(other, table, columns + keys, [row if keyed else row[:2]])):
                        rows.append(row[:1])
                rows.sort(key=lambda row: int(row[0]))
                judge.same(f"+{name}", table, f"SELECT id FROM {table} ORDER BY id", rows)
                # The old name is free, for a table that has nothing of the other.
                judge.do(name, create(name, old, columns, keys, FORMATS[name][PLAIN]))
                judge.same(f"+{name}", old, f"SELECT id FROM {old}", [])
                judge.do(name, f"DROP TABLE {old}")
                judge.same(f"+{name}", table, f"SELECT id FROM {table} ORDER BY id", rows)


def dropped(judge):
    for writer in judge.names():
        for name in judge.names():
            if not judge.begin("DROP"):
                return
            table, _, _ = filled(judge, writer, f"dropped_{name.lower()}")
            judge.do(name, f"DROP TABLE {table}")
            for reader in judge.names():
                listed = judge.rows(reader, f"SHOW TABLES IN of_{writer.lower()}")
                judge.found(f"+{name}", table, reader, any(table.split(".")[1] in row for row in listed), False)
            # Its name is free for a table with other rows, in the same folder.
            storage = {"Presto": "WITH (format = 'PARQUET')"}.get(name, "STORED AS PARQUET")
            judge.do(name, f"CREATE TABLE {table} {storage} AS SELECT CAST(7 AS BIGINT) AS id")
            judge.same(f"+{name}", table, f"SELECT id FROM {table}", [["7"]])
    for name in judge.names():
        database = f"dropped_by_{name.lower()}"
        judge.do("Tereza", f"CREATE SCHEMA {database}")
        judge.do(name, f"DROP SCHEMA {database}")
        if [database] in judge.rows("Tereza", "SHOW SCHEMAS"):
            judge.complain(f"{database} is there")


# Statistics and views

def statistics(judge):
    """Who counts rows and looks at a column tells the others, as far as they look there."""
    for writer in judge.names():
        if not judge.begin("statistics"):
            return
        for name in judge.names():
            table, _, _ = filled(judge, writer, f"counted_{name.lower()}", keyed=False)
            judge.do(name, f"ANALYZE {table}" if name == "Presto" else f"ANALYZE TABLE {table} COMPUTE STATISTICS" +
                     ("" if name == "Presto" else " FOR COLUMNS id"))
            if name == "Tereza":
                judge.do(name, f"ANALYZE TABLE {table} COMPUTE STATISTICS")
            for reader in judge.names():
                # Those of Spark are in properties that are its own.
                if name == reader or "Spark" not in (name, reader):
                    judge.found(name, table, reader, STATISTICS[reader](judge, table), ["1", "3", "0"])
            judge.same(name, table, f"SELECT count(*), min(id), max(id) FROM {table}", [["3", "1", "3"]])


def presto_statistics(judge, table):
    rows = {row[0]: row for row in judge.rows("Presto", f"SHOW STATS FOR {table}")}
    return [rows["id"][5], rows["id"][6], rows["id"][3]]


def spark_statistics(judge, table):
    rows = {row[0]: row[1] for row in judge.rows("Spark", f"DESCRIBE EXTENDED {table} id")}
    return [rows["min"], rows["max"], rows["num_nulls"]]


def tereza_statistics(judge, table):
    rows = {row[0]: row for row in judge.rows("Tereza", f"SHOW STATS FOR {table}")}
    return [rows["id"][4], rows["id"][5], rows["id"][2]]


STATISTICS = {"Presto": presto_statistics, "Spark": spark_statistics, "Tereza": tereza_statistics}


def pruned(judge):
    """A predicate on a key reads one partition: the plans say which, and only its files are there to be read."""
    if not judge.begin("partition pruning"):
        return
    for writer in judge.names():
        table = f"of_{writer.lower()}.pruned"
        columns, keys = [("id", "bigint")], [("p", "string"), ("k", "int")]
        judge.do(writer, create(writer, table, columns, keys, FORMATS[writer][PLAIN]))
        rows = [[str(index), f"v{index % 10}", str(index % 7)] for index in range(70)]
        judge.do(writer, insert(writer, table, columns + keys, rows))
        # A partition whose file cannot be read: who looks at it fails.
        for key in judge.minio.keys("/pruned/p=v9/"):
            if of(writer, key):
                judge.minio.put(key, b"not a file of any table")
        for where, wanted in [("p = 'v3'", lambda p, k: p == "v3"), ("p = 'v3' AND k = 3", lambda p, k: p == "v3" and k == "3"),
                              ("p IN ('v1', 'v2') AND k > 4", lambda p, k: p in ("v1", "v2") and int(k) > 4),
                              ("p LIKE 'v3%' AND k < 2", lambda p, k: p == "v3" and int(k) < 2),
                              ("p > 'v2' AND p < 'v4' AND k BETWEEN 2 AND 3", lambda p, k: p == "v3" and k in ("2", "3"))]:
            expected = [[id] for id, p, k in rows if wanted(p, k)]
            judge.same(writer, table, f"SELECT id FROM {table} WHERE {where} ORDER BY id", expected)
        for name in judge.names():
            found = judge.rows(name, f"SELECT count(id), sum(id) FROM {table}")
            if not isinstance(found, str):
                judge.complain(f"{name} reads spoilt files of {table}: the check says nothing")


def views(judge):
    for writer in judge.names():
        if not judge.begin("views"):
            return
        table, _, _ = filled(judge, writer, "seen")
        view, counted = f"of_{writer.lower()}.seen_by", f"of_{writer.lower()}.counted_by"
        cannot = VIEWS[writer]
        judge.do(writer, f"CREATE VIEW {view} AS SELECT {VIEW_LISTS[writer]} FROM {table} WHERE p = 'x'")
        expected = [["1", "a", "0.5", "ait's \\", "10"], ["2", "b", "1", "bit's \\", "10"]]
        judge.same(writer, view, f"SELECT * FROM {view}", expected, cannot)
        judge.same(writer, view, f"SELECT t FROM {view} WHERE half < 1", [["ait's \\"]], cannot)
        # Presto has no names before the query, and Spark wants one for each expression in it.
        columns, list = {"Presto": ("", "p AS part, count(*) AS total"), "Spark": (" (part, total)", "p, count(*) AS n"),
                         "Tereza": (" (part, total)", "p, count(*)")}[writer]
        judge.do(writer, f"CREATE VIEW {counted}{columns} AS SELECT {list} FROM {table} GROUP BY p")
        judge.same(writer, counted, f"SELECT total, part FROM {counted}", [["2", "x"], ["1", "y"]], cannot)
        # A view of the view, which Tereza makes and who reads both can read.
        over = f"of_tereza.over_{writer.lower()}"
        judge.do("Tereza", f"CREATE VIEW {over} AS SELECT half, count(*) FROM {view} GROUP BY half")
        readers = [name for name in judge.names() if name not in cannot]
        judge.same("Tereza", over, f"SELECT half FROM {over}", [["0.5"], ["1"]], readers=readers)
        for name in judge.names():
            shown = judge.rows(name, f"SHOW TABLES IN of_{writer.lower()}")
            judge.found(writer, view, name, any("seen_by" in row for row in shown), True)
        judge.do("Tereza", f"DROP VIEW {over}")
        for name in (view, counted):
            judge.do(writer, f"DROP VIEW {name}")


# Whose views are not read by whom; Presto and Spark do not read each other's over Hive's own metastore either.
VIEWS = {"Presto": {"Spark": "PARSE_SYNTAX_ERROR"}, "Spark": {"Presto": "Hive views are not supported"}, "Tereza": {}}
# The same in the words of each: names and texts in quotes, a division, a number that is cut or rounded to 10.
VIEW_LISTS = {
    "Presto": """id, name AS "The Name", CAST(id AS double) / 2 AS half, concat(name, 'it''s \\') AS t, CAST(9.5 AS integer) AS n""",
    "Spark": """id, name AS `The Name`, id / 2 AS half, concat(name, "it's \\\\") AS t, CAST(10.5 AS INT) AS n""",
    "Tereza": """id, name AS "The Name", CAST(id AS DOUBLE) / 2 AS half, name || 'it''s \\' AS t, CAST('10' AS INT) AS n""",
}

STEPS = (schemas, formats, csv, odd_texts, json_bytes, sparks_columns, partitions, special_partitions, typed_partitions,
         overwritten, deleted, partitions_by_hand, columns_added, columns_renamed, too_long, properties, statistics, pruned,
         renamed, views, dropped)
