#!/usr/bin/env python3
"""What stream jobs take: rows a second from end to end, commits, latency, recovery, memory at rest.

    python3 benches/streams.py TEREZA [--flink HOME] [--kafka JARS] [--lanes generator,kafka,latency,recovery,idle] [--events N]
                               [--state-mb N] [--json FILE]

Lanes:
  generator  events of Nexmark made in the process, to a blackhole
  kafka      the same events from one topic to another, exactly once, with epochs of a second; beside Flink, if HOME is given, which
             takes its checkpoints as often
  latency    rows of a paced producer, from the moment they are made to the moment when a client with read_committed has them, with
             epochs of 1 s and of 200 ms; and how long the commits of these epochs took
  recovery   a job that holds so much state is killed (`kill -9`) and begun again; seconds from the start of the process to its first
             commit after it, and to the server's readiness
  idle       memory of `tereza stream` with one job that gets no rows, and without any job
All servers are on free ports of this machine and are ended. Needs confluent_kafka, and MariaDB for the lane `idle`.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import statistics
import sys
import tempfile
import threading
import time
import urllib.request

from confluent_kafka import Consumer, Producer, TopicPartition

import nexmark
from nexmark import EVENT, Flink, Kafka, Tereza, cpu_seconds, resident_mb, wait_for

LANES = ("generator", "kafka", "latency", "recovery", "idle")
BID = "bid.auction, bid.bidder, bid.price, bid.`dateTime`, bid.extra"
OUT = "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra STRING"
ROWS_PER_S = 2_000
LATENCY_S = 30
REST_S = 45
PATIENCE_S = 900


def made(events):
    return (f"CREATE TEMPORARY TABLE made ({EVENT}) WITH ('connector' = 'nexmark', 'events.num' = '{events}', "
            "'base-time' = '1700000000000')")


def on_topic(kafka, name, topic, columns, more=""):
    return (f"CREATE TABLE IF NOT EXISTS {name} ({columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}', "
            f"'properties.bootstrap.servers' = '127.0.0.1:{kafka.port}', 'format' = 'json', "
            f"'scan.startup.mode' = 'earliest-offset'{more})")


def measured(engine, statements, events):
    before = cpu_seconds(engine.pid)
    wall = engine.job(statements)
    cpu = cpu_seconds(engine.pid) - before
    return {"s": round(wall, 2), "cpu_s": round(cpu, 2), "events_per_s": round(events / wall),
            "events_per_cpu_s": round(events / cpu), "rss_mb": round(resident_mb(engine.pid))}


def generator(tereza, events):
    sink = f"CREATE TEMPORARY TABLE sink ({OUT}) WITH ('connector' = 'blackhole')"
    statements = [made(events), sink, f"INSERT INTO sink SELECT {BID} FROM made WHERE event_type = 2"]
    tereza.job(statements)
    return measured(tereza, statements, events)


def through_kafka(kafka, tereza, flink, events):
    kafka.topic("events")
    tereza.job([made(events), on_topic(kafka, "events", "events", EVENT), "INSERT INTO events SELECT * FROM made"])
    found = {}
    for engine in filter(None, (tereza, flink)):
        exactly_once = {"tereza": "", "flink": ", 'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'bench'"
                                               ", 'properties.transaction.timeout.ms' = '600000'"}[engine.name]
        for turn in ("warm", "counted"):
            topic = f"{engine.name}-{turn}"
            kafka.topic(topic)
            sink = on_topic(kafka, f"sink_{engine.name}_{turn}", topic, OUT, exactly_once)
            read = on_topic(kafka, "nexmark_events", "events", EVENT, ", 'scan.bounded.mode' = 'latest-offset'")
            epochs = "SET 'execution.checkpointing.interval' = '1 s'"
            query = f"INSERT INTO sink_{engine.name}_{turn} SELECT {BID} FROM nexmark_events WHERE event_type = 2"
            found[engine.name] = measured(engine, [epochs, read, sink, query], events)
    if flink:
        found["per_core"] = round(found["flink"]["cpu_s"] / found["tereza"]["cpu_s"], 2)
        found["wall"] = round(found["flink"]["s"] / found["tereza"]["s"], 2)
    return found


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def metrics(tereza):
    console = json.loads((tereza.folder / "endpoints.json").read_text())["endpoints"]["console"]
    with urllib.request.urlopen(f"{console.rstrip('/')}/metrics") as response:
        return response.read().decode()


def commit_buckets(text):
    found = re.findall(r'^tereza_stream_commit_seconds_bucket\{le="([^"]+)"\} (\d+)', text, re.M)
    return {float(bound.replace("+Inf", "inf")): int(count) for bound, count in found}


def start(tereza, statements):
    return next(row["job_id"] for row in tereza.sql(statements) if "job_id" in row)


def cancel(tereza, job):
    tereza.sql([f"STOP JOB '{job}'"])


def latency(kafka, tereza, epoch_ms):
    source, target = f"in-{epoch_ms}", f"out-{epoch_ms}"
    kafka.topic(source)
    kafka.topic(target)
    columns = "id BIGINT, made_ns BIGINT"
    before = commit_buckets(metrics(tereza))
    job = start(tereza, [on_topic(kafka, f"in_{epoch_ms}", source, columns), on_topic(kafka, f"out_{epoch_ms}", target, columns),
                         f"SET 'execution.checkpointing.interval' = '{epoch_ms} ms'",
                         f"INSERT INTO out_{epoch_ms} SELECT id, made_ns FROM in_{epoch_ms}"])
    bootstrap = f"127.0.0.1:{kafka.port}"
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": target, "isolation.level": "read_committed",
                         "enable.auto.commit": False, "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(target, partition, 0) for partition in range(nexmark.PARTITIONS)])
    count, ends = ROWS_PER_S * LATENCY_S, threading.Event()

    def produce():
        producer, began = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1}), time.monotonic()
        for number in range(count):
            wait = began + number / ROWS_PER_S - time.monotonic()
            if wait > 0:
                producer.poll(0)
                time.sleep(wait)
            producer.produce(source, json.dumps({"id": number, "made_ns": time.monotonic_ns()}), partition=number % nexmark.PARTITIONS)
        producer.flush()

    writing = threading.Thread(target=produce, daemon=True)
    writing.start()
    took, deadline = [], time.monotonic() + LATENCY_S + 60
    while len(took) < count and time.monotonic() < deadline:
        for message in consumer.consume(5000, 0.05):
            row = json.loads(message.value())
            # The first seconds are those of a job that begins.
            took.append((time.monotonic_ns() - row["made_ns"]) / 1e6 if row["id"] >= 5 * ROWS_PER_S else None)
    writing.join()
    consumer.close()
    cancel(tereza, job)
    if len(took) != count:
        raise SystemExit(f"{len(took)} of {count} rows arrived")
    took = [one for one in took if one is not None]
    commits = commit_buckets(metrics(tereza))
    commits = {bound: commits[bound] - before.get(bound, 0) for bound in commits}
    total = commits.get(float("inf"), 0)
    p99 = next((bound for bound, within in sorted(commits.items()) if total and within >= 0.99 * total), None)
    return {"p50_ms": round(percentile(took, 0.5)), "p99_ms": round(percentile(took, 0.99)), "max_ms": round(max(took)),
            "commits": total, "commit_p99_at_most_s": p99}


def recovery(kafka, tereza, state_mb):
    """State of one row per key: about 150 bytes each."""
    kafka.topic("keys")
    keys = state_mb * 1_000_000 // 150
    epochs = ["SET 'execution.checkpointing.interval' = '1 s'", "SET 'execution.runtime-mode' = 'streaming'"]
    columns = "id BIGINT, pad STRING"
    bootstrap = f"127.0.0.1:{kafka.port}"
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 1_000_000,
                         "compression.type": "lz4"})
    for number in range(keys):
        pad = hashlib.sha256(str(number).encode()).hexdigest()
        value = f'{{"id":{number},"pad":"{pad}"}}'
        while True:
            try:
                producer.produce("keys", value, partition=number % nexmark.PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    sink = "CREATE TABLE IF NOT EXISTS latest (id BIGINT, n BIGINT, pad STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'blackhole')"
    job = start(tereza, [*epochs, on_topic(kafka, "keys", "keys", columns), sink,
                         "INSERT INTO latest SELECT id, COUNT(*), MAX(pad) FROM `keys` GROUP BY id"])
    ask = f"SELECT epoch, lag, state, error FROM system.runtime.jobs WHERE job_id = '{job}'"

    def row():
        found = tereza.sql([ask])[-1]
        if found["state"] not in ("running", "queued"):
            raise SystemExit(f"the job is {found['state']}: {found['error']}")
        return found

    wait_for("all rows to be read", lambda: (row().get("lag") == 0 and (row().get("epoch") or 0) > 0), PATIENCE_S, 1)
    time.sleep(3)
    before = row()["epoch"]
    resident = resident_mb(tereza.pid)
    state = sum(path.stat().st_size for path in (tereza.folder / "streams").rglob("*") if path.is_file()) / 1e6
    tereza.process.kill()
    tereza.process.wait()
    began = time.monotonic()
    tereza.start()
    ready = time.monotonic() - began
    again = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    number = 0

    def has_committed():
        nonlocal number
        again.produce("keys", f'{{"id":{number},"pad":"again"}}', partition=0)
        again.flush()
        number += 1
        return (row().get("epoch") or 0) > before

    wait_for("the next commit", has_committed, PATIENCE_S, 0.02)
    took = time.monotonic() - began
    cancel(tereza, job)
    return {"keys": keys, "state_objects_mb": round(state), "rss_before_mb": round(resident), "ready_s": round(ready, 2),
            "next_commit_s": round(took, 2), "rss_after_mb": round(resident_mb(tereza.pid))}


def own_mb(pid):
    """Memory that nobody else has, and that is not the program's file."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", text)[1]) * 1024 / 1e6


