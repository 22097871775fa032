"""What a pause before each run costs a query, in one process of `tereza bench peer`.

    python3 benches/pauses.py TEREZA TPCH_FOLDER QUERIES.json --only 16,2 [--runs N] [--pause SECONDS]

TPCH_FOLDER has a folder of Parquet files for each table, as `tereza bench tpch` makes them; QUERIES.json is the output of
`benches/peers/tpc.py queries tpch`. Prints for each query the median and all times in milliseconds, but for the first run,
and how many pages were touched for the first time; at the end the memory held then, and after 135 s of rest, in MiB.
`MIMALLOC_PURGE_DELAY=1000` in the environment gives mimalloc's own pace of giving memory back.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time

from compare import Runner


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("tereza")
    parser.add_argument("tables", type=pathlib.Path)
    parser.add_argument("queries", type=pathlib.Path)
    parser.add_argument("--only", required=True)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--pause", type=float, default=1.0)
    args = parser.parse_args()
    texts = dict(json.loads(args.queries.read_text()))
    with tempfile.TemporaryDirectory() as data:
        runner = Runner([str(pathlib.Path(args.tereza).absolute()), "bench", "peer"], args.tables, data)
        pid = runner.process.pid

        def first_touched():
            # Field 10 of proc_pid_stat(5); the name in field 2 may hold spaces.
            return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])

        def resident_mib():
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))

        for number in map(int, args.only.split(",")):
            runner.milliseconds(texts[number])
            before, times = first_touched(), []
            for _ in range(args.runs):
                time.sleep(args.pause)
                times.append(runner.milliseconds(texts[number]))
            print(
                f"q{number}: median {statistics.median(times):.1f} ms, {first_touched() - before} pages,",
                " ".join(f"{took:.0f}" for took in times),
            )
        print(f"held: {resident_mib()} MiB,", end=" ", flush=True)
        time.sleep(135)
        print(f"after a rest: {resident_mib()} MiB")
        runner.close()


main()
