#!/usr/bin/env python3
"""Tereza's metastore beside a real Hive Metastore 3.1, on one MariaDB, in one run.

    python3 benches/catalog.py TEREZA [--hive HOME] [--partitions N] [--json FILE] [options of `tereza bench catalog`]

HOME is the folder of a standalone Hive Metastore (`benches/peers/hive.sh` gets one and prints it); without it Tereza is measured
alone. Starts all servers on free ports of this machine, each metastore with a database of its own, and ends them. Measured are the
time from the start of the process to the first answer (median of three), what the process holds when it has answered and rested, the
calls of `tereza bench catalog`, and what it holds after these. Tereza runs twice: over MariaDB (`tereza`) and with its embedded
catalog (`embedded`). Of its Schema Registry it is measured how many schemas it gives by their ids in a second, to two clients on
the same cores. A Hive Metastore adds some hundred partitions a second, so after the first thousand a Tereza on its database makes
them.
"""

import argparse
import json
import multiprocessing
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

STARTS = 3
# After half a minute without work a process that holds little gives back what it does not use.
REST_S = 45
LOOK_UPS_S = 5
LOOK_UP_CLIENTS = 2
PATIENCE_S = 180
# `get_all_databases`, as a message of Thrift's binary protocol.
CALL = b"\x80\x01\x00\x01" + b"\x00\x00\x00\x11get_all_databases" + b"\x00\x00\x00\x01" + b"\x00"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(CALL)
            return connection.recv(8)[:4] == b"\x80\x01\x00\x02"
    except OSError:
        return False


def wait(process, is_ready, what):
    start = time.monotonic()
    while not is_ready():
        if process.poll() is not None or time.monotonic() - start > PATIENCE_S:
            raise SystemExit(f"{what} does not start")
        time.sleep(0.002)


def resident_mb(process):
    """Resident memory in MB (10^6 bytes): all, and the part that is no file's."""
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return {key: int(status[name].split()[0]) * 1024 / 1e6 for key, name in (("all", "VmRSS"), ("own", "RssAnon"))}


class Server:
    def __init__(self, name, command, port, log, registry=None):
        self.name, self.command, self.port, self.registry = name, command, port, registry
        self.log = open(log, "ab")
        self.process = None

    def start(self):
        start = time.monotonic()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait(self.process, lambda: answers(self.port), self.name)
        return time.monotonic() - start

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def mariadb(folder):
    subprocess.run(
        ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}/data", "--skip-test-db"]
        + ["--auth-root-authentication-method=normal"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    port = free_port()
    process = subprocess.Popen(
        ["mariadbd", "--no-defaults", "--user=root", "--bind-address=127.0.0.1", f"--port={port}", f"--datadir={folder}/data"]
        + [f"--socket={folder}/socket", f"--pid-file={folder}/pid", "--skip-name-resolve", "--max-connections=400"]
        + ["--innodb-buffer-pool-size=1G"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(f"{folder}/log", "wb"))

    def sql(text, *arguments):
        return subprocess.run(["mariadb", "--no-defaults", "-uroot", f"--socket={folder}/socket", *arguments],
                              input=text.encode(), capture_output=True)

    wait(process, lambda: sql("SELECT 1").returncode == 0, "MariaDB")
    made = sql("CREATE USER bench@'127.0.0.1' IDENTIFIED BY 'bench'; GRANT ALL ON *.* TO bench@'127.0.0.1';"
               "CREATE DATABASE hive CHARACTER SET latin1; CREATE DATABASE tereza CHARACTER SET latin1;")
    if made.returncode:
        raise SystemExit(made.stderr.decode())
    return process, port, sql


def hive(home, folder, database_port, sql):
    made = sql((home / "scripts/metastore/upgrade/mysql/hive-schema-3.1.0.mysql.sql").read_text(), "hive")
    if made.returncode:
        raise SystemExit(made.stderr.decode())
    port = free_port()
    settings = {
        "metastore.thrift.uris": f"thrift://127.0.0.1:{port}",
        "metastore.warehouse.dir": f"file://{folder}/warehouse",
        "javax.jdo.option.ConnectionDriverName": "com.mysql.cj.jdbc.Driver",
        "javax.jdo.option.ConnectionURL":
            f"jdbc:mysql://127.0.0.1:{database_port}/hive?useSSL=false&amp;allowPublicKeyRetrieval=true",
        "javax.jdo.option.ConnectionUserName": "bench",
        "javax.jdo.option.ConnectionPassword": "bench",
        "datanucleus.schema.autoCreateAll": "false",
        "metastore.schema.verification": "true",
        "metastore.task.threads.always": "org.apache.hadoop.hive.metastore.events.EventCleanerTask",
        "metastore.expression.proxy": "org.apache.hadoop.hive.metastore.DefaultPartitionExpressionProxy",
    }
    properties = "".join(f"<property><name>{k}</name><value>{v}</value></property>" for k, v in settings.items())
    (folder / "metastore-site.xml").write_text(f"<configuration>{properties}</configuration>")
    opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("net", "lang", "util")]
    # The heap is what the metastore asks for by itself at most, so that it is not kept from what it wants.
    command = ["java", "-Xmx2g", *opens, "-cp", f"{folder}:{home}/lib/*",
               "org.apache.hadoop.hive.metastore.HiveMetaStore", "-p", str(port)]
    return Server("hive", command, port, folder / "hive.log")


def tereza(name, binary, folder, *settings):
    port, registry = free_port(), free_port()
    settings = [f"listen.metastore={port}", f"listen.registry={registry}", "listen.console=0", *settings]
    command = [binary, "catalog", "--data", str(folder / name)] + [part for one in settings for part in ("--set", one)]
    return Server(name, command, port, folder / f"{name}.log", registry)


def look_up(port, counts):
    """Asks for a schema by its id, again and again."""
    request = b"GET /schemas/ids/1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    count, end = 0, time.monotonic() + LOOK_UPS_S
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < end:
            connection.sendall(request)
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"}"):
                raise SystemExit(f"the registry answers {answer!r}")
            count += 1
    counts.put(count)