def idle(kafka, arguments, folder):
    from ledger import MariaDb
    database, found = MariaDb(folder), {}
    settings = ["--set", f"catalog.url={database.url}", "--set", "catalog.create=true",
                "--set", f"warehouse.url={folder}/idle-warehouse", "--set", f"streaming.url={folder}/idle-streams"]
    try:
        worker = Tereza(arguments.tereza, folder / "rests", settings, role="stream")
        time.sleep(REST_S)
        found["without_a_job"] = {"rss_mb": round(resident_mb(worker.pid), 1), "own_mb": round(own_mb(worker.pid), 1)}
        worker.stop()
        kafka.topic("quiet")
        kafka.topic("quiet-out")
        up = Tereza(arguments.tereza, folder / "submits", settings)
        start(up, [on_topic(kafka, "quiet", "quiet", "id BIGINT"), on_topic(kafka, "quiet_out", "quiet-out", "id BIGINT"),
                   "INSERT INTO quiet_out SELECT id FROM quiet"])
        # It leaves the job to the next process.
        up.stop()
        worker = Tereza(arguments.tereza, folder / "works", settings, role="stream")
        time.sleep(2 * REST_S)
        found["with_a_job"] = {"rss_mb": round(resident_mb(worker.pid), 1), "own_mb": round(own_mb(worker.pid), 1)}
        worker.stop()
    finally:
        database.process.kill()
        database.process.wait()
    return found


