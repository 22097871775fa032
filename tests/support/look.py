# Looks at a data folder without Tereza: at its catalog with sqlite3, at its files with pyarrow, at uploads with boto3.
# Uploads are asked for by the exact name of their object, as some versions of MinIO want it; the names are the catalog's.
# Argument: {"data", "table", "bucket": {"endpoint", "access_key", "secret_key", "name"} or null, "keys"}; prints JSON.
import json, os, re, sqlite3, sys
import pyarrow.compute as pc
import pyarrow.fs as fs
import pyarrow.parquet as pq

ask = json.loads(sys.argv[1])
bucket = ask["bucket"]

catalog = sqlite3.connect(os.path.join(ask["data"], "catalog.db"))
location = catalog.execute(
    "SELECT s.LOCATION FROM TBLS t JOIN SDS s ON t.SD_ID = s.SD_ID WHERE t.TBL_NAME = ?", (ask["table"],)).fetchone()
writes = catalog.execute("SELECT count(*) FROM TZ_WRITES").fetchone()[0]
keys = set(ask["keys"])
if bucket:
    object_name = re.compile("s3a?://" + re.escape(bucket["name"]) + "/([^\"\\\\]+?\\.parquet)")
    tables = [name for (name,) in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        if table.startswith("TZ_"):
            for row in catalog.execute(f'SELECT * FROM "{table}"'):
                for cell in row:
                    if isinstance(cell, bytes):
                        cell = cell.decode("utf-8", "replace")
                    if isinstance(cell, str):
                        keys.update(object_name.findall(cell))
catalog.close()

if bucket:
    host = bucket["endpoint"].split("://")[1]
    files = fs.S3FileSystem(endpoint_override=host, scheme="http", region="us-east-1",
                            access_key=bucket["access_key"], secret_key=bucket["secret_key"])
    root = bucket["name"] + "/warehouse"
else:
    files = fs.LocalFileSystem()
    root = os.path.join(ask["data"], "warehouse")
found = files.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
paths = [info.path for info in found if info.type == fs.FileType.File]

def hidden(path):
    return any(part[:1] in ("_", ".") for part in path[len(root):].split("/") if part)

rows, total, strays = 0, 0, []
if location:
    folder = re.sub("^(s3a?://|file:/*(?=/))", "", location[0]).rstrip("/") + "/"
    for path in paths:
        if path.startswith(folder) and not hidden(path):
            column = pq.read_table(path, columns=["k"], filesystem=files, partitioning=None).column("k")
            rows += len(column)
            total += pc.sum(column).as_py() or 0
else:
    strays = [path for path in paths if "/" + ask["table"] + "/" in path and not hidden(path)]

keys.update(path[len(bucket["name"]) + 1:-len(".upload")] for path in paths if bucket and path.endswith(".upload"))
uploads = []
if bucket:
    import boto3
    s3 = boto3.client("s3", endpoint_url=bucket["endpoint"], region_name="us-east-1",
                      aws_access_key_id=bucket["access_key"], aws_secret_access_key=bucket["secret_key"])
    for key in sorted(keys):
        listed = s3.list_multipart_uploads(Bucket=bucket["name"], Prefix=key)
        uploads += [upload["Key"] for upload in listed.get("Uploads", [])]

print(json.dumps({
    "numbers": [rows, total],
    "strays": strays,
    "staged": [path for path in paths if "/_tereza/" in path],
    "writes": writes,
    "keys": sorted(keys),
    "uploads": uploads,
}))
