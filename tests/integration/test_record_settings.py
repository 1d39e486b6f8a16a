"""What a topic demands of records, from a client's request to what is stored on every replica."""

from glasslog.common.errors import ErrorCode
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.log.batch import Compression, TimestampType, parse_header
from glasslog.log.records import decode_records
from glasslog.simulator.cluster import MemoryCluster

CONFIGS = {"message.timestamp.type": "LogAppendTime", "compression.type": "lz4"}


def test_the_leaders_time_and_compression_are_stored_and_the_producer_is_told() -> None:
    async def main() -> None:
        async with MemoryCluster() as cluster:
            await cluster.create_topic("t", configs=CONFIGS)
            leader = cluster.leader_of("t")
            answer = await cluster.produce(leader, "t", [b"one", b"two"])
            assert answer.error_code == 0
            assert answer.log_append_time_ms > 0
            fetched = await cluster.fetch(leader, "t")
            header = parse_header(fetched.records)
            assert header.compression is Compression.LZ4
            assert header.timestamp_type is TimestampType.LOG_APPEND_TIME
            records = decode_records(fetched.records)
            assert [record.value for record in records] == [b"one", b"two"]
            assert {record.timestamp for record in records} == {answer.log_append_time_ms}

    run_virtual(main)


def test_too_old_a_record_is_refused_with_the_reason() -> None:
    async def main() -> None:
        async with MemoryCluster() as cluster:
            await cluster.create_topic("t", configs={"message.timestamp.before.max.ms": "1000"})
            leader = cluster.leader_of("t")
            refused = await cluster.produce(leader, "t", [b"old"])
            assert refused.error_code == ErrorCode.INVALID_TIMESTAMP
            assert "message.timestamp.before.max.ms" in refused.error_message

    run_virtual(main)


def test_a_compacted_topic_refuses_records_without_a_key() -> None:
    async def main() -> None:
        async with MemoryCluster() as cluster:
            await cluster.create_topic("t", configs={"cleanup.policy": "compact"})
            answer = await cluster.produce(cluster.leader_of("t"), "t", [b"keyless"])
            assert answer.error_code == ErrorCode.INVALID_RECORD

    run_virtual(main)
