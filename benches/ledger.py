#!/usr/bin/env python3
"""The ledger of stream jobs: what Kafka and a table have in the end, after everything below them died again and again.

    python3 benches/ledger.py TEREZA [--kills N] [--seed N] [--kafka JARS] [--minio PROGRAM] [--json FILE]

One job sums amounts by key in windows into a topic, and writes each row into a partitioned table. A producer of its own makes the
rows and keeps the truth. Two servers share a catalog in MariaDB; state, logs and the table are in MinIO. Again and again one of
these happens, as the seed says: a server is killed (`kill -9`) and begun again; the server that works is stopped (SIGSTOP) until the
other has the job, and goes on as a zombie; the broker, MinIO or the database is killed and begun again. In the end a client that is not
Tereza's reads the topic with `read_committed`, and every window of every key must be there once with its sum, and every row must be
in the table once. Prints the seed; the same seed makes the same choices. Needs confluent_kafka, MariaDB and MinIO; all servers are on free ports
of this machine and are ended.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from nexmark import Kafka, free_port, wait_for

PARTITIONS = 3
KEYS = 17
WINDOW_MS = 10_000
STEP_MS = 25
ROWS_PER_S = 800
EPOCH_MS = 200
LEASE_MS = 3_000
PATIENCE_S = 240
# What happens, and how often in a hundred.
EVENTS = {"kill": 62, "zombie": 22, "broker": 6, "minio": 5, "database": 5}


class MariaDb:
    def __init__(self, folder):
        self.folder, self.port = folder / "mariadb", free_port()
        self.folder.mkdir()
        subprocess.run(["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
                        "--user=root", f"--datadir={self.folder}/data"], check=True, stdout=subprocess.DEVNULL)
        (self.folder / "init.sql").write_text(
            "CREATE USER IF NOT EXISTS tereza@'127.0.0.1' IDENTIFIED BY 'secret';\nGRANT ALL ON *.* TO tereza@'127.0.0.1';\n"
            "CREATE DATABASE IF NOT EXISTS lake;\n")
        self.start()

    def start(self):
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen(
            ["mariadbd", "--no-defaults", "--user=root", "--bind-address=127.0.0.1", f"--port={self.port}",
             f"--datadir={self.folder}/data", f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid",
             f"--init-file={self.folder}/init.sql", "--skip-name-resolve", "--innodb-buffer-pool-size=64M"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for("MariaDB", lambda: "ready for connections" in (self.folder / "log").read_text())

    @property
    def url(self):
        return f"mysql://tereza:secret@127.0.0.1:{self.port}/lake"


class Minio:
    def __init__(self, program, folder):
        self.program, self.folder, self.port = program, folder / "minio", free_port()
        (self.folder / "lake").mkdir(parents=True)
        self.log = open(folder / "minio.log", "w")
        self.start()

    def start(self):
        environment = {**os.environ, "MINIO_ROOT_USER": "tereza", "MINIO_ROOT_PASSWORD": "secret-secret"}
        self.process = subprocess.Popen(
            [self.program, "server", "--quiet", "--address", f"127.0.0.1:{self.port}", "--console-address", f"127.0.0.1:{free_port()}",
             str(self.folder)], env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    @property
    def settings(self):
        return [f"s3.endpoint=http://127.0.0.1:{self.port}", "s3.allow_http=true", "s3.access_key=tereza",
                "s3.secret_key=secret-secret", "s3.path_style=true"]


class Server:
    def __init__(self, program, folder, name, settings):
        self.program, self.name, self.data, self.settings = program, name, folder / name, settings
        self.log = open(folder / f"{name}.log", "a")
        self.start()

    def start(self):
        (self.data / "endpoints.json").unlink(missing_ok=True)
        ports = [f"listen.{port}=0" for port in ("flight_sql", "metastore", "registry", "console", "scheduler")]
        command = [self.program, "up", "--data", str(self.data)]
        for setting in (*ports, *self.settings):
            command += ["--set", setting]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def url(self):
        path = self.data / "endpoints.json"
        return wait_for(f"server {self.name}", lambda: path.exists() and json.loads(path.read_text())["endpoints"]["flight_sql"], 60)

    def run(self, *arguments):
        return subprocess.run([self.program, *arguments, "--url", self.url()], capture_output=True, text=True)

    def ask(self, statement):
        """Rows, or nothing while something of it is away."""
        run = self.run("sql", "--format", "json", "-c", statement)
        if run.returncode:
            return None
        return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


class Orders(threading.Thread):
    """Writes rows until it is told to end, and keeps the truth of what was acknowledged; a row that is not ends the run."""

    def __init__(self, bootstrap, seed):
        super().__init__(daemon=True)
        self.random, self.next, self.ends, self.lost = random.Random(seed), 0, threading.Event(), []
        self.windows = collections.defaultdict(lambda: [0, 0])
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20,
                                  "message.timeout.ms": 600_000, "logger": quiet()})

    def put(self, partition, key, seq, amount, ms):
        value = json.dumps({"key": key, "seq": seq, "amount": amount, "ts": timestamp(ms)})

        def told(error, _):
            if error:
                self.lost.append((seq, str(error)))

        while True:
            try:
                return self.producer.produce("orders", value, key, partition, on_delivery=told)
            except BufferError:
                self.producer.poll(0.1)

    def run(self):
        while not self.ends.is_set():
            for _ in range(ROWS_PER_S // 20):
                seq, self.next = self.next, self.next + 1
                key, amount, ms = self.random.randrange(KEYS), self.random.randrange(1, 1000), seq // PARTITIONS * STEP_MS
                of = self.windows[(ms // WINDOW_MS * WINDOW_MS, f"k{key}")]
                of[0] += 1
                of[1] += amount
                self.put(seq % PARTITIONS, f"k{key}", seq, amount, ms)
            self.producer.poll(0)
            self.ends.wait(0.05)

    def end(self):
        self.ends.set()
        self.join()
        later = (self.next // PARTITIONS * STEP_MS // WINDOW_MS + 20) * WINDOW_MS
        for partition in range(PARTITIONS):
            self.put(partition, "end", -1, 0, later)
        left = self.producer.flush(PATIENCE_S)
        if left or self.lost:
            raise SystemExit(f"the producer lost rows: {left} {self.lost[:3]}")


def quiet():
    import logging
    logger = logging.getLogger("rdkafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def timestamp(ms):
    seconds, millis = divmod(ms, 1000)
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1_767_225_600 + seconds))
    return f"{day}.{millis:03}"


def read(bootstrap, topic, count):
    """Committed rows: until there are so many, and then those that should not be there."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "judge", "isolation.level": "read_committed",
                         "enable.auto.commit": False, "auto.offset.reset": "earliest", "logger": quiet()})
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    rows, deadline = [], time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                continue
            raise SystemExit(f"{topic}: {message.error()}")
        rows.append(json.loads(message.value()))
        if len(rows) == count:
            deadline = time.monotonic() + 5
    consumer.close()
    return rows


