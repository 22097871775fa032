"""Presto, Spark and Tereza as three engines of one kind: `run(text)` gives rows of plain values that can be compared.

A plain value is None, a truth value, a text, a list or a dictionary (of a map and of a struct). Numbers are texts without zeros
at their end, times are texts without zeros at their end, and bytes are hexadecimal: what is left is what all three mean.
"""

import base64
import ctypes
import datetime
import getpass
import hashlib
import hmac
import json
import logging
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from decimal import Decimal

# No server takes longer to be ready, no statement longer to be answered.
START_S = 180
STATEMENT_S = 300
# Presto lets only the owner of a table drop it, and Spark is whoever runs it.
USER = getpass.getuser()


class Failed(Exception):
    """What an engine says instead of rows."""


def number(value):
    text = format(Decimal(str(value)), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def moment(text):
    text = text.replace("T", " ").removesuffix(" UTC").removesuffix("Z")
    return text.rstrip("0").rstrip(".") if "." in text else text


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, ask, process=None, limit_s=START_S):
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        if process is not None and process.poll() is not None:
            raise SystemExit(f"{what} ended with {process.returncode}")
        answer = ask()
        if answer:
            return answer
        time.sleep(0.1)
    raise SystemExit(f"waited {limit_s} s for {what}")


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.read().decode()
    except (urllib.error.URLError, OSError):
        return None


def start(command, folder, log, more=None):
    """Starts a process that ends when this one does, however it ends."""
    with open(log, "w") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder,
                                env=os.environ | (more or {}), preexec_fn=die_with_parent)


def die_with_parent():
    set_death_signal = 1
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


class Minio:
    """An object store with one bucket."""

    def __init__(self, program, folder, s3, bucket):
        # A single-drive MinIO takes each folder of its drive for a bucket.
        self.s3, self.bucket, self.drive = s3, bucket, folder / "minio" / bucket
        self.drive.mkdir(parents=True)
        address = s3["endpoint"].removeprefix("http://")
        command = [program, "server", "--quiet", "--address", address, folder / "minio"]
        more = {"MINIO_ROOT_USER": s3["access_key"], "MINIO_ROOT_PASSWORD": s3["secret_key"],
                "MINIO_UPDATE": "off", "MINIO_BROWSER": "off"}
        self.process = start(command, folder, folder / "minio.log", more)
        wait_for("MinIO", lambda: get(f"{s3['endpoint']}/minio/health/ready") is not None, self.process)

    def keys(self, part):
        """The names of objects that have `part` in them."""
        found = (path.parent.relative_to(self.drive).as_posix() for path in self.drive.rglob("xl.meta"))
        return sorted(key for key in found if part in key)

    def put(self, key, body=b"", source=None):
        """An object with some bytes, or with those of another."""
        path = "/" + urllib.parse.quote(f"{self.bucket}/{key}")
        host = self.s3["endpoint"].removeprefix("http://")
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": host, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), "x-amz-date": now}
        if source is not None:
            headers["x-amz-copy-source"] = "/" + urllib.parse.quote(f"{self.bucket}/{source}")
        names = ";".join(sorted(headers))
        lines = ["PUT", path, "", *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names]
        request = "\n".join([*lines, headers["x-amz-content-sha256"]])
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        signed = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        secret = ("AWS4" + self.s3["secret_key"]).encode()
        for part in [*scope.split("/"), signed]:
            secret = hmac.digest(secret, part.encode(), "sha256")
        who = f"Credential={self.s3['access_key']}/{scope}, SignedHeaders={names}, Signature={secret.hex()}"
        headers["authorization"] = f"AWS4-HMAC-SHA256 {who}"
        with urllib.request.urlopen(urllib.request.Request(self.s3["endpoint"] + path, body, headers, method="PUT")):
            pass

    def end(self):
        self.process.kill()
        self.process.wait()


