"""Presto, Spark and Tereza on one metastore and one object store: each reads what the others wrote, the same rows.

    judge.py --tereza PROGRAM --minio PROGRAM [--presto HOME] [--spark-jars FOLDER] [--only WORDS]
    judge.py … --partitions COUNT --python PYTHON

Tereza is the metastore of the others, which are not changed in anything. All is started here, on free ports of this machine and
in the current folder, and ended here. Prints a table of who wrote, who read and whether the rows were the expected ones;
ends with 1 if some were not.
"""

import argparse
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
import many
import peers
import steps

parser = argparse.ArgumentParser()
parser.add_argument("--tereza", required=True)
parser.add_argument("--minio", required=True)
parser.add_argument("--presto", help="home of a Presto 0.287; without it Presto takes no part")
parser.add_argument("--spark-jars", help="folder with the jars of s3a; without it Spark takes no part")
parser.add_argument("--only", help="a part of the names of steps")
parser.add_argument("--partitions", type=int, help="instead, ask for one of so many partitions and say how long it takes")
parser.add_argument("--python", help="the Python that has PyIceberg, which makes the partitions")
options = parser.parse_args()
os.environ["TZ"] = "UTC"
time.tzset()


class Judge:
    """What was run, and what came of it."""

    def __init__(self, engines, minio, only):
        self.engines, self.minio, self.only = engines, minio, only
        # Step, writer, reader, what came of it; and texts about what must not be.
        self.lines, self.wrong = [], []
        self.step = ""

    def names(self, *wanted):
        return [name for name in wanted or self.engines if name in self.engines]

    def begin(self, step):
        """Whether a step is wanted."""
        wanted = self.only is None or self.only in step
        if wanted and step != self.step:
            print(f"… {step}", file=sys.stderr, flush=True)
        self.step = step
        return wanted

    def complain(self, text):
        print(f"WRONG: {self.step}: {text}", file=sys.stderr, flush=True)
        self.wrong.append(f"{self.step}: {text}")

    def do(self, name, text, **more):
        """Runs a statement; what it says is not looked at. False if it fails."""
        try:
            self.engines[name].run(text, **more)
            return True
        except peers.Failed as error:
            self.complain(f"{name}: {text[:300]}: {str(error)[:600]}")
            return False

    def rows(self, name, text):
        try:
            return self.engines[name].run(text)
        except peers.Failed as error:
            return str(error)

    def refused(self, name, text, part):
        """A statement that must fail, with a part of what it must say; whether it does."""
        said = self.rows(name, text)
        is_refused = isinstance(said, str) and part in said
        if not is_refused:
            self.complain(f"{name}: {text[:300]}: {str(said)[:400]}, expected a refusal with '{part}'")
        self.lines.append((self.step, name, name, "refused" if is_refused else "WRONG"))
        return is_refused

    def same(self, writer, table, query, expected, cannot=None, readers=None):
        """All read `query` of a table as `expected`, but for those of `cannot`, which say why."""
        for name in self.names(*(readers or ())):
            if name == "Spark":
                # It keeps the files that it has listed.
                self.rows(name, f"REFRESH TABLE {table}")
            found = self.rows(name, query)
            reason = (cannot or {}).get(name)
            if reason is not None:
                is_right = isinstance(found, str) and reason in found
                verdict = f"cannot: {reason}" if is_right else "WRONG"
                if not is_right:
                    self.complain(f"{name} reads {writer}'s {table}: {str(found)[:300]}; expected that it says '{reason}'")
            else:
                is_right = not isinstance(found, str) and sorted(found, key=repr) == sorted(expected, key=repr)
                verdict = "equal" if is_right else "WRONG"
                if not is_right:
                    self.complain(f"{name} reads {writer}'s {table}: {query[:200]}\n{difference(found, expected)}")
            self.lines.append((self.step, writer, name, verdict))

    def found(self, writer, table, reader, found, expected):
        """Something else than rows that a reader has found of a table."""
        is_right = found == expected
        if not is_right:
            self.complain(f"{reader} finds of {writer}'s {table}: {found}, expected {expected}")
        self.lines.append((self.step, writer, reader, "equal" if is_right else "WRONG"))

    def show(self):
        """One line for a step, writer and reader; with the number of comparisons."""
        counts = {}
        for line in self.lines:
            counts[line] = counts.get(line, 0) + 1
        print(f"{'step':34} {'wrote':8} {'read':8} rows")
        for (step, writer, reader, verdict), count in counts.items():
            print(f"{step:34} {writer:8} {reader:8} {verdict}{f' ({count} times)' if count > 1 else ''}")
        print(f"{sum(counts.values())} comparisons, {len(self.wrong)} wrong")
        for text in self.wrong:
            print(f"WRONG: {text}")


def difference(found, expected):
    if isinstance(found, str):
        return f"  it says: {found[:600]}"
    lines = [f"  only found:    {row}" for row in found if row not in expected]
    lines += [f"  only expected: {row}" for row in expected if row not in found]
    return "\n".join(lines[:12]) or f"  {len(found)} rows in place of {len(expected)}"


folder = pathlib.Path.cwd()
s3 = {"endpoint": f"http://127.0.0.1:{peers.free_port()}", "access_key": "lakeadmin", "secret_key": "lakesecret1"}
warehouse = "s3a://lake/warehouse"
started = []
try:
    minio = peers.Minio(options.minio, folder, s3, "lake")
    started.append(minio)
    tereza = peers.Tereza.start(options.tereza, folder / "data", s3, warehouse)
    started.append(tereza)
    engines = {"Tereza": tereza}
    if options.presto:
        engines["Presto"] = peers.Presto(options.presto, folder / "presto", tereza.metastore, s3)
        started.append(engines["Presto"])
    if options.spark_jars:
        jars = sorted(str(path) for path in pathlib.Path(options.spark_jars).glob("*.jar"))
        engines["Spark"] = peers.Spark(tereza.metastore, warehouse, s3, jars)
        started.append(engines["Spark"])
    judge = Judge(engines, minio, options.only)
    began = time.monotonic()
    if options.partitions:
        many.ask_for_one(judge, options.partitions, options.python, tereza.metastore)
    else:
        for step in steps.STEPS:
            step(judge)
    judge.show()
    print(f"{time.monotonic() - began:.0f} s; methods of the metastore that were called:")
    print(", ".join(f"{method} {count}" for method, count in sorted(tereza.calls().items())))
finally:
    for what in reversed(started):
        what.end()
sys.exit(1 if judge.wrong else 0)
