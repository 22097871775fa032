#!/usr/bin/env bash
# The main job in a few seconds, with nothing else running: generated data, a real file, a table of one's own.
set -euo pipefail
tereza=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
ask() { say "tereza> $1"; "$tereza" sql --data "$folder/data" -c "$1"; }

ask "select l_returnflag, l_linestatus, count(*) as items, sum(l_quantity) as quantity, avg(l_extendedprice) as price
from tpch.sf1.lineitem group by 1, 2 order by 1, 2"
ask "copy (select * from tpch.tiny.orders) to '$folder/orders.parquet' stored as parquet"
ask "select o_orderpriority, count(*) as orders, sum(o_totalprice) as total
from '$folder/orders.parquet' where o_orderdate >= date '1995-01-01' group by 1 order by 1"
ask "create table sales partitioned by (year) as
select o_orderkey as id, o_totalprice as price, cast(extract(year from o_orderdate) as int) as year from tpch.tiny.orders"
ask "select year, count(*) as orders, sum(price) as total from sales where year >= 1996 group by year order by year"
ask "show partitions sales"