class Tereza:
    """Statements through Flight SQL, by the command line of the same binary; and the metastore of the others."""

    def __init__(self, program, endpoints, process=None):
        self.program, self.process = program, process
        self.flight_sql, self.metastore = endpoints["flight_sql"], endpoints["metastore"]
        self.console = endpoints["console"]

    @classmethod
    def start(cls, program, data, s3, warehouse, more=()):
        settings = [f"listen.{port}=0" for port in ("flight_sql", "metastore", "registry", "console")]
        settings += [f"s3.{key}={value}" for key, value in s3.items()]
        settings += ["s3.allow_http=true", f"warehouse.url={warehouse}", *more]
        command = [program, "up", "--data", data] + [word for pair in settings for word in ("--set", pair)]
        process = start(command, data.parent, data.with_suffix(".log"))
        endpoints = data / "endpoints.json"
        wait_for("Tereza", endpoints.exists, process)
        found = json.loads(endpoints.read_text())["endpoints"]
        wait_for("Tereza", lambda: get(f"{found['console']}/readyz") is not None, process)
        return cls(program, found, process)

    def end(self):
        self.process.terminate()
        self.process.wait()

    def run(self, text):
        command = [self.program, "sql", "--url", self.flight_sql, "--user", USER, "--format", "json", "-c", text]
        try:
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=STATEMENT_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"no answer in {STATEMENT_S} s") from None
        if done.returncode != 0:
            raise Failed(done.stderr.strip())
        rows = []
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                rows.append([self.plain(value) for value in json.loads(line, parse_float=Decimal).values()])
        return rows

    def plain(self, value):
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, (int, Decimal)):
            return number(value)
        if isinstance(value, list):
            return [self.plain(item) for item in value]
        if isinstance(value, dict):
            return {key: self.plain(item) for key, item in value.items()}
        is_moment = len(value) >= 19 and value[4:5] == "-" and value[10] == "T"
        return moment(value) if is_moment else value

    def rss(self):
        """Resident memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(f"{int(line.split()[1]) // 1024} MB" for line in status if line.startswith("VmRSS:"))

    def calls(self):
        """How often each method of the metastore was called so far."""
        counts = {}
        for line in (get(f"{self.console}/metrics") or "").splitlines():
            if line.startswith("tereza_metastore_calls_total{"):
                method = line.split('method="', 1)[1].split('"', 1)[0]
                counts[method] = counts.get(method, 0) + int(float(line.rsplit(" ", 1)[1]))
        return counts


class Presto:
    """A Presto of one node, started here, and its statement protocol over HTTP."""

    PACKAGES = "io lang lang.ref lang.reflect net nio security text time util util.concurrent util.concurrent.atomic util.regex"
    MODULES = (
        "java.base/javax.security.auth java.base/javax.security.auth.login java.base/jdk.internal.loader java.base/sun.nio.ch "
        "java.security.jgss/sun.security.krb5 java.management/com.sun.jmx.mbeanserver "
        "jdk.management/com.sun.management.internal"
    )

    def __init__(self, home, folder, metastore, s3):
        folder = pathlib.Path(folder)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        (folder / "catalog").mkdir(parents=True)
        settings = {
            "coordinator": "true", "node-scheduler.include-coordinator": "true", "http-server.http.port": port,
            "discovery-server.enabled": "true", "discovery.uri": self.url, "query.max-memory": "512MB",
            "query.max-memory-per-node": "512MB", "query.max-total-memory-per-node": "700MB",
        }
        hive = {
            "connector.name": "hive-hadoop2", "hive.metastore.uri": metastore, "hive.s3.endpoint": s3["endpoint"],
            "hive.s3.path-style-access": "true", "hive.s3.ssl.enabled": "false",
            "hive.s3.aws-access-key": s3["access_key"], "hive.s3.aws-secret-key": s3["secret_key"],
            "hive.storage-format": "PARQUET", "hive.allow-drop-table": "true", "hive.allow-rename-table": "true",
            "hive.allow-add-column": "true", "hive.allow-rename-column": "true", "hive.allow-drop-column": "true",
            "hive.non-managed-table-writes-enabled": "true", "hive.metastore-cache-ttl": "0s",
            "hive.parquet.use-column-names": "true", "hive.orc.use-column-names": "true",
            "hive.time-zone": "UTC", "hive.max-partitions-per-writers": "1000",
            "hive.insert-existing-partitions-behavior": "APPEND",
        }
        for name, values in [("config", settings), ("log", {"com.facebook.presto": "WARN"}), ("catalog/hive", hive),
                             ("catalog/tpch", {"connector.name": "tpch"})]:
            (folder / f"{name}.properties").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        opens = [f"java.base/java.{name}" for name in self.PACKAGES.split()] + self.MODULES.split()
        command = ["java", "-server", "-Xmx1536m", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError",
                   "-Djdk.attach.allowAttachSelf=true", "-Duser.timezone=UTC"]
        command += [f"--add-opens={name}=ALL-UNNAMED" for name in opens]
        command += ["-cp", f"{home}/lib/*", "-Dnode.environment=lake", "-Dnode.id=lake-1", "-Dnode.bind-ip=127.0.0.1",
                    "-Dnode.internal-address=127.0.0.1", f"-Dnode.data-dir={folder}/data",
                    f"-Dconfig={folder}/config.properties", f"-Dlog.levels-file={folder}/log.properties",
                    f"-Dplugin.dir={home}/plugin", f"-Dcatalog.config-dir={folder}/catalog",
                    "com.facebook.presto.server.PrestoServer"]
        self.log = folder / "presto.log"
        self.process = start(command, folder, self.log)
        try:
            wait_for("Presto", self.is_ready, self.process)
        except SystemExit as error:
            self.end()
            raise SystemExit(f"{error}\n{self.log.read_text()[-4000:]}") from None

    def is_ready(self):
        """It knows its own node a while after it says that it has started."""
        if '"starting":false' not in (get(f"{self.url}/v1/info") or ""):
            return False
        try:
            return self.run("SELECT count(*) FROM system.runtime.nodes WHERE state = 'active'") == [["1"]]
        except Failed:
            return False

    def end(self):
        self.process.kill()
        self.process.wait()

    def run(self, text, session=""):
        headers = {"X-Presto-User": USER, "X-Presto-Catalog": "hive", "X-Presto-Schema": "default",
                   "X-Presto-Time-Zone": "UTC", "X-Presto-Source": "lake"}
        if session:
            headers["X-Presto-Session"] = session
        request = urllib.request.Request(f"{self.url}/v1/statement", text.encode(), headers, method="POST")
        rows, columns, began = [], [], time.monotonic()
        while True:
            try:
                with urllib.request.urlopen(request, timeout=STATEMENT_S) as reply:
                    page = json.loads(reply.read(), parse_float=Decimal)
            except (urllib.error.URLError, OSError) as error:
                raise Failed(str(error)) from None
            if "error" in page:
                error = page["error"]
                raise Failed(f"{error.get('errorName')}: {error.get('message')}")
            columns = page.get("columns") or columns
            types = [column["typeSignature"] for column in columns]
            for row in page.get("data") or []:
                rows.append([self.plain(value, kind) for value, kind in zip(row, types)])
            if "nextUri" not in page:
                return rows
            if time.monotonic() - began > STATEMENT_S:
                raise Failed(f"no answer in {STATEMENT_S} s")
            request = urllib.request.Request(page["nextUri"], headers={"X-Presto-User": USER})

    def plain(self, value, kind):
        name = kind["rawType"]
        if value is None or name == "boolean":
            return value
        inner = kind["typeArguments"]
        if name in ("array", "map", "row") and isinstance(value, str):
            value = json.loads(value, parse_float=Decimal)
        if name == "array":
            return [self.plain(item, inner[0]) for item in value]
        if name == "map":
            return {self.plain(key, inner[0]): self.plain(item, inner[1]) for key, item in value.items()}
        if name == "row":
            return {key: self.plain(item, of) for key, item, of in zip(kind["literalArguments"], value, inner)}
        if name in ("tinyint", "smallint", "integer", "bigint", "real", "double", "decimal"):
            return number(value)
        if name.startswith("timestamp"):
            return moment(value)
        if name == "varbinary":
            return base64.b64decode(value).hex()
        return value


class Spark:
    """A Spark in this process, with Hive support."""

    def __init__(self, metastore, warehouse, s3, jars, more=()):
        from pyspark.sql import SparkSession

        settings = {
            "spark.hadoop.hive.metastore.uris": metastore, "spark.sql.warehouse.dir": warehouse,
            "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false",
            "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "1g", "spark.sql.shuffle.partitions": "1", "spark.sql.session.timeZone": "UTC",
            "spark.driver.extraClassPath": os.pathsep.join(jars),
            "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
            "spark.hadoop.hive.exec.dynamic.partition.mode": "nonstrict",
            "spark.hadoop.fs.s3a.endpoint": s3["endpoint"], "spark.hadoop.fs.s3a.path.style.access": "true",
            "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
            "spark.hadoop.fs.s3a.access.key": s3["access_key"], "spark.hadoop.fs.s3a.secret.key": s3["secret_key"],
        } | dict(more)
        logging.getLogger("SQLQueryContextLogger").disabled = True
        builder = SparkSession.builder.master("local[2]").enableHiveSupport()
        for key, value in settings.items():
            builder = builder.config(key, value)
        self.session = builder.getOrCreate()
        self.session.sparkContext.setLogLevel("OFF")

    def run(self, text):
        from pyspark.errors import PySparkException
        from py4j.protocol import Py4JError

        try:
            return [[self.plain(value) for value in row] for row in self.session.sql(text).collect()]
        except (PySparkException, Py4JError) as error:
            raise Failed(str(error)) from None

    def plain(self, value):
        if isinstance(value, bool) or value is None or isinstance(value, str):
            return value
        if isinstance(value, (int, float, Decimal)):
            return number(value)
        if isinstance(value, (bytes, bytearray)):
            return bytes(value).hex()
        if isinstance(value, datetime.datetime):
            return moment(value.isoformat(" "))
        if isinstance(value, datetime.date):
            return value.isoformat()
        if hasattr(value, "asDict"):
            return {key: self.plain(item) for key, item in value.asDict().items()}
        if isinstance(value, dict):
            return {self.plain(key): self.plain(item) for key, item in value.items()}
        return [self.plain(item) for item in value]

    def end(self):
        self.session.stop()
