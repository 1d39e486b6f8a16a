"""A batch that its topic refuses as too large is split until it fits (KIP-126): in order, once each."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.client.producer import Producer
from glasslog.client.types import BatchMetadata, RecordMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld

from tests.unit.client.fake_broker import FakeBroker

Make = Callable[..., Producer]
VALUES = [b"%04d" % number + b"." * 96 for number in range(200)]


def play(scene: Callable[[FakeBroker, Make], Awaitable[None]]) -> None:
    async def main() -> None:
        world = MemoryWorld(seed=1)
        async with FakeBroker(world) as broker:
            broker.create("t", 1)

            def producer(**options: object) -> Producer:
                return Producer(broker.address, runtime=world.runtime("client"), **options)  # type: ignore[arg-type]  # tests mix types

            await scene(broker, producer)

    run_virtual(main, timeout_ms=600_000)


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("idempotent", [True, False])
def test_what_is_too_large_goes_in_parts(compression: str, idempotent: bool) -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        broker.max_batch_bytes = 2_500 if compression == "none" else 300
        async with make(compression_type=compression, enable_idempotence=idempotent) as producer:
            many = await producer.send_many("t", VALUES[:100])
            single = [await producer.send("t", value) for value in VALUES[100:]]
            heard: list[RecordMetadata | GlasslogError] = []
            single[7].add_done_callback(heard.append)
            runs: list[BatchMetadata] = await many
            assert sum(run.record_count for run in runs) == 100
            assert len(runs) > 2
            offsets = [run.base_offset + at for run in runs for at in range(run.record_count)]
            offsets += [(await delivery).offset for delivery in single]
            assert offsets == list(range(200))
            assert [outcome.offset for outcome in heard if isinstance(outcome, RecordMetadata)] == [107]
            assert producer.stats.records_acked == 200
            assert producer.stats.records_failed == 0
            assert producer.stats.buffered_bytes == 0
        assert broker.values("t") == VALUES

    play(scene)


def test_parts_are_retried_as_any_batch_is() -> None:
    """An answer is lost after the split: the leader knows the part by its sequence numbers."""

    async def scene(broker: FakeBroker, make: Make) -> None:
        broker.max_batch_bytes = 2_500
        async with make() as producer:
            deliveries = await producer.send_many("t", VALUES)
            while not broker.values("t"):  # noqa: ASYNC110 - simple beats quick here
                await asyncio.sleep(0.01)
            broker.lose_answers = 2
            await deliveries
        assert broker.values("t") == VALUES

    play(scene)


def test_a_record_too_large_by_itself_fails_alone() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        broker.max_batch_bytes = 400
        async with make() as producer:
            deliveries = [await producer.send("t", value) for value in (b"a", b"x" * 1_000, b"b")]
            assert (await deliveries[0]).offset == 0
            with pytest.raises(GlasslogError) as caught:
                await deliveries[1]
            assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE
            assert (await deliveries[2]).offset == 1
        assert broker.values("t") == [b"a", b"b"]

    play(scene)


def test_nobody_asks_and_flush_tells() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        broker.max_batch_bytes = 400
        async with make() as producer:
            await producer.send("t", b"a")
            await producer.send("t", b"x" * 1_000)
            with pytest.raises(GlasslogError, match="MESSAGE_TOO_LARGE"):
                await producer.flush()

    play(scene)


def test_a_batch_of_ones_own_is_stored_whole_or_not_at_all() -> None:
    async def scene(broker: FakeBroker, make: Make) -> None:
        async with make(linger_ms=5_000) as producer:
            await producer.send("t", b"before")
            pairs = [(b"k", value) for value in VALUES[:20]]
            deliveries = await producer.send_batch("t", pairs, 0)
            await producer.send("t", b"after")
            (run,) = await deliveries
            assert (run.base_offset, run.record_count) == (1, 20)
            await producer.flush()
            assert [header.record_count for header, _ in broker.logs["t"][0].batches] == [1, 20, 1]
            broker.max_batch_bytes = 1_000
            with pytest.raises(GlasslogError) as caught:
                await (await producer.send_batch("t", pairs, 0))
            assert caught.value.code is ErrorCode.MESSAGE_TOO_LARGE
            with pytest.raises(GlasslogError, match="20000 records exceed max_request_size"):
                await producer.send_batch("t", pairs * 1_000, 0)
            assert await (await producer.send_batch("t", [], 0)) == []
        assert len(broker.values("t")) == 22

    play(scene)