def main():
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "tereza"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tereza")
    parser.add_argument("--flink")
    parser.add_argument("--kafka", default=str(home / "kafka"))
    parser.add_argument("--lanes", default=",".join(LANES))
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--state-mb", type=int, default=1_000)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    lanes = arguments.lanes.split(",")
    report = {"events": arguments.events, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="tereza-streams-") as folder:
        folder = pathlib.Path(folder)
        kafka = Kafka(arguments.kafka, folder)
        tereza = flink = None
        try:
            (folder / "server").mkdir()
            tereza = Tereza(arguments.tereza, folder / "server", ["--set", f"streaming.state_limit_bytes={8 << 30}"])
            if arguments.flink and "kafka" in lanes:
                flink = Flink(arguments.flink, folder)
            run = {
                "generator": lambda: generator(tereza, arguments.events),
                "kafka": lambda: through_kafka(kafka, tereza, flink, arguments.events),
                "latency": lambda: {f"epochs_of_{ms}_ms": latency(kafka, tereza, ms) for ms in (1_000, 200)},
                "recovery": lambda: recovery(kafka, tereza, arguments.state_mb),
                "idle": lambda: idle(kafka, arguments, folder),
            }
            for lane in lanes:
                report[lane] = run[lane]()
                print(lane, json.dumps(report[lane]), flush=True)
        finally:
            for engine in (flink, tereza):
                if engine:
                    engine.stop()
            kafka.stop()
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
