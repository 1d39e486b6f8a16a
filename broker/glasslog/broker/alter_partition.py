"""Asks the active controller for changes of ISRs, many partitions in one request, one request at a time.

Refuses to know why a change is wanted. Source: Kafka's ``AlterPartitionManager`` (KIP-497).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.partition.isr import AlterPartitionOutcome
from glasslog.broker.wire_errors import error_code_of, raise_for
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, TopicId
from glasslog.v1 import controller_pb2 as pb

_log = logging.getLogger(__name__)

_ALTER_PARTITION = CONTROLLER_SERVICE + "AlterPartition"
_TIMEOUT_MS = 5_000
_PARTITIONS_PER_REQUEST = 1_000

Key = tuple[TopicId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    wire: pb.AlterPartitionRequest.Partition
    outcome: asyncio.Future[AlterPartitionOutcome]


class AlterPartitionManager:
    """Implements ``AlterPartitionSender``. ``run`` until cancelled.

    ``broker_epoch`` says under which registration to ask. A newer change of a partition replaces one that was
    not sent yet, whose waiter gets OPERATION_NOT_ATTEMPTED; so at most one change a partition is queued.
    """

    def __init__(
        self, controllers: ControllerCalls, *, broker_id: NodeId, broker_epoch: Callable[[], BrokerEpoch]
    ) -> None:
        self._controllers = controllers
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._queued: dict[Key, _Change] = {}
        self._woken = asyncio.Event()

    def submit(
        self,
        topic_id: TopicId,
        partition: int,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        new_isr: tuple[NodeId, ...],
        new_isr_broker_epochs: tuple[BrokerEpoch, ...],
    ) -> asyncio.Future[AlterPartitionOutcome]:
        """Queue one change. The future raises ``GlasslogError`` when the controller could not be asked."""
        change = _Change(
            wire=pb.AlterPartitionRequest.Partition(
                topic_id=topic_id,
                partition=partition,
                leader_epoch=leader_epoch,
                partition_epoch=partition_epoch,
                new_isr=new_isr,
                new_isr_broker_epochs=new_isr_broker_epochs,
            ),
            outcome=asyncio.get_running_loop().create_future(),
        )
        replaced = self._queued.pop((topic_id, partition), None)
        if replaced is not None:
            _fail(replaced, GlasslogError(ErrorCode.OPERATION_NOT_ATTEMPTED, "a newer change replaced it"))
        self._queued[(topic_id, partition)] = change
        self._woken.set()
        return change.outcome

    async def run(self) -> None:
        """Send what is queued; while one request is out, the next one gathers."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while batch := self._take_batch():
                await self._send(batch)

    def _take_batch(self) -> dict[Key, _Change]:
        batch: dict[Key, _Change] = {}
        while self._queued and len(batch) < _PARTITIONS_PER_REQUEST:
            key = next(iter(self._queued))
            change = self._queued.pop(key)
            # Cancelled: whoever asked has lost interest, for example with its leadership.
            if not change.outcome.done():
                batch[key] = change
        return batch

    async def _send(self, batch: dict[Key, _Change]) -> None:
        request = pb.AlterPartitionRequest(
            broker_id=self._broker_id,
            broker_epoch=self._broker_epoch(),
            partitions=[change.wire for change in batch.values()],
        )
        try:
            answer = await self._controllers.call(
                _ALTER_PARTITION, request, pb.AlterPartitionResponse, timeout_ms=_TIMEOUT_MS
            )
            raise_for(answer.error_code, "the controller refused the whole request")
        except GlasslogError as error:
            _log.warning("ISR changes of %d partitions failed: %s", len(batch), error)
            for change in batch.values():
                _fail(change, error)
        else:
            _deliver(batch, answer)


def _deliver(batch: dict[Key, _Change], answer: pb.AlterPartitionResponse) -> None:
    for partition in answer.partitions:
        change = batch.pop((TopicId(partition.topic_id), partition.partition), None)
        if change is not None and not change.outcome.done():
            change.outcome.set_result(_outcome(partition))
    for change in batch.values():
        _fail(change, GlasslogError(ErrorCode.UNKNOWN_SERVER_ERROR, "the controller's answer left it out"))


def _outcome(partition: pb.AlterPartitionResponse.Partition) -> AlterPartitionOutcome:
    return AlterPartitionOutcome(
        error=error_code_of(partition.error_code),
        leader=NodeId(partition.leader),
        leader_epoch=LeaderEpoch(partition.leader_epoch),
        isr=tuple(NodeId(member) for member in partition.isr),
        partition_epoch=PartitionEpoch(partition.partition_epoch),
        elr=tuple(NodeId(member) for member in partition.elr),
    )


def _fail(change: _Change, error: GlasslogError) -> None:
    if not change.outcome.done():
        # A copy each: an exception that several tasks raise gathers the tracebacks of all of them.
        change.outcome.set_exception(GlasslogError(error.code, str(error)))
