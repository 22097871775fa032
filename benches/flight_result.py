"""How fast a large result comes over Flight SQL, next to bare Arrow Flight with the same rows.

    cargo build --release --locked --workspace --examples
    benches/peers/.venv/duckdb/bin/python benches/flight_result.py target/release [--rows N] [--runs N] [--json FILE]

One client (pyarrow's) reads the result of a statement from Tereza, and the same batches, made beforehand, from two servers
with nothing around them, each in a process of its own: the crate `arrow-flight` (`gateway/examples/bare_flight.rs`) and
pyarrow. They take turns. Tereza computes the rows meanwhile. The ratios are those of the medians.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import pyarrow as pa
import pyarrow.compute
import pyarrow.flight as flight

SQL = "select value, value * 2 as twice from generate_series(1, {rows})"
BATCH_ROWS = 16384


class Bare(flight.FlightServerBase):
    """Serves one table, made beforehand."""

    def __init__(self, rows):
        super().__init__("grpc://127.0.0.1:0")
        value = pa.array(range(1, rows + 1), pa.int64())
        twice = pa.compute.multiply(value, 2)
        self.batches = pa.table({"value": value, "twice": twice}).to_batches(BATCH_ROWS)

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(self.batches[0].schema, self.batches))


def field(number, value):
    """A length-delimited field of a Protobuf message."""
    length, size = b"", len(value)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def statement(sql):
    command = field(1, sql.encode())
    name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    return flight.FlightDescriptor.for_command(field(1, name) + field(2, command))


def read(reader):
    rows = 0
    for chunk in reader:
        rows += chunk.data.num_rows
    return rows


def peak_rss_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("built", help="the folder with `tereza` and `examples/bare_flight`")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json")
    parser.add_argument("--serve-bare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve_bare:
        server = Bare(arguments.rows)
        print(server.port, flush=True)
        sys.stdin.read()
        return

    tereza = os.path.join(arguments.built, "tereza")
    bare = {
        "arrow_flight": [os.path.join(arguments.built, "examples", "bare_flight"), str(arguments.rows)],
        "pyarrow": [sys.executable, __file__, arguments.built, "--rows", str(arguments.rows), "--serve-bare"],
    }
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            up = subprocess.Popen([tereza, "up", "--data", folder, "--set", "listen.flight_sql=0",
                                   "--set", "listen.console=0"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            processes.append(up)
            bare_clients = {}
            for name, command in bare.items():
                server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                processes.append(server)
                bare_clients[name] = flight.connect(f"grpc://127.0.0.1:{int(server.stdout.readline())}")
            endpoints = os.path.join(folder, "endpoints.json")
            deadline = time.monotonic() + 30
            while not os.path.exists(endpoints):
                if time.monotonic() > deadline or up.poll() is not None:
                    sys.exit("tereza up does not start")
                time.sleep(0.02)
            with open(endpoints) as file:
                url = json.load(file)["endpoints"]["flight_sql"]
            client = flight.connect(url.replace("http://", "grpc://"))
            descriptor = statement(SQL.format(rows=arguments.rows))

            def from_tereza():
                info = client.get_flight_info(descriptor)
                return sum(read(client.do_get(endpoint.ticket)) for endpoint in info.endpoints)

            asks = {"tereza": from_tereza}
            for name, bare_client in bare_clients.items():
                asks[name] = lambda bare_client=bare_client: read(bare_client.do_get(flight.Ticket(b"")))
            names = list(asks)
            seconds = {name: [] for name in names}
            for run in range(arguments.runs + 1):
                # Each comes first, and after each other, as often as the others.
                turns = names[run % 3:] + names[:run % 3]
                for name in turns if run % 2 else reversed(turns):
                    began = time.monotonic()
                    rows = asks[name]()
                    took = time.monotonic() - began
                    if rows != arguments.rows:
                        sys.exit(f"{name} sent {rows} rows")
                    if run:
                        seconds[name].append(round(took, 4))
            medians = {name: statistics.median(runs) for name, runs in seconds.items()}
            report = {
                "benchmark": "flight_result",
                "date": datetime.datetime.now(datetime.timezone.utc).strftime("%FT%TZ"),
                "rows": arguments.rows,
                "bytes": arguments.rows * 16,
                "cores": os.cpu_count(),
                "pyarrow": pa.__version__,
                "runs_s": seconds,
                "medians_s": medians,
                "tereza_takes": {name: round(medians["tereza"] / medians[name], 3) for name in bare},
                "tereza_peak_rss_bytes": peak_rss_bytes(up.pid),
            }
        finally:
            for process in processes:
                process.kill()
                process.wait()
    print(json.dumps(report, indent=2))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(report, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