def look_ups_per_s(port):
    schema = json.dumps({"schema": '{"type": "record", "name": "Hit", "fields": [{"name": "id", "type": "long"}]}'})
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/subjects/hits/versions", schema.encode(), headers)
    if json.load(urllib.request.urlopen(request))["id"] != 1:
        raise SystemExit("the first schema has another id than 1")
    counts = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=look_up, args=(port, counts)) for _ in range(LOOK_UP_CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
        if client.exitcode:
            raise SystemExit("a client of the registry failed")
    return sum(counts.get() for _ in clients) / LOOK_UPS_S


def ratios(figures):
    """How many times better Tereza is than Hive: of times, of what is held, and of calls a second."""
    mine, theirs = figures["tereza"], figures["hive"]
    better = {}
    for name, value in mine.items():
        other = theirs.get(name)
        if isinstance(value, (int, float)) and isinstance(other, (int, float)) and value and other:
            better[name] = value / other if name.endswith("_per_s") else other / value
    return better


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("tereza", type=pathlib.Path)
    parser.add_argument("--hive", type=pathlib.Path)
    parser.add_argument("--partitions", default="100000")
    parser.add_argument("--json", type=pathlib.Path)
    known, rest = parser.parse_known_args()
    binary = str(known.tereza.resolve())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tereza-bench-"))
    servers, database, maker = [], None, None
    try:
        database, database_port, sql = mariadb(folder)
        url = f"catalog.url=mysql://bench:bench@127.0.0.1:{database_port}/tereza"
        servers = [tereza("tereza", binary, folder, url, "catalog.create=true"), tereza("embedded", binary, folder)]
        if known.hive:
            servers.append(hive(known.hive.resolve(), folder, database_port, sql))
            url = f"catalog.url=mysql://bench:bench@127.0.0.1:{database_port}/hive"
            maker = tereza("maker", binary, folder, url)
        for server in servers:  # The first start makes the tables.
            server.start()
            server.stop()
        figures = {}
        for server in servers:
            times = []
            for _ in range(STARTS):
                server.stop()
                times.append(server.start())
            figures[server.name] = {"start_s": statistics.median(times)}
        time.sleep(REST_S)
        for server in servers:
            held = resident_mb(server.process)
            figures[server.name] |= {"idle_mb": held["all"], "idle_own_mb": held["own"]}
        result = folder / "result.json"
        urls = {server.name: f"thrift://127.0.0.1:{server.port}" for server in servers}
        if maker:
            maker.start()
            urls["hive"] += f",thrift://127.0.0.1:{maker.port}"
        at = [part for name, url in urls.items() for part in ("--at", f"{name}={url}")]
        command = [binary, "bench", "catalog", "--partitions", known.partitions, "--json", str(result), *at, *rest]
        subprocess.run(command, check=True)
        report = json.loads(result.read_text())
        for server in servers:
            held = resident_mb(server.process)
            figures[server.name] |= report["figures"][server.name] | {"after_mb": held["all"], "after_own_mb": held["own"]}
            if server.registry is not None:
                figures[server.name]["schemas_by_id_per_s"] = look_ups_per_s(server.registry)
        report["figures"] = figures
        report["versions"] = {
            "tereza": subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip(),
            "mariadb": subprocess.run(["mariadbd", "--version"], capture_output=True, text=True).stdout.strip(),
        }
        if known.hive:
            report["versions"]["hive"] = "3.1.3"
            report["times_better_than_hive"] = ratios(figures)
        text = json.dumps(report, indent=2) + "\n"
        print(text)
        if known.json:
            known.json.write_text(text)
    finally:
        for server in servers + [maker] if maker else servers:
            server.stop()
        if database is not None:
            database.terminate()
            database.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
