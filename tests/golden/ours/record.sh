#!/bin/sh
# Writes our log of everything anew and asks Kafka 4.0.0 what it sees in it.
# Usage: KAFKA_LIBS=FOLDER-WITH-KAFKA'S-JARS [PYTHON=.venv/bin/python] tests/golden/ours/record.sh   (from the repository's root)
set -eu
: "${KAFKA_LIBS:?the folder with the jars of Kafka 4.0.0}"
here=tests/golden/ours
rm -rf "$here/t-0"
mkdir "$here/t-0"
"${PYTHON:-.venv/bin/python}" -c "
from glasslog.common.runtime.production.files import OsFileSystem
from tests.golden.our_log import write_our_log
write_our_log(OsFileSystem(), '$here/t-0')"
cd "$here"
for log in t-0/*.log; do
  java -cp "$KAFKA_LIBS/*" kafka.tools.DumpLogSegments --deep-iteration --print-data-log --files "$log" 2>/dev/null
done > kafka-dump-log.txt