def job_text(kafka):
    options = (f"'connector' = 'kafka', 'properties.bootstrap.servers' = '127.0.0.1:{kafka.port}', "
               "'scan.startup.mode' = 'earliest-offset', 'format' = 'json'")
    return f"""SET tereza.dialect = 'flink';
CREATE TABLE archive (seq BIGINT, amount BIGINT, k STRING) PARTITIONED BY (k);
CREATE TABLE orders (`key` STRING, seq BIGINT, amount BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('topic' = 'orders', {options});
CREATE TABLE totals (w TIMESTAMP(3), `key` STRING, n BIGINT, total BIGINT) WITH ('topic' = 'totals', {options});
SET 'execution.checkpointing.interval' = '{EPOCH_MS} ms';
SET 'table.exec.sink.commit-interval' = '1 s';
EXECUTE STATEMENT SET BEGIN
  INSERT INTO totals SELECT window_start, `key`, COUNT(*), SUM(amount)
    FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, `key`;
  INSERT INTO archive SELECT seq, amount, `key` FROM orders;
END;"""


class World:
    def __init__(self, arguments, folder, seed):
        self.random, self.done, self.folder = random.Random(seed), collections.Counter(), folder
        self.kafka = Kafka(arguments.kafka, folder)
        for topic in ("orders", "totals"):
            self.kafka.topic(topic, PARTITIONS)
        self.minio, self.database = Minio(arguments.minio, folder), MariaDb(folder)
        settings = [f"catalog.url={self.database.url}", "catalog.create=true", f"catalog.lease_ms={LEASE_MS}",
                    "warehouse.url=s3://lake/warehouse", "streaming.url=s3://lake/streams", "streaming.retry_pause_ms=100",
                    *self.minio.settings]
        self.servers = [Server(arguments.tereza, folder, name, settings) for name in ("here", "there")]

    def submit(self):
        script = self.folder / "job.sql"
        script.write_text(job_text(self.kafka))
        run = self.servers[0].run("submit", str(script), "--wait")
        if run.returncode:
            raise SystemExit(run.stderr)
        rows = wait_for("the job", lambda: self.servers[0].ask("SELECT job_id FROM system.runtime.jobs WHERE kind = 'stream'"))
        self.job = rows[0]["job_id"]

    def shown(self):
        """The job, as the server says it that runs it: others know no epoch."""
        ask = f"SELECT state, epoch, error FROM system.runtime.jobs WHERE job_id = '{self.job}'"
        rows = [row for server in self.servers for row in server.ask(ask) or []]
        return max(rows, key=lambda row: row["epoch"] or 0, default=None)

    def goes_on(self):
        """Waits for an epoch that was not there."""
        before = wait_for("the catalog", self.shown, PATIENCE_S)

        def is_later():
            row = self.shown()
            if row and row["state"] not in ("running", "queued"):
                raise SystemExit(f"the job is {row['state']}: {row.get('error')}")
            return row and (row["epoch"] or 0) > (before["epoch"] or 0)

        began = time.monotonic()
        wait_for("an epoch", is_later, PATIENCE_S, 0.1)
        return time.monotonic() - began

    def event(self):
        what = self.random.choices(list(EVENTS), EVENTS.values())[0]
        pause = self.random.uniform(0, 1.5)
        one, other = self.random.sample(self.servers, 2)
        time.sleep(pause)
        if what == "kill":
            one.process.kill()
            one.process.wait()
            one.start()
        elif what == "zombie":
            one.process.send_signal(signal.SIGSTOP)
            time.sleep(LEASE_MS / 1000 * self.random.uniform(1.2, 2.5))
            one.process.send_signal(signal.SIGCONT)
            if self.random.random() < 0.5:
                other.process.kill()
                other.process.wait()
                other.start()
                self.done["kill"] += 1
        else:
            part = {"broker": self.kafka, "minio": self.minio, "database": self.database}[what]
            part.process.kill()
            part.process.wait()
            time.sleep(self.random.uniform(0, 3))
            part.start()
        self.done[what] += 1
        return what

    def stop(self):
        for part in (*self.servers, self.minio, self.database):
            part.process.kill()
            part.process.wait()
        self.kafka.stop()


