#!/usr/bin/env bash
# The 22 queries of TPC-H in one process of `tereza sql` that may use so many bytes of memory and no more (a memory control
# group, version 1 or 2; needs root), and again without that limit: prints the times and whether the answers are the same.
#
#   benches/cgroup.sh BYTES TPCH_FOLDER [TEREZA]
#
# TPCH_FOLDER has a folder of Parquet files for each table, as `tereza bench tpch` makes them.
set -euo pipefail
limit=$1 tables=$2 tereza=${3:-tereza}
here=$(dirname "$0")
work=$(mktemp -d)
group=/sys/fs/cgroup/memory/tereza-bench
[ -d /sys/fs/cgroup/memory ] || group=/sys/fs/cgroup/tereza-bench
mkdir "$group"
trap 'rm -rf "$work"; rmdir "$group"' EXIT
if [ -e "$group/memory.limit_in_bytes" ]; then
    echo "$limit" > "$group/memory.limit_in_bytes"
else
    echo "$limit" > "$group/memory.max"
fi

"$here/peers/.venv/duckdb/bin/python" "$here/peers/tpc.py" queries tpch | python3 -c '
import json, sys
for _, text in json.load(sys.stdin):
    print(text.rstrip().rstrip(";") + ";")' > "$work/queries.sql"
for table in customer lineitem nation orders part partsupp region supplier; do
    echo "CREATE EXTERNAL TABLE $table STORED AS PARQUET LOCATION '$tables/$table/';"
done > "$work/tables.sql"

run=("$tereza" sql --data "$work/data" --format csv)
"${run[@]}" -f "$work/tables.sql" > "$work/tables.txt"
"${run[@]}" -f "$work/queries.sql" > "$work/free.csv"
status=0
bash -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$group" "${run[@]}" --timing -f "$work/queries.sql" \
    > "$work/limited.csv" 2> "$work/limited.log" || status=$?
grep -v '^time' "$work/limited.log" || true
echo "seconds: $(sed -n 's/^time \(.*\) s$/\1/p' "$work/limited.log" | tr '\n' ' ')"
echo "queries ended: $(grep -c '^time' "$work/limited.log"), status $status"
cmp "$work/free.csv" "$work/limited.csv" && echo "answers: the same as without the limit"
