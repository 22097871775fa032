#!/usr/bin/env bash
# Presto, Spark and Tereza on Tereza's metastore and MinIO: each reads what the others wrote, and the same rows. Gets the peers
# once, into the folder that scripts/test-setup.sh fills (which must have run), and then runs tests/support/lake/judge.py.
#
#     scripts/lake.sh [program of Tereza] [words of judge.py …]
#     scripts/lake.sh --jars    gets what Spark needs, and does nothing else
#     scripts/lake.sh --get     gets all, and does nothing else
set -euo pipefail
cd "$(dirname "$0")/.."

home=${TEREZA_TEST_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tereza}
presto_version=0.287
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
mkdir -p "$home/lake"

# Copies artifacts and what they need to a folder.
jars() {
  local folder=$1 dependencies=$2 new
  [ -d "$folder" ] && return
  new=$(mktemp -d "$home/lake/new.XXXXXX")
  printf '<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version>
    <dependencies>%s</dependencies></project>' "$dependencies" >"$new/pom.xml"
  mvn -q -B -f "$new/pom.xml" "$plugin:copy-dependencies" -DoutputDirectory="$new/jars"
  mv "$new/jars" "$folder"
  rm -r "$new"
}

# An artifact, and the groups of what it needs that are left out; `*` is all.
dependency() {
  local - group excluded=""
  set -f
  for group in ${4:-}; do
    excluded+="<exclusion><groupId>$group</groupId><artifactId>*</artifactId></exclusion>"
  done
  printf '<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version><exclusions>%s</exclusions></dependency>' \
    "$1" "$2" "$3" "$excluded"
}

# For Spark: its object store with the parts of the SDK that it uses (the whole bundle is 700 MB), and Hive's JSON. Left out is
# what Spark has itself.
own="io.netty org.slf4j commons-codec commons-logging org.apache.httpcomponents"
jars "$home/lake/spark-jars" "
  $(dependency org.apache.hadoop hadoop-aws 3.5.0 '*')
  $(dependency software.amazon.s3.analyticsaccelerator analyticsaccelerator-s3 1.3.1 '*')
  $(dependency software.amazon.awssdk s3-transfer-manager 2.35.4 "$own")
  $(dependency software.amazon.awssdk sts 2.35.4 "$own")
  $(dependency org.apache.hive.hcatalog hive-hcatalog-core 2.3.10 '*')"
[ "${1:-}" = --jars ] && exit 0

# For Presto: a library that knows the classes of today's Java. Those it comes with do not.
jars "$home/lake/asm" "$(dependency org.ow2.asm asm-commons 9.7.1) $(dependency org.ow2.asm asm-util 9.7.1)"

if [ ! -d "$home/lake/presto" ]; then
  echo "fetching Presto $presto_version (2 GB, some minutes, once)"
  new=$(mktemp -d "$home/lake/new.XXXXXX")
  mvn -q -B "$plugin:get" -Dartifact="com.facebook.presto:presto-server:$presto_version:tar.gz" -Dtransitive=false
  archive=${MAVEN_REPOSITORY:-$HOME/.m2/repository}/com/facebook/presto/presto-server/$presto_version
  archive=$archive/presto-server-$presto_version.tar.gz
  tar xzf "$archive" -C "$new" --strip-components 1 --exclude='*/plugin/*'
  tar xzf "$archive" -C "$new" --strip-components 1 "presto-server-$presto_version"/plugin/{hive-hadoop2,tpch}
  for folder in "$new/lib" "$new/plugin/hive-hadoop2"; do
    rm -f "$folder"/asm*-9.0.jar
    cp "$home"/lake/asm/asm*.jar "$folder"
  done
  mv "$new" "$home/lake/presto"
fi
[ "${1:-}" = --get ] && exit 0

tereza=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release/tereza}")
judge=$(realpath tests/support/lake/judge.py)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$home/spark/bin/python" "$judge" --tereza "$tereza" --minio "$home/bin/minio" --presto "$home/lake/presto" \
  --spark-jars "$home/lake/spark-jars" --python "$home/venv/bin/python" "${@:2}"
