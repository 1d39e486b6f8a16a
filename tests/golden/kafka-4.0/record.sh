#!/bin/sh
# Records the files beside it from a real Kafka 4.0.0: one node, KRaft, everything small.
# Usage: KAFKA_LIBS=FOLDER-WITH-KAFKA'S-JARS ./record.sh   (needs a JDK; replaces clean/ and live/)
set -eu
: "${KAFKA_LIBS:?the folder with the jars of Kafka 4.0.0}"
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
broker=
trap '[ -z "$broker" ] || kill -9 $broker 2>/dev/null || true; rm -rf "$work"' EXIT
cat > "$work/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:19393
listeners=PLAINTEXT://127.0.0.1:19392,CONTROLLER://127.0.0.1:19393
controller.listener.names=CONTROLLER
log.dirs=$work/data
log.index.size.max.bytes=96
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=4194304
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
share.coordinator.state.topic.num.partitions=1
metadata.max.idle.interval.ms=0
log.initial.task.delay.ms=500
log.retention.check.interval.ms=3000
log.flush.offset.checkpoint.interval.ms=500
END
java -cp "$KAFKA_LIBS/*" kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg -c "$work/server.properties" > "$work/format.log" 2>&1
java -Xmx512m -cp "$KAFKA_LIBS/*" kafka.Kafka "$work/server.properties" > "$work/broker.log" 2>&1 &
broker=$!
java -cp "$KAFKA_LIBS/*" "$here/Recorder.java" 127.0.0.1:19392 2> "$work/recorder.log" || { cat "$work/recorder.log" "$work/broker.log"; exit 1; }
# Compaction needs a moment: the cleaner looks every 200 ms.
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
  [ ! -s "$work/data/cleaner-offset-checkpoint" ] || grep -q '^compacted' "$work/data/cleaner-offset-checkpoint" && break
  sleep 1
done
sleep 3
# A folder of a running broker: its active indexes are preallocated and end in zeros.
mkdir "$work/live"
cp -r "$work/data/plain-0" "$work/live/"
kill $broker
wait $broker || true
broker=
rm -rf "$here/clean" "$here/live"
mkdir "$here/clean"
cp -r "$work/live" "$here/live"
(cd "$work/data" && rm -f .lock && cp -r . "$here/clean/")
rm -f "$here/clean/bootstrap.checkpoint"
find "$here/clean" "$here/live" -name '*.lock' -delete
# What Kafka's own tool says of them; of internal topics it prints raw bytes.
cd "$here"
for topic in plain codecs appended txn compacted; do
  for log in clean/$topic-0/*.log; do
    java -cp "$KAFKA_LIBS/*" kafka.tools.DumpLogSegments --deep-iteration --print-data-log --files "$log" 2>/dev/null
  done
done > kafka-dump-log.txt
du -sb clean live