def kills(world):
    """How often a process was killed; zombies do not count."""
    return sum(count for what, count in world.done.items() if what != "zombie")


def judge(world, orders):
    """What is wrong, a line each."""
    wrong, seen = [], collections.Counter()
    expected = {(timestamp(start)[:19], key): tuple(of) for (start, key), of in orders.windows.items()}
    for row in read(f"127.0.0.1:{world.kafka.port}", "totals", len(expected)):
        at = (row["w"].replace("T", " ")[:19], row["key"])
        seen[at] += 1
        if expected.get(at) != (row["n"], row["total"]):
            wrong.append(f"window {at}: {(row['n'], row['total'])}, expected {expected.get(at)}")
    wrong += [f"window {at} is there {count} times" for at, count in seen.items() if count != 1]
    wrong += [f"window {at} is lost" for at in expected if at not in seen]
    amount = sum(of[1] for of in orders.windows.values())
    all_rows = {"n": orders.next + PARTITIONS, "seqs": orders.next + 1, "amount": amount}

    def in_table():
        return next((rows for server in world.servers
                     if (rows := server.ask("SELECT count(*) n, count(DISTINCT seq) seqs, sum(amount) amount FROM archive"))), [None])[0]

    deadline = time.monotonic() + PATIENCE_S
    while in_table() != all_rows and time.monotonic() < deadline:
        time.sleep(0.5)
    found = in_table()
    if found != all_rows:
        wrong.append(f"the table has {found}, expected {all_rows}")
    return wrong, len(expected)


def main():
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "tereza"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tereza")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--kafka", default=str(home / "kafka"))
    parser.add_argument("--minio", default=shutil.which("minio") or str(home / "bin/minio"))
    parser.add_argument("--keep", help="a folder where the logs of the servers go when something is wrong")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    began, recoveries = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="tereza-ledger-") as folder:
        folder = pathlib.Path(folder)
        world = World(arguments, folder, seed)
        try:
            world.submit()
            orders = Orders(f"127.0.0.1:{world.kafka.port}", seed)
            orders.start()
            world.goes_on()
            while kills(world) < arguments.kills:
                what = world.event()
                took = world.goes_on()
                recoveries.append(took)
                print(f"{kills(world):4} {what:8} goes on after {took:.1f} s", file=sys.stderr, flush=True)
            orders.end()
            wrong, windows = judge(world, orders)
        except BaseException:
            wrong = ["not judged"]
            raise
        finally:
            world.stop()
            if wrong and arguments.keep:
                shutil.copytree(folder, arguments.keep, ignore=shutil.ignore_patterns("kafka", "minio", "mariadb"), dirs_exist_ok=True)
    report = {"seed": seed, "events": dict(world.done), "rows": orders.next, "windows": windows, "wrong": wrong[:50],
              "recovery_s": {"median": round(sorted(recoveries)[len(recoveries) // 2], 2), "longest": round(max(recoveries), 2)},
              "seconds": round(time.monotonic() - began)}
    print(json.dumps(report))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
