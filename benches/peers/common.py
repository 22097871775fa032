"""What the runners of all peers share: the protocol, and answers as text with their kinds.

A runner is one long-lived process. It reads a JSON object a line on standard input and answers each with one on
standard output; everything else goes to standard error.

    {"open": {"tables": {NAME: GLOB}, "cores": N, "memory_limit_bytes": N or null}}   -> {"version": TEXT}
    {"query": SQL}                                  -> {"seconds": S, "kinds": [KIND], "rows": [[TEXT or null]]}
    anything that fails                             -> {"error": TEXT}

The seconds are from handing over the text until the whole result is in this process, as Arrow where the peer has it;
turning it into text is not counted. A kind is int, decimal, float, bool, date, timestamp or text.
"""

import decimal
import json
import os
import re
import sys
import time


def serve(open_engine):
    """Answers until standard input ends. `open_engine(options)` returns (version, run); `run(sql)` a pyarrow table."""
    import pyarrow  # noqa: F401, so that no engine's first query is charged with loading it

    # Libraries print on standard output too: the answers get a copy of it, everybody else standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "open" in request:
                version, run = open_engine(request["open"])
                answer = {"version": version}
            else:
                began = time.perf_counter()
                table = run(request["query"])
                seconds = time.perf_counter() - began
                answer = {"seconds": seconds, **answer_of_arrow(table)}
        except BaseException as error:  # Rust panics of peers reach Python as BaseException
            if isinstance(error, KeyboardInterrupt):
                raise
            answer = {"error": f"{type(error).__name__}: {error}"[:2000]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def backticks(sql):
    """The text with names quoted by `…` in place of "…": Spark's own way, and the only one that Sail knows."""
    return re.sub(r'"([^"]+)"', r"`\1`", sql.strip().rstrip(";"))


def answer_of_arrow(table):
    """The kinds and rows of a pyarrow table."""
    kinds = [arrow_kind(field.type) for field in table.schema]
    columns = [column.to_pylist() for column in table.columns]
    return {"kinds": kinds, "rows": [[cell(value) for value in row] for row in zip(*columns)]}


def arrow_kind(data_type):
    import pyarrow.types as types

    if types.is_integer(data_type):
        return "int"
    if types.is_decimal(data_type):
        return "decimal"
    if types.is_floating(data_type):
        return "float"
    if types.is_boolean(data_type) or types.is_null(data_type):
        return "bool"
    if types.is_date(data_type):
        return "date"
    if types.is_timestamp(data_type):
        return "timestamp"
    if types.is_string(data_type) or types.is_large_string(data_type) or types.is_string_view(data_type):
        return "text"
    raise TypeError(f"no kind for a column of type {data_type}")


def cell(value):
    """One value as text; the same value has the same text in every peer."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
