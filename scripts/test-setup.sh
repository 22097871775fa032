#!/usr/bin/env bash
# Installs what the tests need besides Rust, once, into one folder outside the repository: a real MinIO, a Python with the
# judges and clients, Spark, the Arrow Flight SQL JDBC driver, Kafka, clients of the Schema Registry in JavaScript and Rust,
# and one of the Hive Metastore in Rust.
# What cannot be had is said; `cargo test` then says which tests it could not run, and fails for it when CI=true.
set -uo pipefail
cd "$(dirname "$0")/.."

home=${TEREZA_TEST_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tereza}
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
jdbc_version=18.3.0
missing=()

mkdir -p "$home/bin" "$home/jars"

# Debian's packages, only when a tool is missing and this user may install.
need=()
command -v python3 >/dev/null || need+=(python3 python3-venv)
command -v go >/dev/null || need+=(golang-go)
command -v java >/dev/null || need+=(default-jdk-headless)
command -v mvn >/dev/null || need+=(maven)
command -v npm >/dev/null || need+=(nodejs npm)
command -v ip >/dev/null || need+=(iproute2)
command -v mariadbd >/dev/null || need+=(mariadb-server-core mariadb-client-core) # a server without a service
if ((${#need[@]})) && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "installing ${need[*]}"
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${need[@]}" || true
fi
command -v mariadbd >/dev/null || missing+=("MariaDB (package mariadb-server-core)")

if [ ! -x "$home/bin/minio-$minio_version" ]; then
  echo "building MinIO $minio_version (some minutes, once)"
  if GOBIN="$home/bin" go install -ldflags "-s -w" "github.com/minio/minio@$minio_version"; then
    mv "$home/bin/minio" "$home/bin/minio-$minio_version"
  else
    missing+=("MinIO (go install failed)")
  fi
fi
[ -x "$home/bin/minio-$minio_version" ] && ln -sfn "minio-$minio_version" "$home/bin/minio"

# An environment counts as made only when the list of what is in it lies there.
make_venv() {
  local venv=$1 list=$2 what=$3
  cmp -s "$list" "$venv/requirements.txt" && return
  echo "installing $what"
  if python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check -r "$list"; then
    cp "$list" "$venv/requirements.txt"
  else
    missing+=("$what (venv or pip failed)")
  fi
}
make_venv "$home/venv" tests/support/requirements.txt "the tests' Python packages"
make_venv "$home/spark" tests/support/spark.txt "Spark (500 MB, some minutes, once)"

# Clients of the Schema Registry in other languages; each is made anew only when its list has changed.
clients=registry/tests/it/clients
if ! cmp -s "$clients/package.json" "$home/node/installed.json"; then
  echo "installing JavaScript clients of the Schema Registry"
  mkdir -p "$home/node" && cp "$clients/package.json" "$home/node/package.json"
  if (cd "$home/node" && npm install --silent --no-audit --no-fund --ignore-scripts --no-package-lock); then
    cp "$clients/package.json" "$home/node/installed.json"
  else
    missing+=("JavaScript clients of the Schema Registry (npm failed)")
  fi
fi
# Each is built once: its dependencies are kept beside it, so that a change of its own is built in seconds.
rust_client() {
  local program=$1 folder=$2 what=$3
  [ -x "$home/bin/$program" ] && cmp -s "$folder/main.rs" "$home/$program.rs" && return
  echo "building $what"
  if CARGO_TARGET_DIR="$home/rust_client" cargo build -q --locked --manifest-path "$folder/Cargo.toml"; then
    cp "$home/rust_client/debug/$program" "$home/bin/" && cp "$folder/main.rs" "$home/$program.rs"
  else
    missing+=("$what (cargo failed)")
  fi
}
rust_client tereza-registry-rust-client registry/rust_client "a Rust client of the Schema Registry"
rust_client tereza-metastore-rust-client catalog/rust_client "a Rust client of the Hive Metastore"
if ! scripts/lake.sh --jars; then missing+=("what Spark needs for S3 (mvn failed)"); fi

jar="$home/jars/flight-sql-jdbc-driver-$jdbc_version.jar"
if [ ! -f "$jar" ]; then
  echo "fetching the Flight SQL JDBC driver $jdbc_version"
  plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
  artifact=org.apache.arrow:flight-sql-jdbc-driver:$jdbc_version
  mvn -q -B "$plugin:copy" -Dartifact="$artifact" -DoutputDirectory="$home/jars" || missing+=("JDBC driver (mvn failed)")
fi
[ -f "$jar" ] && ln -sfn "$(basename "$jar")" "$home/jars/flight-sql-jdbc-driver.jar"

# A broker of Kafka; it counts as installed only when the list of what is in it lies there.
if ! cmp -s tests/support/kafka/pom.xml "$home/kafka/pom.xml"; then
  echo "fetching Kafka (45 MB)"
  rm -rf "$home/kafka" && mkdir -p "$home/kafka"
  plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
  if mvn -q -B -f tests/support/kafka/pom.xml "$plugin:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$home/kafka"; then
    cp tests/support/kafka/pom.xml "$home/kafka/pom.xml"
  else
    missing+=("Kafka (mvn failed)")
  fi
fi

for what in "${missing[@]}"; do echo "MISSING: $what" >&2; done
if ((${#missing[@]})) && [ "${CI:-}" = true ]; then exit 1; fi
exit 0
