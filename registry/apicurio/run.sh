#!/usr/bin/env bash
# Asks Apicurio's checkers about the vectors and compares what they say with disagreements.tsv; README.md here says more.
set -euo pipefail
cd "$(dirname "$0")"

home=${TEREZA_TEST_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tereza}/apicurio
# Their poms have a parent that is not published, so Maven cannot resolve them; what they need is in pom.xml.
jars=(
  apicurio-registry-schema-util-common/3.0.9 apicurio-registry-schema-util-avro/3.0.9
  apicurio-registry-schema-util-json/3.0.9 apicurio-registry-schema-util-protobuf/3.0.9
  apicurio-registry-common/3.0.9 apicurio-registry-protobuf-schema-utilities/3.0.7
)

for program in java mvn curl python3; do
  command -v "$program" > /dev/null || { echo "skipped: there is no $program" >&2; exit 0; }
done
if ! cmp -s pom.xml "$home/installed.xml"; then
  repository=${MAVEN_REPOSITORY:?has to be the URL of a Maven repository with the jars of Apicurio Registry}
  mkdir -p "$home/lib"
  mvn -q -B -f pom.xml dependency:copy-dependencies -DoutputDirectory="$home/lib"
  for jar in "${jars[@]}"; do
    name=${jar%/*} version=${jar#*/}
    curl -sSf --retry 3 -o "$home/lib/$name-$version.jar" "$repository/io/apicurio/$name/$version/$name-$version.jar"
  done
  cp pom.xml "$home/installed.xml"
fi
java -Xmx300m -XX:TieredStopAtLevel=1 -cp "$home/lib/*" Judge.java ../tests/it/vectors | python3 why.py disagreements.tsv "$@"
