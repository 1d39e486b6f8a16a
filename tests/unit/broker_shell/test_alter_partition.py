import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.broker.alter_partition import AlterPartitionManager
from glasslog.broker.partition.isr import AlterPartitionOutcome, AlterPartitionSender
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicId
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.v1 import controller_pb2 as pb

from tests.unit.broker_shell.fake_quorum import FakeQuorum, channel_to

TOPIC = TopicId(b"t" * 16)


class RecordingController:
    """Confirms every change, and remembers how the changes came."""

    def __init__(self) -> None:
        self.requests: list[pb.AlterPartitionRequest] = []

    def __call__(self, request: pb.AlterPartitionRequest) -> pb.AlterPartitionResponse:
        self.requests.append(request)
        answer = pb.AlterPartitionResponse()
        for change in request.partitions:
            answer.partitions.add(
                topic_id=change.topic_id,
                partition=change.partition,
                leader=1,
                leader_epoch=change.leader_epoch,
                isr=change.new_isr,
                partition_epoch=change.partition_epoch + 1,
            )
        return answer

    @property
    def batches(self) -> list[list[int]]:
        return [[change.partition for change in request.partitions] for request in self.requests]


def submit(sender: AlterPartitionSender, partition: int) -> "asyncio.Future[AlterPartitionOutcome]":
    isr = (NodeId(1), NodeId(2))
    epochs = (BrokerEpoch(5), BrokerEpoch(6))
    waiting = sender.submit(TOPIC, partition, LeaderEpoch(3), PartitionEpoch(8), isr, epochs)
    return asyncio.ensure_future(waiting)


Scenario = Callable[[FakeQuorum, AlterPartitionManager, RecordingController], Awaitable[None]]


def manage(scenario: Scenario) -> None:
    async def main() -> None:
        quorum = FakeQuorum(MemoryWorld())
        await quorum.start()
        controller = RecordingController()
        quorum.alter_partition = controller
        manager = AlterPartitionManager(
            channel_to(quorum), broker_id=NodeId(1), broker_epoch=lambda: BrokerEpoch(5)
        )
        running = asyncio.create_task(manager.run())
        await scenario(quorum, manager, controller)
        running.cancel()

    run_virtual(main)


def test_a_change_is_confirmed_with_its_new_epoch() -> None:
    async def scenario(
        quorum: FakeQuorum, manager: AlterPartitionManager, controller: RecordingController
    ) -> None:
        outcome = await submit(manager, 0)
        assert (outcome.error, outcome.isr, outcome.partition_epoch) == (ErrorCode.NONE, (1, 2), 9)
        request = controller.requests[0]
        assert (request.broker_id, request.broker_epoch) == (1, 5)
        assert list(request.partitions[0].new_isr_broker_epochs) == [5, 6]

    manage(scenario)


def test_changes_gather_while_a_request_is_out() -> None:
    async def scenario(
        quorum: FakeQuorum, manager: AlterPartitionManager, controller: RecordingController
    ) -> None:
        first = submit(manager, 0)
        await asyncio.sleep(0.0001)
        others = [submit(manager, partition) for partition in (1, 2, 3)]
        await asyncio.gather(first, *others)
        assert controller.batches == [[0], [1, 2, 3]]

    manage(scenario)


def test_a_newer_change_replaces_one_that_waits() -> None:
    async def scenario(
        quorum: FakeQuorum, manager: AlterPartitionManager, controller: RecordingController
    ) -> None:
        out = submit(manager, 0)
        await asyncio.sleep(0.0001)
        old, new = submit(manager, 1), submit(manager, 1)
        with pytest.raises(GlasslogError) as caught:
            await old
        assert caught.value.code is ErrorCode.OPERATION_NOT_ATTEMPTED
        await asyncio.gather(out, new)
        assert controller.batches == [[0], [1]]

    manage(scenario)


def test_nobody_asks_for_what_nobody_waits_for() -> None:
    async def scenario(
        quorum: FakeQuorum, manager: AlterPartitionManager, controller: RecordingController
    ) -> None:
        out = submit(manager, 0)
        await asyncio.sleep(0.0001)
        submit(manager, 1).cancel()
        await out
        await asyncio.sleep(1)
        assert controller.batches == [[0]]

    manage(scenario)


def test_a_change_outlives_a_controllers_failover() -> None:
    async def scenario(
        quorum: FakeQuorum, manager: AlterPartitionManager, controller: RecordingController
    ) -> None:
        quorum.leader_id = -1
        waiting = submit(manager, 0)
        await asyncio.sleep(1)
        quorum.elect(2)
        assert (await waiting).error is ErrorCode.NONE

    manage(scenario)


def test_a_refused_request_fails_all_its_changes() -> None:
    async def scenario(
        quorum: FakeQuorum, manager: AlterPartitionManager, controller: RecordingController
    ) -> None:
        quorum.alter_partition = lambda request: pb.AlterPartitionResponse(
            error_code=ErrorCode.STALE_BROKER_EPOCH
        )
        for waiting in [submit(manager, 0), submit(manager, 1)]:
            with pytest.raises(GlasslogError) as caught:
                await waiting
            assert caught.value.code is ErrorCode.STALE_BROKER_EPOCH

    manage(scenario)


def test_a_change_that_the_answer_leaves_out_fails() -> None:
    async def scenario(
        quorum: FakeQuorum, manager: AlterPartitionManager, controller: RecordingController
    ) -> None:
        quorum.alter_partition = lambda request: pb.AlterPartitionResponse()
        with pytest.raises(GlasslogError, match="left it out"):
            await submit(manager, 0)

    manage(scenario)
