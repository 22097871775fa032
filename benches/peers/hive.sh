#!/bin/sh
# Gets a Hive Metastore 3.1.3 that stands alone into .hive beside this file: its distribution, a driver for MySQL, and what it
# needs of Hadoop. Needs Java 17 and Maven; 120 MB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home="$here/.hive"
[ -f "$home/ready" ] && { echo "$home"; exit 0; }
rm -rf "$home"
mkdir -p "$home/get"
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
for artifact in \
    org.apache.hive:hive-standalone-metastore:3.1.3:tar.gz:bin \
    org.apache.hadoop:hadoop-client-api:3.5.0 org.apache.hadoop:hadoop-client-runtime:3.5.0 \
    com.mysql:mysql-connector-j:8.0.33 org.slf4j:slf4j-api:1.7.36 \
    commons-cli:commons-cli:1.5.0 commons-collections:commons-collections:3.2.2 commons-logging:commons-logging:1.2; do
    echo "getting $artifact" >&2
    mvn -q -B "$plugin:get" -Dartifact="$artifact" -Dtransitive=false >&2
    mvn -q -B "$plugin:copy" -Dartifact="$artifact" -DoutputDirectory="$home/get" >&2
done
tar xzf "$home"/get/*.tar.gz -C "$home" --strip-components=1
mv "$home"/get/*.jar "$home/lib/"
rm -rf "$home/get"
: > "$home/ready"
echo "$home"
