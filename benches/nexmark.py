#!/usr/bin/env python3
"""Nexmark on Tereza beside Apache Flink: the same bytes from one broker of Kafka, in one run.

    python3 benches/nexmark.py TEREZA [--flink HOME] [--kafka JARS] [--events N] [--queries q0,q1,…] [--runs N] [--json FILE]

HOME is what `benches/peers/flink.sh` prints; without it Tereza is measured alone. JARS is a folder with Kafka's, as
`scripts/test-setup.sh` makes it. Tereza's generator fills one topic with all events as JSON; each query reads them to their end and
writes to a blackhole; both keep their state safe every 10 s. All servers are on free ports of this machine and are ended. Each query runs once before it counts
(Flink's compiler), then the engines take turns; the median of the runs counts. Seconds are from the first row to the end as the
engine says it; processor seconds are those of the process that works (Tereza's, Flink's task manager), so events per processor
second compare one core of each. q13 does not count in the mean: Flink has another plan for it (see `nexmark.sql`).
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE_S = 900
SIDE_ROWS = 10_000
# What Flink does not do with a table of files, and the query that has it.
LOOKUP, LOOKUP_QUERY = " FOR SYSTEM_TIME AS OF b.p_time", "q13"
PARTITIONS = 2
EVENT = """event_type INT,
  person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
    `dateTime` TIMESTAMP(3), extra STRING>,
  auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT, `dateTime` TIMESTAMP(3),
    expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING>"""
TIME = """`dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` WHEN event_type = 1 THEN auction.`dateTime`
    ELSE bid.`dateTime` END,
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND"""
EPOCHS = "SET 'execution.checkpointing.interval' = '10 s'"
VIEWS = [
    """CREATE VIEW IF NOT EXISTS person AS SELECT person.id AS id, person.name AS name, person.emailAddress AS emailAddress,
       person.creditCard AS creditCard, person.city AS city, person.state AS state, `dateTime`, person.extra AS extra
       FROM nexmark WHERE event_type = 0""",
    """CREATE VIEW IF NOT EXISTS auction AS SELECT auction.id AS id, auction.itemName AS itemName,
       auction.description AS description, auction.initialBid AS initialBid, auction.reserve AS reserve, `dateTime`,
       auction.expires AS expires, auction.seller AS seller, auction.category AS category, auction.extra AS extra
       FROM nexmark WHERE event_type = 1""",
    """CREATE VIEW IF NOT EXISTS bid AS SELECT bid.auction AS auction, bid.bidder AS bidder, bid.price AS price,
       bid.channel AS channel, bid.url AS url, `dateTime`, bid.extra AS extra FROM nexmark WHERE event_type = 2""",
]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, ready, patience=120, pause=0.05):
    deadline = time.monotonic() + patience
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {patience} s for {what}")
        time.sleep(pause)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid):
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024 / 1e6


class Kafka:
    def __init__(self, jars, folder):
        self.folder = folder / "kafka"
        self.folder.mkdir()
        port, controller, self.port = free_port(), free_port(), None
        self.port = port
        settings = (HERE.parent / "tests/support/kafka/server.properties").read_text() + (
            f"\nlisteners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n"
            f"controller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={self.folder}/data\n")
        settings = re.sub(r"^(listener\.security\.protocol\.map=).*$",
                          r"\1PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", settings, flags=re.M)
        (self.folder / "server.properties").write_text(settings)
        shutil.copy(HERE.parent / "tests/support/kafka/log4j2.yaml", self.folder)
        self.java = ["java", "-Xmx1g", "-cp", f"{jars}/*", f"-Dlog4j2.configurationFile={self.folder}/log4j2.yaml"]
        run = [*self.java, "kafka.tools.StorageTool", "format", "-t", secrets.token_urlsafe(16), "-c", "server.properties"]
        subprocess.run(run, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)
        self.start()

    def start(self):
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen([*self.java, "kafka.Kafka", "server.properties"], cwd=self.folder,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for("Kafka", lambda: "Kafka Server started" in (self.folder / "log").read_text())

    def table(self, name, columns, more=""):
        return (f"CREATE TABLE IF NOT EXISTS {name} ({columns}) WITH ('connector' = 'kafka', 'topic' = 'nexmark', "
                f"'properties.bootstrap.servers' = '127.0.0.1:{self.port}', 'format' = 'json'{more})")

    def topic(self, name, partitions=PARTITIONS):
        tool = ["org.apache.kafka.tools.TopicCommand", "--bootstrap-server", f"127.0.0.1:{self.port}", "--create", "--topic",
                name, "--partitions", str(partitions)]
        subprocess.run([*self.java, *tool], cwd=self.folder, check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Tereza:
    name = "tereza"

    def __init__(self, program, folder, settings=(), role="up"):
        folder.mkdir(exist_ok=True)
        self.program, self.folder, self.settings, self.role = program, folder / "tereza", settings, role
        self.log = open(folder / "tereza.log", "w")
        self.start()

    def start(self):
        (self.folder / "endpoints.json").unlink(missing_ok=True)
        ports = [f"listen.{port}=0" for port in ("flight_sql", "metastore", "registry", "console", "scheduler")]
        command = [self.program, self.role, "--data", str(self.folder), *(part for port in ports for part in ("--set", port))]
        self.process = subprocess.Popen([*command, *self.settings], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        # Only who serves clients says where.
        says = pathlib.Path(self.log.name)
        is_ready = {"up": lambda: (self.folder / "endpoints.json").exists(), "stream": lambda: "ready in" in says.read_text()}
        wait_for("tereza", is_ready[self.role], pause=0.01)
        self.pid = self.process.pid

    def sql(self, statements):
        text = "SET tereza.dialect = 'flink';\n" + ";\n".join(statements)
        script = self.folder / "script.sql"
        script.write_text(text)
        url = json.loads((self.folder / "endpoints.json").read_text())["endpoints"]["flight_sql"]
        run = subprocess.run([self.program, "sql", "--url", url, "--format", "json", "-f", str(script)],
                             capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr.strip())
        return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]

    def job(self, statements):
        """Runs a job to its end; its seconds."""
        job = next(row["job_id"] for row in self.sql(statements) if "job_id" in row)
        ask = f"SELECT state, error, started, ended FROM system.runtime.jobs WHERE job_id = '{job}'"

        def ended():
            row = self.sql([ask])[-1]
            return row if row["state"] not in ("queued", "running") else None

        row = wait_for(f"job {job}", ended, PATIENCE_S, 0.2)
        if row["state"] != "succeeded":
            raise RuntimeError(f"{row['state']}: {row.get('error')}")
        return seconds_between(row["started"], row["ended"])

    def stop(self):
        self.process.terminate()
        self.process.wait()


def seconds_between(start, end):
    parse = lambda text: datetime.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    return (parse(end) - parse(start)).total_seconds()


class Flink:
    name = "flink"

    def __init__(self, home, folder):
        self.home = pathlib.Path(home).resolve()
        conf, self.rest, self.gateway = folder / "flink-conf", free_port(), free_port()
        shutil.copytree(self.home / "conf", conf)
        opens = next((line for line in (conf / "config.yaml").read_text().splitlines() if "--add-opens" in line), None)
        lines = ["env:", "  java:", "    opts:", f"      all: {opens.split('all:', 1)[1].strip()}"] if opens else []
        here = "127.0.0.1"
        settings = {
            "jobmanager.bind-host": here, "jobmanager.rpc.address": here, "jobmanager.rpc.port": free_port(),
            "jobmanager.memory.process.size": "1024m", "taskmanager.bind-host": here, "taskmanager.host": here,
            "taskmanager.rpc.port": free_port(), "taskmanager.data.port": free_port(),
            "taskmanager.numberOfTaskSlots": PARTITIONS, "taskmanager.memory.process.size": "6144m",
            "blob.server.port": free_port(), "rest.address": here, "rest.bind-address": here, "rest.port": self.rest,
            "sql-gateway.endpoint.rest.address": here, "sql-gateway.endpoint.rest.bind-address": here,
            "sql-gateway.endpoint.rest.port": self.gateway, "parallelism.default": PARTITIONS,
            "pipeline.object-reuse": "true", "state.backend.type": "hashmap",
            "execution.checkpointing.dir": (folder / "flink-checkpoints").as_uri(),
        }
        lines += [f"{key}: {value}" for key, value in settings.items()]
        (conf / "config.yaml").write_text("\n".join(lines))
        self.environment = {**os.environ, "FLINK_HOME": str(self.home), "FLINK_CONF_DIR": str(conf),
                            "FLINK_LOG_DIR": str(folder / "flink-log"), "FLINK_PID_DIR": str(folder / "flink-pid")}
        (folder / "flink-log").mkdir()
        for script in ("jobmanager.sh", "taskmanager.sh", "sql-gateway.sh"):
            self.run(script, "start")
        wait_for("Flink", lambda: self.get(f"http://127.0.0.1:{self.rest}/overview", quiet=True).get("slots-available") == PARTITIONS)
        wait_for("Flink's gateway", lambda: self.get(f"http://127.0.0.1:{self.gateway}/v1/info", quiet=True))
        pids = [int(text) for path in (folder / "flink-pid").glob("*taskexecutor*.pid") for text in path.read_text().split()]
        self.pid = pids[-1]

    def run(self, script, what):
        subprocess.run([str(self.home / "bin" / script), what], env=self.environment, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def get(self, url, body=None, quiet=False):
        try:
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if quiet:
                return {}
            text = error.read().decode()
            causes = re.findall(r"Caused by: ([^\\\n]+)", text)
            raise RuntimeError(causes[-1] if causes else text[:400]) from None
        except OSError:
            if quiet:
                return {}
            raise

    def job(self, statements):
        base = f"http://127.0.0.1:{self.gateway}/v2/sessions"
        session = self.get(base, {"properties": {"execution.runtime-mode": "streaming",
                                                 "table.exec.mini-batch.enabled": "true",
                                                 "table.exec.mini-batch.allow-latency": "2 s",
                                                 "table.exec.mini-batch.size": "50000"}})["sessionHandle"]
        job = None
        for statement in statements:
            done = self.get(f"{base}/{session}/statements", {"statement": statement})["operationHandle"]
            url = f"{base}/{session}/operations/{done}/result/0?rowFormat=JSON"
            answer = wait_for("Flink's answer", lambda: (found := self.get(url)).get("resultType") != "NOT_READY" and found)
            job = answer.get("jobID") or job

        def ended():
            found = self.get(f"http://127.0.0.1:{self.rest}/jobs/{job}")
            return found if found["state"] in ("FINISHED", "FAILED", "CANCELED") else None

        found = wait_for(f"Flink's job {job}", ended, PATIENCE_S, 0.2)
        self.get(f"{base}/{session}", quiet=True)
        if found["state"] != "FINISHED":
            raise RuntimeError(found["state"])
        times = found["timestamps"]
        return (times["FINISHED"] - times["RUNNING"]) / 1000

    def stop(self):
        for script in ("sql-gateway.sh", "taskmanager.sh", "jobmanager.sh"):
            self.run(script, "stop")


def queries(wanted):
    text = (HERE / "nexmark.sql").read_text()
    found = dict(re.findall(r"^-- @(\w+)\n(.*?);\s*$", text, re.S | re.M))
    return {name: found[name] for name in (wanted.split(",") if wanted else found)}


def main():
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "tereza"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tereza")
    parser.add_argument("--flink")
    parser.add_argument("--kafka", default=str(home / "kafka"))
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--queries")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    wanted = queries(arguments.queries)
    engines, report = [], {"events": arguments.events, "cores": os.cpu_count(), "queries": {}}
    with tempfile.TemporaryDirectory(prefix="tereza-nexmark-") as folder:
        folder = pathlib.Path(folder)
        kafka = Kafka(arguments.kafka, folder)
        try:
            kafka.topic("nexmark")
            engines.append(Tereza(arguments.tereza, folder))
            generator = f"CREATE TEMPORARY TABLE made ({EVENT}) WITH ('connector' = 'nexmark', 'events.num' = '{arguments.events}', 'base-time' = '1700000000000')"
            took = engines[0].job([generator, kafka.table("filled", EVENT), "INSERT INTO filled SELECT * FROM made"])
            print(f"{arguments.events} events made and written in {took:.1f} s", file=sys.stderr)
            report["fill_s"] = took
            if arguments.flink:
                engines.append(Flink(arguments.flink, folder))
            read = kafka.table("nexmark", f"{EVENT},\n  {TIME}",
                               ", 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'")
            side = side_input(folder)
            for name, query in wanted.items():
                measured = {engine.name: [] for engine in engines}
                for turn in range(arguments.runs + 1):
                    for engine in engines:
                        try:
                            text = query.replace(LOOKUP, "") if engine.name == "flink" else query
                            statements = [EPOCHS, read, *VIEWS, side, *sink_of(text)]
                            before = cpu_seconds(engine.pid)
                            wall = engine.job(statements)
                            one = {"s": wall, "cpu_s": cpu_seconds(engine.pid) - before, "rss_mb": resident_mb(engine.pid)}
                        except RuntimeError as error:
                            one = {"error": str(error)[:500]}
                        if turn > 0 or "error" in one:
                            measured[engine.name].append(one)
                report["queries"][name] = summary(measured, arguments.events)
                print(name, json.dumps(report["queries"][name]), flush=True)
        finally:
            for engine in reversed(engines):
                engine.stop()
            kafka.stop()
    ratios = [query["flink"]["cpu_s"] / query["tereza"]["cpu_s"] for name, query in report["queries"].items()
              if name != LOOKUP_QUERY and "cpu_s" in query.get("flink", {}) and "cpu_s" in query["tereza"]]
    if ratios:
        report["per_core_geomean"] = statistics.geometric_mean(ratios)
        report["per_core_least"] = min(ratios)
        print(f"events per processor second, geometric mean of {len(ratios)}: {report['per_core_geomean']:.2f} x Flink; "
              f"least {report['per_core_least']:.2f} x")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")


def side_input(folder):
    """The table of q13, with its file."""
    path = folder / "side_input"
    path.mkdir()
    (path / "rows.csv").write_text("".join(f"{key},value {key}\n" for key in range(SIDE_ROWS)))
    return ("CREATE TABLE IF NOT EXISTS side_input (`key` BIGINT, `value` STRING) WITH ("
            f"'connector' = 'filesystem', 'path' = 'file://{path}', 'format' = 'csv')")


def sink_of(query):
    """A sink with the columns of a query, and the job."""
    columns, _, select = query.partition("\n")
    return [f"CREATE TEMPORARY TABLE sink ({columns.removeprefix('-- ')}) WITH ('connector' = 'blackhole')",
            f"INSERT INTO sink {select.strip()}"]


def summary(measured, events):
    found = {}
    for engine, runs in measured.items():
        errors = [run["error"] for run in runs if "error" in run]
        if errors:
            found[engine] = {"error": errors[0]}
            continue
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        found[engine] = {**{key: round(value, 2) for key, value in middle.items()},
                         "events_per_cpu_s": round(events / middle["cpu_s"]), "events_per_s": round(events / middle["s"])}
    if all("cpu_s" in found.get(engine, {}) for engine in ("tereza", "flink")):
        found["per_core"] = round(found["flink"]["cpu_s"] / found["tereza"]["cpu_s"], 2)
        found["wall"] = round(found["flink"]["s"] / found["tereza"]["s"], 2)
    return found


if __name__ == "__main__":
    main()
