"""What users and clusters have done to a ``Producer``: each test tells the mishap it is there for."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from glasslog.client.producer import Producer
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Peer, Stream
from glasslog.v1 import broker_pb2 as pb

from tests.unit.client.fake_broker import FakeBroker

Make = Callable[..., Producer]
Scene = Callable[[FakeBroker, Make], Awaitable[None]]


class SilentBroker(FakeBroker):
    """Takes in so many produce streams without ever answering."""

    silent_streams = 0

    async def _produce(self, stream: Stream, peer: Peer) -> None:
        if self.silent_streams:
            self.silent_streams -= 1
            await asyncio.Event().wait()
        await super()._produce(stream, peer)


class HeadlessBroker(FakeBroker):
    """Says that partition 1 has no leader while ``headless``."""

    headless = False

    async def _on_Metadata(self, request: pb.MetadataRequest) -> pb.MetadataResponse:  # noqa: N802
        answer = await super()._on_Metadata(request)
        for topic in answer.topics:
            for partition in topic.partitions:
                if self.headless and partition.partition == 1:
                    partition.leader = -1
        return answer


def play(scene: Scene, broker_type: type[FakeBroker] = FakeBroker) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with broker_type(world) as broker:
            broker.create("t", 3)

            def producer(**options: object) -> Producer:
                return Producer(broker.address, runtime=world.runtime("client"), **options)  # type: ignore[arg-type]  # tests mix types

            await scene(broker, producer)

    run_virtual(main, timeout_ms=600_000)


def test_tasks_that_send_at_once_learn_their_own_offsets() -> None:
    """Ten tasks sent at once; the one that began the batch was told the offset of whoever came last.

    ``send`` looked at the batch's number of records only after it had let others run.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make() as producer:

            async def send(n: int) -> int:
                return (await (await producer.send("t", b"%d" % n, partition=0))).offset

            offsets = await asyncio.gather(*map(send, range(10)))
        assert [broker.values("t", 0)[offset] for offset in offsets] == [b"%d" % n for n in range(10)]

    play(scene)


def test_a_callback_that_raises_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """A user's callback divided by zero: the sending task died, the producer with it, and whoever awaited
    a batch that was decided in the same breath waited for ever.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make() as producer:
            first = await producer.send("t", b"0", partition=0)
            first.add_done_callback(lambda outcome: print(1 / 0))
            others = [await producer.send("t", b"1", partition=p) for p in (0, 1, 2)]
            async with asyncio.timeout(5):
                for other in others:
                    await other
            await (await producer.send("t", b"2", partition=0))

    with caplog.at_level(logging.ERROR):
        play(scene)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"headers": (("h", "text"),)}, r"header \('h', 'text'\) must"),
        ({"headers": ((b"h", b"x"),)}, r"header \(b'h', b'x'\) must"),
        ({"headers": {"h": b"x"}}, "header 'h' must"),
        ({"timestamp_ms": 1.5}, "timestamp_ms=1.5"),
        ({"timestamp_ms": -7}, "timestamp_ms=-7"),
        ({"timestamp_ms": 1 << 63}, "timestamp_ms="),
    ],
)
def test_a_record_that_can_not_be_encoded_is_refused_alone(wrong: dict[str, object], complaint: str) -> None:
    """A header's content was text, say: ``send`` raised, yet left an empty batch behind. When that came to be
    sent, nobody could, and the whole producer stopped.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make() as producer:
            with pytest.raises((GlasslogError, TypeError), match=complaint):
                await producer.send("t", b"x", partition=0, **wrong)  # type: ignore[arg-type]  # wrong on purpose
            await (await producer.send("t", b"y", partition=0))
            await producer.flush()
        assert broker.values("t", 0) == [b"y"]

    play(scene)


def test_a_value_of_the_wrong_type_among_many_spoils_no_batch() -> None:
    """The third of five values was text. The two before it were in the batch already, but not counted: the
    batch was written, and every consumer found the partition corrupt for good.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make(linger_ms=50) as producer:
            await producer.send("t", b"0", partition=0)
            with pytest.raises(TypeError, match="bytes"):
                await producer.send_many("t", [b"1", b"2", "3", b"4"], partition=0)  # type: ignore[list-item]  # wrong on purpose
            with pytest.raises(TypeError, match="bytes"):
                await producer.send_records("t", [(None, b"5"), (None, "6")])  # type: ignore[list-item]  # wrong on purpose
            await producer.send("t", b"7", partition=0)
        assert broker.values("t", 0) == [b"0", b"7"]
        assert producer.stats.buffered_bytes == 0

    play(scene)


def test_a_batch_under_way_is_given_up_in_time_too() -> None:
    """A broker was paused with a batch in hand. ``delivery_timeout_ms`` passed, but the outcome came only
    when the far longer request timeout had passed as well.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        assert isinstance(broker, SilentBroker)
        options = {"request_timeout_ms": 30_000, "delivery_timeout_ms": 31_000, "linger_ms": 0}
        async with make(**options) as producer:
            broker.silent_streams = 100
            started = asyncio.get_running_loop().time()
            with pytest.raises(GlasslogError, match="in one of 2 attempts") as caught:
                await (await producer.send("t", b"x", partition=0))
            took_s = asyncio.get_running_loop().time() - started
            assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT
            assert 31.0 <= took_s < 31.2
            broker.silent_streams = 0
            await (await producer.send("t", b"y", partition=0))

    play(scene, SilentBroker)


