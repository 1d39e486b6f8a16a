"""``Producer`` against a fake broker: delivery, retries, bounds, errors."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.client.options import ProducerKeywords, ProducerOptions, producer_options
from glasslog.client.producer import Producer
from glasslog.client.types import RecordMetadata
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld

from tests.unit.client.fake_broker import FakeBroker

Scene = Callable[[FakeBroker, Callable[..., Producer]], Awaitable[None]]


def play(scene: Scene) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with FakeBroker(world) as broker:
            broker.create("t", 3)

            def producer(**options: object) -> Producer:
                return Producer(broker.address, runtime=world.runtime("client"), **options)  # type: ignore[arg-type]  # tests pass wrong ones on purpose

            await scene(broker, producer)

    run_virtual(main, timeout_ms=600_000)


def test_records_arrive_in_order_and_say_where() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make() as producer:
            deliveries = [await producer.send("t", b"%d" % n, partition=1) for n in range(500)]
            places = [await delivery for delivery in deliveries]
        assert [place.offset for place in places] == list(range(500))
        assert isinstance(places[0], RecordMetadata)
        assert broker.values("t", 1) == [b"%d" % n for n in range(500)]

    play(scene)


def test_send_many_keeps_the_order_of_a_key() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        values = [b"%06d" % n for n in range(20_000)]
        async with make(batch_size=4_096, compression_type="gzip") as producer:
            runs = await (await producer.send_many("t", values, key=b"k"))
            stats = producer.stats
        (partition,) = {run.partition for run in runs}
        assert sum(run.record_count for run in runs) == 20_000
        assert broker.values("t", partition) == values
        assert stats.records_acked == 20_000
        assert stats.retries == 0

    play(scene)


def test_send_records_goes_by_key() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make() as producer:
            await (await producer.send_records("t", [(b"k%d" % (n % 10), b"%d" % n) for n in range(100)]))
        found = [[int(value or b"") for value in broker.values("t", p)] for p in range(3)]
        assert sorted(number for numbers in found for number in numbers) == list(range(100))
        assert all(numbers == sorted(numbers) for numbers in found)

    play(scene)


def test_a_lost_answer_never_doubles_a_record() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make(linger_ms=0) as producer:
            for n in range(300):
                broker.lose_answers += n % 7 == 0
                await (await producer.send("t", b"%d" % n, partition=0))
            assert producer.stats.retries > 0
        assert broker.values("t", 0) == [b"%d" % n for n in range(300)]

    play(scene)


def test_retriable_errors_are_retried_and_the_stall_is_short() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        broker.faults["Produce"] = [ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_ENOUGH_REPLICAS]
        async with make() as producer:
            await (await producer.send("t", b"x", partition=0))
            assert producer.stats.retries == 2
            assert producer.stats.longest_stall_ms < 150
        assert broker.values("t", 0) == [b"x"]

    play(scene)


def test_a_restarted_broker_is_found_again() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make() as producer:
            await (await producer.send("t", b"1", partition=0))
            await broker.stop()
            waiting = await producer.send("t", b"2", partition=0)
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await broker.start()
            await waiting
            assert producer.stats.longest_stall_ms < 2_500
        assert broker.values("t", 0) == [b"1", b"2"]

    play(scene)


def test_a_final_error_reaches_whoever_waits_and_flush_tells_of_the_others() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make() as producer:
            broker.faults["Produce"] = [ErrorCode.INVALID_RECORD]
            with pytest.raises(GlasslogError) as caught:
                await (await producer.send("t", b"x", partition=0))
            assert caught.value.code is ErrorCode.INVALID_RECORD
            await producer.flush()
            broker.faults["Produce"] = [ErrorCode.INVALID_RECORD]
            await producer.send("t", b"x", partition=0)
            with pytest.raises(GlasslogError, match="INVALID_RECORD"):
                await producer.flush()
            outcomes: list[object] = []
            delivery = await producer.send("t", b"y", partition=0)
            delivery.add_done_callback(outcomes.append)
            await producer.flush()
            assert outcomes == [await delivery]
            assert producer.stats.records_failed == 2

    play(scene)


def test_what_can_not_be_delivered_is_given_up_in_time() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make(delivery_timeout_ms=2_000) as producer:
            await (await producer.send("t", b"1", partition=0))
            await broker.stop()
            started = asyncio.get_running_loop().time()
            with pytest.raises(GlasslogError, match="not acknowledged within 2000 ms") as caught:
                await (await producer.send("t", b"2", partition=0))
            assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT
            assert asyncio.get_running_loop().time() - started < 3
            await broker.start()
            await (await producer.send("t", b"3", partition=0))
        assert broker.values("t", 0)[-1] == b"3"

    play(scene)


def test_a_full_buffer_holds_send_back_and_then_refuses() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make(buffer_memory=2_000, max_block_ms=500, batch_size=1_000) as producer:
            await (await producer.send("t", b"1", partition=0))
            await broker.stop()
            with pytest.raises(GlasslogError, match="no room for more records within max_block_ms=500"):
                await producer.send_many("t", [b"x" * 100] * 100, partition=0)
            await broker.start()
            await producer.flush()

    play(scene)


def test_acks_zero_is_fire_and_forget() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make(acks=0) as producer:
            place = await (await producer.send("t", b"x", partition=0))
            assert place.offset == -1
            broker.appeared.clear()
            await producer.send("t", b"y", partition=0)
        await broker.appeared.wait()
        assert broker.values("t", 0) == [b"x", b"y"]

    play(scene)


def test_bad_input_is_refused_with_its_reason() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make(max_block_ms=300, max_request_size=10_000) as producer:
            with pytest.raises(GlasslogError, match="exceeds max_request_size=10000"):
                await producer.send("t", b"x" * 10_000)
            with pytest.raises(GlasslogError, match="there is no partition 3"):
                await producer.send("t", b"x", partition=3)
            with pytest.raises(GlasslogError, match="topic 'nowhere' was not found within 300 ms") as caught:
                await producer.send("nowhere", b"x")
            assert caught.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            with pytest.raises(TypeError, match="value must be bytes or None, not str"):
                await producer.send("t", "text")
        with pytest.raises(GlasslogError, match="the producer is closed"):
            await producer.send("t", b"x")

    play(scene)


def test_serializers_and_custom_partitioners() -> None:
    async def scene(broker: FakeBroker, make: Callable[..., Producer]) -> None:
        async with make(
            value_serializer=lambda value: str(value).encode(),
            partitioner=lambda topic, key, count: count - 1,
        ) as producer:
            place = await (await producer.send("t", 42))
        assert place.partition == 2
        assert broker.values("t", 2) == [b"42"]

    play(scene)


def test_no_broker_is_an_error_that_names_addresses() -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        producer = Producer(
            "nobody:1,broker-9:2", runtime=world.runtime("client"), bootstrap_timeout_ms=1_000
        )
        with pytest.raises(GlasslogError, match=r"no broker could be reached: nobody:1: .*; broker-9:2: "):
            await producer.start()

    run_virtual(main)


def test_a_kafka_port_is_recognised() -> None:
    from glasslog.common.runtime.protocols import FrameConnection

    class Kafka:
        def __init__(self, connection: FrameConnection) -> None:
            self.connection = connection

        def on_frame(self, frame: memoryview) -> None:
            self.connection.send((bytes(frame[4:8]), b"\0\0"))

        def on_closed(self, error: Exception | None) -> None: ...

    async def main() -> None:
        world = MemoryWorld(seed=1)
        await world.runtime("k").transport.listen_frames("k:9092", Kafka, max_frame_bytes=100)
        producer = Producer("k:9092", runtime=world.runtime("client"))
        started = asyncio.get_running_loop().time()
        with pytest.raises(GlasslogError, match=r"k:9092 speaks the Kafka protocol.*GRPC listener"):
            await producer.start()
        # A mistake that patience does not mend is told soon, not after ten seconds.
        assert asyncio.get_running_loop().time() - started < 2.5

    run_virtual(main)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"linger": 5}, "unknown option 'linger'; did you mean 'linger_ms'"),
        ({"linger_ms": "5"}, "linger_ms='5' must be of type int"),
        ({"linger_ms": True}, "linger_ms=True must be of type int"),
        ({"linger_ms": -1}, "linger_ms=-1 must be at least 0"),
        ({"acks": "some"}, "acks='some' must be of type int"),
        ({"acks": 1, "enable_idempotence": True}, "needs acks='all'"),
        ({"max_in_flight": 6}, "at most 5"),
        ({"compression_type": "zip"}, "allowed: none, gzip"),
        ({"delivery_timeout_ms": 100, "request_timeout_ms": 100}, "is below linger_ms"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        producer_options("a:1", options)


def test_options_follow_kafka() -> None:
    assert producer_options("a:1, b:2", {"acks": "all"}).bootstrap_servers == ("a:1", "b:2")
    assert not producer_options("a:1", {"acks": 1}).enable_idempotence
    assert producer_options("a:1", {"delivery_timeout_ms": 1_000}).request_timeout_ms == 995
    with pytest.raises(ConfigError, match="not of the form host:port"):
        producer_options("a", {})
    with pytest.raises(ConfigError, match="bootstrap_servers is empty"):
        producer_options("", {})


def test_keyword_types_cover_every_option() -> None:
    fields = set(ProducerOptions.__dataclass_fields__) - {"bootstrap_servers"}
    assert set(ProducerKeywords.__annotations__) == fields
