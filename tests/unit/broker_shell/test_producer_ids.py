import asyncio

import pytest
from glasslog.broker.producer_ids import ProducerIdBlocks, ProducerIds
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import BrokerEpoch, NodeId, ProducerId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld

from tests.unit.broker_shell.fake_quorum import FakeQuorum, channel_to


def producer_ids(quorum: FakeQuorum) -> ProducerIds:
    return ProducerIds(channel_to(quorum), broker_id=NodeId(1), broker_epoch=lambda: BrokerEpoch(5))


def test_a_block_is_handed_out_in_order_and_then_the_next() -> None:
    blocks = ProducerIdBlocks()
    assert blocks.take() is None
    blocks.add(ProducerId(100), 2)
    assert [blocks.take(), blocks.take(), blocks.take()] == [100, 101, None]


def test_the_next_block_is_wanted_below_a_tenth() -> None:
    blocks = ProducerIdBlocks()
    blocks.add(ProducerId(0), 20)
    wanted = []
    for _ in range(20):
        blocks.take()
        wanted.append(blocks.wants_more)
    assert wanted == [False] * 18 + [True] * 2


def test_every_producer_gets_its_own_id() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        await quorum.start()
        ids = producer_ids(quorum)
        fetching = asyncio.create_task(ids.run())
        given = await asyncio.gather(*(ids.init(transactional_id="") for _ in range(55)))
        assert sorted(each.producer_id for each in given) == list(range(55))
        assert {each.producer_epoch for each in given} == {0}
        fetching.cancel()

    run_virtual(main)


def test_the_next_block_is_fetched_before_it_is_needed() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        await quorum.start()
        ids = producer_ids(quorum)
        fetching = asyncio.create_task(ids.run())
        for _ in range(10):
            await ids.init(transactional_id="")
            await asyncio.sleep(0.1)
        before = asyncio.get_running_loop().time()
        await ids.init(transactional_id="")
        assert asyncio.get_running_loop().time() == before
        fetching.cancel()

    run_virtual(main)


def test_without_a_controller_the_client_may_try_again() -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        with pytest.raises(GlasslogError) as caught:
            await producer_ids(quorum).init(transactional_id="")
        assert caught.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert caught.value.retriable

    run_virtual(main)


def test_transactions_are_refused_with_a_sentence() -> None:
    async def main() -> None:
        with pytest.raises(GlasslogError, match=r"transactional\.id 'payments'.*not transactions") as caught:
            await producer_ids(FakeQuorum(MemoryWorld())).init(transactional_id="payments")
        assert caught.value.code is ErrorCode.UNSUPPORTED_VERSION

    run_virtual(main)
