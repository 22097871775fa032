#!/bin/sh
# Makes the virtual environments of the peers, each with its own pinned versions, under .venv beside this file.
#
#   setup.sh NAME...      of duckdb polars sail spark datafusion; spark needs Java 17 on the PATH
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ $# -eq 0 ]; then
    sed -n 's/^# *//p' "$0" | sed -n '2,$p' >&2
    exit 2
fi

failed=
for name; do
    if [ ! -f "$here/requirements/$name.txt" ]; then
        echo "$name: no such peer" >&2
        failed=1
        continue
    fi
    venv="$here/.venv/$name"
    # The requirements are copied last, so that an environment counts as made only when all of it is there.
    if ! cmp -s "$here/requirements/$name.txt" "$venv/requirements.txt"; then
        echo "$name: making $venv" >&2
        python3 -m venv --clear "$venv" &&
            "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements/$name.txt" &&
            cp "$here/requirements/$name.txt" "$venv/requirements.txt" ||
            { echo "$name: not made" >&2; failed=1; continue; }
    fi
    echo "$name: ready" >&2
done
[ -z "$failed" ]
