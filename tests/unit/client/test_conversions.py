"""Serializers, deserializers, interceptors; what ``subscribe``, ``seek`` and ``commit`` can do besides."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping

import pytest
from glasslog.client.consumer import Consumer
from glasslog.client.interceptors import ProducerRecord
from glasslog.client.partitioner import RoundRobinPartitioner
from glasslog.client.producer import Producer
from glasslog.client.serializers import DeserializationError, SerializationError
from glasslog.client.subscription import PartitionState, Positioned
from glasslog.client.types import ConsumerRecord, OffsetAndMetadata, RecordMetadata
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.log.markers import EndTransactionMarker, encode_marker
from glasslog.log.records import encode_batch

from tests.unit.client.fake_broker import FakeBroker

T0 = TopicPartition("t", 0)
Scene = Callable[[FakeBroker, Callable[..., Producer], Callable[..., Consumer]], Awaitable[None]]


def play(scene: Scene) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with FakeBroker(world) as broker:
            broker.create("t", 3)
            runtime = world.runtime("client")

            def producer(**options: object) -> Producer:
                return Producer(broker.address, runtime=runtime, **options)  # type: ignore[arg-type]  # tests mix types

            def consumer(*topics: str, **options: object) -> Consumer:
                given = {"auto_offset_reset": "earliest", **options}
                return Consumer(*topics, bootstrap_servers=broker.address, runtime=runtime, **given)  # type: ignore[arg-type]  # tests mix types

            await scene(broker, producer, consumer)

    run_virtual(main, timeout_ms=600_000)


async def read(consumer: Consumer, count: int) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await consumer.poll()
    return found


# --- conversions ------------------------------------------------------------------------------------------


def test_values_travel_as_json_and_keys_as_text() -> None:
    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        async with make(key_serializer="str", value_serializer="json") as producer:
            await producer.send("t", {"apples": 3, "name": "Jörg"}, key="anna", partition=0)
            await producer.send("t", None, key="anna", partition=0)
        assert broker.values("t")[0] == '{"apples":3,"name":"Jörg"}'.encode()
        async with reader(key_deserializer="str", value_deserializer="json") as consumer:
            consumer.assign([T0])
            records = await read(consumer, 2)
            assert [(record.key, record.value) for record in records] == [
                ("anna", {"apples": 3, "name": "Jörg"}),
                ("anna", None),
            ]
            consumer.seek(T0, 0)
            assert (await anext(consumer)).value == {"apples": 3, "name": "Jörg"}

    play(scene)


def test_what_can_not_be_serialized_is_refused_with_its_reason() -> None:
    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        async with make(key_serializer="str", value_serializer="json") as producer:
            with pytest.raises(SerializationError, match=r"value .* can not be serialized: .*not JSON"):
                await producer.send("t", {1, 2})
            with pytest.raises(SerializationError, match="key 7 can not be serialized: int is not str"):
                await producer.send("t", 1, key=7)
            await producer.flush()
        assert broker.values("t") + broker.values("t", 1) + broker.values("t", 2) == []

    play(scene)


@pytest.mark.parametrize("by_iteration", [False, True])
def test_a_record_that_can_not_be_deserialized_is_named_and_can_be_skipped(by_iteration: bool) -> None:
    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        async with make() as producer:
            await producer.send_many("t", [b"1", b"2", b"{", b"4"], partition=0)
        async with reader(value_deserializer="json", group_id="g") as consumer:
            consumer.assign([T0])
            for expected in (1, 2):
                assert (await anext(consumer)).value == expected if by_iteration else True
            if not by_iteration:
                assert [record.value for record in await read(consumer, 2)] == [1, 2]
            for _ in range(2):
                with pytest.raises(
                    DeserializationError, match=r"offset 2 of t-0 .*seek to 3 to go on"
                ) as caught:
                    await (anext(consumer) if by_iteration else consumer.poll(timeout_ms=5_000))
                assert (caught.value.partition, caught.value.offset) == (T0, 2)
                assert await consumer.position(T0) == 2
            consumer.seek(T0, 3)
            assert (await anext(consumer)).value == 4

    play(scene)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="value_serializer='yaml': a function, or one of bytes, str, json"):
        Producer("b:1", value_serializer="yaml", runtime=MemoryWorld(seed=1).runtime("c"))
    with pytest.raises(ConfigError, match="key_deserializer='yaml'"):
        Consumer(bootstrap_servers="b:1", key_deserializer="yaml", runtime=MemoryWorld(seed=1).runtime("c"))
    with pytest.raises(ConfigError, match="partitioner='best': a function, or one of default, round_robin"):
        Producer("b:1", partitioner="best", runtime=MemoryWorld(seed=1).runtime("c"))


def test_round_robin_goes_through_all_partitions_of_each_topic() -> None:
    partitioner = RoundRobinPartitioner()
    assert [partitioner.choose("t", b"k", 3) for _ in range(4)] == [0, 1, 2, 0]
    assert [partitioner.choose("u", None, 2) for _ in range(3)] == [0, 1, 0]

    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        async with make(partitioner="round_robin") as producer:
            places = [await (await producer.send("t", b"v", key=b"k")) for _ in range(3)]
        assert [place.partition for place in places] == [0, 1, 2]

    play(scene)


# --- interceptors -----------------------------------------------------------------------------------------


class Tracer:
    """Adds a header, counts outcomes, drops a record; fails at what is named ``broken``."""

    def __init__(self) -> None:
        self.outcomes: list[RecordMetadata | GlasslogError] = []
        self.committed: list[int] = []

    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        if record.key == b"broken":
            raise ValueError("no such luck")
        return record._replace(headers=(*record.headers, ("trace", b"1")))

    def on_acknowledgement(self, outcome: RecordMetadata | GlasslogError) -> None:
        self.outcomes.append(outcome)

    def on_consume(self, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        return [record for record in records if record.value != b"secret"]

    def on_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        self.committed += [position.offset for position in offsets.values()]


def test_interceptors_see_and_change_records_and_learn_of_outcomes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracer = Tracer()

    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        async with make(interceptors=[tracer]) as producer:
            for value, key in ((b"a", None), (b"secret", None), (b"c", b"broken")):
                await (await producer.send("t", value, key=key, partition=0))
            broker.faults["Produce"] = [ErrorCode.INVALID_RECORD]
            await producer.send("t", b"d", partition=0)
            with pytest.raises(GlasslogError, match="INVALID_RECORD"):
                await producer.flush()
        assert [type(outcome).__name__ for outcome in tracer.outcomes] == [
            *["RecordMetadata"] * 3,
            "GlasslogError",
        ]
        async with reader(interceptors=[tracer], group_id="g") as consumer:
            consumer.assign([T0])
            records = await read(consumer, 2)
            assert [(record.value, record.headers) for record in records] == [
                (b"a", (("trace", b"1"),)),
                (b"c", ()),
            ]
            await consumer.commit()
            assert tracer.committed == [3]
            consumer.seek(T0, 1)
            assert (await anext(consumer)).value == b"c"

    with caplog.at_level(logging.ERROR):
        play(scene)
    assert "no such luck" in caplog.text


def test_an_iteration_gets_past_any_number_of_records_that_are_kept_back() -> None:
    """Each record that an interceptor took away nested the search for the next one a level deeper, until
    Python had no more levels: a thousand of them in a row ended the consumer.
    """

    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        async with make() as producer:
            await producer.send_many("t", [b"secret"] * 5_000 + [b"told"], partition=0)
        async with reader(interceptors=[Tracer()]) as consumer:
            consumer.assign([T0])
            assert (await anext(consumer)).value == b"told"

    play(scene)


# --- subscribing, seeking, committing ---------------------------------------------------------------------


def test_a_pattern_follows_topics_that_come_and_go() -> None:
    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        broker.create("orders-eu", 1)
        broker.create("other", 1)
        async with reader(group_id="g", heartbeat_interval_ms=50, metadata_max_age_ms=200) as consumer:
            consumer.subscribe(re.compile("orders-.*"))
            await until_topics(consumer, "orders-eu")
            broker.create("orders-us", 1)
            await until_topics(consumer, "orders-eu", "orders-us")
            del broker.logs["orders-eu"]
            await until_topics(consumer, "orders-us")
            consumer.subscribe(["other"])
            await until_topics(consumer, "other")

    play(scene)


async def until_topics(consumer: Consumer, *topics: str) -> None:
    async with asyncio.timeout(30):
        while tuple(sorted({each.topic for each in consumer.assignment})) != topics:
            await consumer.poll(timeout_ms=50)


def test_commits_without_waiting_keep_their_order_and_are_awaited_by_close() -> None:
    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        done: list[GlasslogError | None] = []
        async with reader("t", group_id="g", enable_auto_commit=False, heartbeat_interval_ms=50) as consumer:
            while len(consumer.assignment) < 3:
                await consumer.poll(timeout_ms=50)
            for offset in range(1, 6):
                consumer.commit_async({T0: offset}, done.append)
            consumer.commit_async({T0: 6})
        assert done == [None] * 5
        assert broker.groups["g"].offsets["t", 0].offset == 6

    play(scene)


def test_a_commit_that_fails_tells_its_callback() -> None:
    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        told: list[GlasslogError | None] = []
        async with reader("t", group_id="g", enable_auto_commit=False, heartbeat_interval_ms=50) as consumer:
            while len(consumer.assignment) < 3:
                await consumer.poll(timeout_ms=50)
            broker.faults["OffsetCommit"] = [ErrorCode.OFFSET_METADATA_TOO_LARGE]
            consumer.commit_async({T0: 1}, told.append)
            async with asyncio.timeout(5):
                while not told:
                    await consumer.poll(timeout_ms=50)
        assert told[0] is not None
        assert told[0].code is ErrorCode.OFFSET_METADATA_TOO_LARGE

    play(scene)


def test_a_time_before_1970_is_refused() -> None:
    async def scene(
        broker: FakeBroker, make: Callable[..., Producer], reader: Callable[..., Consumer]
    ) -> None:
        async with reader() as consumer:
            consumer.assign([T0])
            with pytest.raises(GlasslogError, match="-5 is before 1970"):
                consumer.seek_to_timestamp({T0: -5})

    play(scene)


# --- aborted transactions ---------------------------------------------------------------------------------


def transaction(base_offset: int, producer_id: int, values: list[bytes]) -> bytes:
    return bytes(
        encode_batch(
            [(0, None, value, ()) for value in values],
            base_offset=base_offset,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=0,
            transactional=True,
        )
    )


def marker(base_offset: int, producer_id: int, *, is_commit: bool) -> bytes:
    data = encode_marker(
        EndTransactionMarker(is_commit, 0), producer_id=producer_id, producer_epoch=0, timestamp_ms=0
    )
    data[0:8] = base_offset.to_bytes(8, "big")
    return bytes(data)


def test_batches_of_aborted_transactions_are_not_handed_out() -> None:
    """Producer 7 aborts, then commits; producer 8 commits in between; a plain record lies in the middle."""
    data = (
        transaction(0, 7, [b"lost"])
        + transaction(1, 8, [b"kept-8"])
        + bytes(encode_batch([(0, None, b"plain", ())], base_offset=2))
        + transaction(3, 7, [b"lost too"])
        + marker(4, 7, is_commit=False)
        + transaction(5, 7, [b"kept-7"])
        + marker(6, 8, is_commit=True)
        + marker(7, 7, is_commit=True)
    )
    state = PartitionState(T0, Positioned(offset=0), 1)
    state.add(data, [(7, 0)])
    values: list[bytes | None] = []
    while (run := state.take(10)) is not None:
        values += [record[3] for record in run.records]
    assert values == [b"kept-8", b"plain", b"kept-7"]
    assert state.position == 8


def test_without_a_list_of_aborted_transactions_all_is_handed_out() -> None:
    state = PartitionState(T0, Positioned(offset=0), 1)
    state.add(transaction(0, 7, [b"one"]) + marker(1, 7, is_commit=False))
    run = state.take(10)
    assert run is not None
    assert [record[3] for record in run.records] == [b"one"]
