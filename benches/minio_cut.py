"""What MinIO makes of requests whose client goes away: completions of uploads, and copies (docs/decisions/0001).

    PYTHON benches/minio_cut.py MINIO [--tries N]     PYTHON with boto3 and the MINIO that scripts/test-setup.sh installs

Each try sends one request, closes the connection after a random time, and then asks again as the next process would. "lost"
is a request that can never be done any more. The seed is fixed; the server's timing is not, so the numbers vary.
"""

import argparse
import os
import random
import socket
import subprocess
import tempfile
import time

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

USER, PASSWORD, BUCKET = "minio", "minio123", "cut"
PART = os.urandom(8 << 20)
COMPLETION_S, COPY_S = 0.006, 0.03  # connections are closed within these, which is about what the requests take


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def cut(port, method, path, body, headers, delay):
    request = AWSRequest(method=method, url=f"http://127.0.0.1:{port}{path}", data=body,
                         headers={"Host": f"127.0.0.1:{port}", **headers})
    S3SigV4Auth(Credentials(USER, PASSWORD), "s3", "us-east-1").add_auth(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"{method} {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        time.sleep(delay)
    time.sleep(0.15)  # for the server to notice


def exists(s3, key):
    try:
        s3.head_object(Bucket=BUCKET, Key=key)
        return True
    except s3.exceptions.ClientError:
        return False


def completion(s3, port, key, delay):
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    parts = []
    for number, data in enumerate((PART, PART[:1000]), 1):
        part = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=data)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    listed = "".join(f"<Part><PartNumber>{p['PartNumber']}</PartNumber><ETag>{p['ETag']}</ETag></Part>" for p in parts)
    body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    cut(port, "POST", f"/{BUCKET}/{key}?uploadId={upload}", body, {}, delay)
    if exists(s3, key):
        return "done"
    try:
        s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
        return "done at the second try"
    except s3.exceptions.ClientError:
        return "lost"


def copy(s3, port, key, delay):
    source = f"{key}-source"
    s3.put_object(Bucket=BUCKET, Key=source, Body=PART)
    cut(port, "PUT", f"/{BUCKET}/{key}", b"", {"x-amz-copy-source": f"/{BUCKET}/{source}"}, delay)
    first = exists(s3, key)
    try:
        if not first:
            s3.copy_object(Bucket=BUCKET, Key=key, CopySource=f"{BUCKET}/{source}")
        whole = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == PART
    except s3.exceptions.ClientError:
        whole = False
    return "lost" if not whole else "done" if first else "done at the second try"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("minio")
    parser.add_argument("--tries", type=int, default=150)
    arguments = parser.parse_args()
    port, chance = free_port(), random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [arguments.minio, "server", folder, "--address", f"127.0.0.1:{port}", "--console-address", "127.0.0.1:0"],
            env={**os.environ, "MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                              aws_access_key_id=USER, aws_secret_access_key=PASSWORD)
            for attempt in range(100):
                try:
                    s3.create_bucket(Bucket=BUCKET)
                    break
                except Exception:
                    if attempt == 99:
                        raise
                    time.sleep(0.1)
            for what, run, limit in (("completion", completion, COMPLETION_S), ("copy", copy, COPY_S)):
                outcomes = {"done": 0, "done at the second try": 0, "lost": 0}
                for number in range(arguments.tries):
                    key = f"{what}-{number}"
                    outcomes[run(s3, port, key, chance.uniform(0, limit))] += 1
                    for name in (key, f"{key}-source"):
                        s3.delete_object(Bucket=BUCKET, Key=name)
                print(f"{what}, cut off within {limit * 1000:.0f} ms: {outcomes}")
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
