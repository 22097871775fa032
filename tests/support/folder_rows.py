"""Counts the rows of a folder as readers see them who know no catalog: `rows,distinct values of seq,partitions`.

    folder_rows.py FOLDER                                    on this machine
    folder_rows.py BUCKET/FOLDER ENDPOINT KEY SECRET         on S3

Files are CSV (seq, then a text), lines of JSON, or Parquet, by the ends of their names; names that begin with `_` or `.` are hidden.
Fails on a row that is not whole.
"""

import csv
import io
import json
import sys

import pyarrow.parquet
from pyarrow import fs

TEXT = 'of "{}",\nand more'

folder = sys.argv[1]
if len(sys.argv) > 2:
    endpoint, key, secret = sys.argv[2:]
    store = fs.S3FileSystem(access_key=key, secret_key=secret, endpoint_override=endpoint.removeprefix("http://"), scheme="http")
else:
    store = fs.LocalFileSystem()

rows, seqs, partitions = 0, set(), set()
for info in store.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True)):
    parts = info.path.removeprefix(folder).strip("/").split("/")
    if info.type != fs.FileType.File or any(part.startswith(("_", ".")) for part in parts):
        continue
    with store.open_input_file(info.path) as file:
        if info.path.endswith(".parquet"):
            found = pyarrow.parquet.read_table(file).to_pylist()
        else:
            text = file.read().decode()
            if info.path.endswith(".json"):
                found = [json.loads(line) for line in text.splitlines()]
            else:
                assert info.path.endswith(".csv"), info.path
                found = [{"seq": int(seq), "text": text} for seq, text in csv.reader(io.StringIO(text, newline=""))]
    for row in found:
        assert set(row) == {"seq", "text"}, row
        assert row["text"] == TEXT.format(row["seq"]), row
        rows += 1
        seqs.add(row["seq"])
    partitions.add("/".join(parts[:-1]))
print(f"{rows},{len(seqs)},{len(partitions)}")