def test_idle_time_after_a_failure_is_no_silence() -> None:
    """A record was refused, an hour later one was written: the statistics told of an hour's silence."""

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make() as producer:
            broker.faults["Produce"] = [ErrorCode.INVALID_RECORD]
            with pytest.raises(GlasslogError):
                await (await producer.send("t", b"x", partition=0))
            await asyncio.sleep(100)
            await (await producer.send("t", b"y", partition=0))
            assert producer.stats.longest_silence_ms < 100
            assert producer.stats.longest_stall_ms < 100

    play(scene)


def test_a_stall_that_outlives_its_records_is_told_whole() -> None:
    """A partition was without leader for a minute, and records were given up after two seconds each: the
    statistics told of a stall of two seconds.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make(delivery_timeout_ms=2_000, batch_size=1) as producer:
            await (await producer.send("t", b"0", partition=0))
            broker.faults["Produce"] = [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 10_000
            waiting = []
            for _ in range(60):
                waiting.append(await producer.send("t", b"x", partition=0))
                await asyncio.sleep(1)
            assert 58_000 < producer.stats.longest_stall_ms < 61_000
            broker.faults.clear()
            await waiting[-1]
            assert 59_000 < producer.stats.longest_stall_ms < 63_000
            assert producer.stats.longest_silence_ms > 59_000
            with pytest.raises(GlasslogError):
                await producer.flush()

    play(scene)


def test_a_flush_that_ends_does_not_take_the_hurry_from_another() -> None:
    """Two tasks flushed, the second for a partition that had no leader just then. The first one ended; with
    it went the flag that stops batches from lingering, and the second waited for a linger of a minute.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        assert isinstance(broker, HeadlessBroker)
        broker.headless = True
        async with make(linger_ms=60_000, request_timeout_ms=1_000) as producer:
            await producer.send("t", b"x", partition=0)
            early = asyncio.create_task(producer.flush())
            await asyncio.sleep(0)
            await producer.send("t", b"y", partition=1)
            late = asyncio.create_task(producer.flush())
            started = asyncio.get_running_loop().time()
            await early
            broker.headless = False
            await late
            assert asyncio.get_running_loop().time() - started < 5

    play(scene, HeadlessBroker)


def test_closing_ends_a_wait_for_metadata() -> None:
    """A task waited for a topic that was not there yet while another closed the producer. It went on waiting
    for ``max_block_ms`` and was then told that the topic was not found.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        producer = make()
        await producer.start()
        waiting = asyncio.create_task(producer.send("later", b"x"))
        await asyncio.sleep(0.5)
        started = asyncio.get_running_loop().time()
        await producer.close()
        with pytest.raises(GlasslogError, match="the producer is closed"):
            await waiting
        assert asyncio.get_running_loop().time() - started < 1

    play(scene)


def test_a_cancelled_send_has_queued_nothing() -> None:
    """A task was cancelled in ``send`` and sent the record again later, as it had to: it was there twice.

    The record had been queued, and the task was only letting others run.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make(linger_ms=0) as producer:
            await producer.partitions_for("t")
            for n in range(20):
                await producer.flush()
                sending = asyncio.create_task(producer.send("t", b"%d" % n, partition=0))
                for _ in range(n % 3):
                    await asyncio.sleep(0)
                if sending.done():
                    continue
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                await producer.send("t", b"%d" % n, partition=0)
        assert broker.values("t", 0) == [b"%d" % n for n in range(20)]

    play(scene)


@pytest.mark.parametrize("topic", [None, 7, b"t", "", "\ud800"])
def test_what_is_no_topic_name_is_refused_alone(topic: object) -> None:
    """A script had the topic from an unset variable. ``None`` went into every request for metadata from then
    on, which could not be encoded: the whole client stopped.
    """

    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make(max_block_ms=1_000) as producer:
            with pytest.raises(GlasslogError, match="topic name") as caught:
                await producer.send(topic, b"x")  # type: ignore[arg-type]  # wrong on purpose
            assert caught.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION
            await (await producer.send("t", b"y", partition=0))

    play(scene)
