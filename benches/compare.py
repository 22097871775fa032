"""Two or more builds or settings against each other, query by query, in turns.

    python3 benches/compare.py TPCH_FOLDER QUERIES.json [--only 1,2] [--runs N] [--explain] NAME=COMMAND[;SQL…] NAME=…

COMMAND starts a runner that speaks the bench's protocol (`benches/peers/common.py`): `target/release/tereza bench peer`, or
`benches/peers/.venv/datafusion/bin/python benches/peers/datafusion_peer.py`. Each SQL is run in it first, such as
`set datafusion.optimizer.join_reordering = false`. TPCH_FOLDER has a folder of Parquet files for each table, as `tereza bench
tpch` makes them; QUERIES.json is the output of `benches/peers/tpc.py queries tpch`.

Prints the median of each in milliseconds, the first run left out, and how many times that of the first each takes; at the end
the geometric means. With `--explain` only planning is timed.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import tempfile


class Runner:
    """One process of the protocol, with the tables of a folder open."""

    def __init__(self, command, folder, data):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=data)
        tables = {table.name: f"{table}/*.parquet" for table in folder.resolve().iterdir() if table.is_dir()}
        self.ask({"open": {"tables": tables, "cores": 2, "memory_limit_bytes": None, "data": data, "executors": 0}})

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise SystemExit(answer["error"])
        return answer

    def milliseconds(self, sql):
        return 1000 * self.ask({"query": sql})["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("tables", type=pathlib.Path)
    parser.add_argument("queries", type=pathlib.Path)
    parser.add_argument("--only")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--explain", action="store_true")
    parser.add_argument("compared", nargs="+")
    args = parser.parse_args()
    texts = dict(json.loads(args.queries.read_text()))
    numbers = [int(number) for number in args.only.split(",")] if args.only else sorted(texts)
    runners = {}
    with tempfile.TemporaryDirectory() as data:
        for spec in args.compared:
            name, _, command = spec.partition("=")
            command, *statements = command.split(";")
            # Relative to where this is started, not to the runner's folder.
            words = [str(pathlib.Path(word).absolute()) if pathlib.Path(word).exists() else word
                     for word in shlex.split(command)]
            folder = pathlib.Path(data, name)
            folder.mkdir()
            runners[name] = Runner(words, args.tables, str(folder))
            for statement in statements:
                runners[name].ask({"query": statement})
        names = list(runners)
        ratios = {name: [] for name in names}
        for number in numbers:
            sql = f"EXPLAIN {texts[number]}" if args.explain else texts[number]
            times = {name: [] for name in names}
            for run in range(args.runs + 1):
                turns = names if run % 2 else names[::-1]
                for name in turns:
                    times[name].append(runners[name].milliseconds(sql))
            medians = {name: statistics.median(times[name][1:]) for name in names}
            for name in names:
                ratios[name].append(medians[name] / medians[names[0]])
            print(f"q{number}", *(f"{name} {medians[name]:.1f} ({ratios[name][-1]:.2f})" for name in names), flush=True)
        print("mean", *(f"{name} {statistics.geometric_mean(ratios[name]):.3f}" for name in names))
        for runner in runners.values():
            runner.close()


if __name__ == "__main__":
    main()
