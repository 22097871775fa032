#!/usr/bin/env python3
"""Makes the messages of this folder that mean no good. The others were found by the fuzzer and are kept as they were.

    python3 make.py
"""

import pathlib
import struct

HERE = pathlib.Path(__file__).parent
STOP = b"\x00"


def call(method, args, kind=1):
    return struct.pack(">HBBI", 0x8001, 0, kind, len(method)) + method.encode() + b"\x00\x00\x00\x07" + args


def field(kind, number, value):
    return struct.pack(">BH", kind, number) + value


def framed(message):
    return struct.pack(">I", len(message)) + message


MESSAGES = {
    "string_of_2_gb": call("get_table", field(11, 1, b"\x7f\xff\xff\xff")),
    "string_of_negative_length": call("get_table", field(11, 1, b"\xff\xff\xff\xff")),
    "list_of_2_billion": call("add_partitions", field(15, 1, b"\x0c\x7f\xff\xff\xff")),
    "map_of_negative_count": call("set_ugi", field(13, 9, b"\x0b\x0b\xff\xff\xff\xfe")),
    "empty_partitions": call("add_partitions", field(15, 1, b"\x0c" + struct.pack(">I", 4000) + STOP * 4000) + STOP),
    "structs_100_deep": call("get_table", b"\x0c\x00\x63" * 100 + STOP * 101),
    "lists_1000_deep": call("get_table", b"\x0f\x00\x63" + b"\x0f\x00\x00\x00\x01" * 1000),
    "wire_type_5": call("get_table", b"\x05\x00\x01"),
    "map_without_types": call("get_table", field(13, 9, b"\x00\x00\x00\x00\x00\x00") + STOP),
    "name_not_utf8": call("get_table", field(11, 1, b"\x00\x00\x00\x02\xe4x") + STOP),
    "method_not_utf8": call("get", STOP).replace(b"get", b"\xff\xfe\xfd"),
    "method_of_4_gb": b"\x80\x01\x00\x01\xff\xff\xff\xff",
    "frame_of_2_gb": b"\x7f\xff\xff\xff\x80\x01\x00\x01",
    "frame_with_two_calls": framed(call("get_all_databases", STOP) + call("get_all_databases", STOP)),
    "frame_of_nothing": framed(b"") + framed(call("get_all_databases", STOP)),
    "goodbye": call("shutdown", STOP, kind=4),
    "two_calls_and_a_half": call("get_all_databases", STOP) * 2 + call("get_all_databases", b""),
    "reply_with_table": call("get_table", field(12, 0, field(11, 1, b"\x00\x00\x00\x01t") + STOP) + STOP, kind=2),
    "reply_with_exception": call("get_table", field(12, 2, field(11, 1, b"\x00\x00\x00\x01x") + STOP) + STOP, kind=2),
    "http": b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "sasl": b"\x01\x00\x00\x00\x06GSSAPI",
    # Small maps, boxed values and shared lists, many times: what memory is charged for has to include what holds them.
    "partitions_with_small_maps": call(
        "add_partitions",
        field(15, 1, b"\x0c" + struct.pack(">I", 600) + (field(13, 7, b"\x0b\x0b\x00\x00\x00\x01" + b"\x00" * 8) + STOP) * 600)
        + STOP,
    ),
}

for name, message in MESSAGES.items():
    (HERE / name).write_bytes(message)
