#!/bin/sh
# Gets Apache Flink 2.2.1 with its SQL gateway and its connector for Kafka into .flink beside this file. Needs Java 17, Maven, Python
# with pip, and unzip; 700 MB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home="$here/.flink"
[ -f "$home/ready" ] && { echo "$home"; exit 0; }
rm -rf "$home"
mkdir -p "$home/get"
# The distribution is in two wheels: programs and settings in one, libraries in the other.
for wheel in apache-flink==2.2.1 apache-flink-libraries==2.2.1; do
    echo "getting $wheel" >&2
    python3 -m pip download -q --no-deps --no-binary :none: -d "$home/get" "$wheel" >&2
done
for wheel in "$home"/get/apache_flink*.whl; do unzip -q -o "$wheel" 'pyflink/*' -d "$home/get"; done
for part in bin conf lib opt plugins; do [ -d "$home/get/pyflink/$part" ] && mv "$home/get/pyflink/$part" "$home/"; done
chmod +x "$home"/bin/*
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
for artifact in org.apache.flink:flink-sql-gateway:2.2.1 org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2; do
    echo "getting $artifact" >&2
    mvn -q -B "$plugin:get" -Dartifact="$artifact" -Dtransitive=false
    mvn -q -B "$plugin:copy" -Dartifact="$artifact" -DoutputDirectory="$home/get"
done
mv "$home"/get/flink-sql-gateway-*.jar "$home/opt/"
mv "$home"/get/flink-sql-connector-kafka-*.jar "$home/lib/"
rm -rf "$home/get"
: > "$home/ready"
echo "$home"
