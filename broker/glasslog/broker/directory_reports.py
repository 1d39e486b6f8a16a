"""Tells the active controller in which data directory this broker has put its replicas (KIP-858).

Only where the broker had a choice, or the directory that the metadata names is gone.  Refuses to know how
directories are chosen; that one has failed goes with the next heartbeat (``lifecycle``).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.wire_errors import error_code_of, raise_for
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_BROKER_EPOCH, BrokerEpoch, NodeId, TopicId
from glasslog.v1 import controller_pb2 as pb

_LOGGER = logging.getLogger(__name__)

_ASSIGN = CONTROLLER_SERVICE + "AssignReplicasToDirs"
_TIMEOUT_MS = 5_000
_RETRY_MS = 200
_ASSIGNMENTS_PER_REQUEST = 1_000

Key = tuple[TopicId, int]


class DirectorySink(Protocol):
    """Hears where replicas lie."""

    def assigned(self, topic_id: TopicId, partition: int, directory_id: bytes) -> None:
        """A replica lies in ``directory_id``, which the metadata does not say."""
        ...

    def failed(self) -> None:
        """A directory has failed, and others are left."""
        ...


class IgnoredDirectories:
    """A sink where there is no controller."""

    def assigned(self, topic_id: TopicId, partition: int, directory_id: bytes) -> None:
        """Nobody wants to know."""

    def failed(self) -> None:
        """Nobody wants to know."""


class DirectoryReports:
    """Implements ``DirectorySink``. ``run`` until cancelled; ``on_failed`` hastens the next heartbeat."""

    def __init__(
        self,
        controllers: ControllerCalls,
        *,
        broker_id: NodeId,
        broker_epoch: Callable[[], BrokerEpoch],
        on_failed: Callable[[], None],
    ) -> None:
        self._controllers = controllers
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._queued: dict[Key, bytes] = {}
        self._woken = asyncio.Event()
        self.failed = on_failed

    def assigned(self, topic_id: TopicId, partition: int, directory_id: bytes) -> None:
        """See ``DirectorySink``; what is said last of a replica counts."""
        self._queued[(topic_id, partition)] = directory_id
        self._woken.set()

    async def run(self) -> None:
        """Send what is queued, again until the controller has taken it."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._queued:
                batch = dict(list(self._queued.items())[:_ASSIGNMENTS_PER_REQUEST])
                if not await self._send(batch):
                    await asyncio.sleep(_RETRY_MS / 1000)

    async def _send(self, batch: dict[Key, bytes]) -> bool:
        """Whether the controller has decided on them."""
        epoch = self._broker_epoch()
        if epoch == NO_BROKER_EPOCH:
            return False
        request = pb.AssignReplicasToDirsRequest(
            broker_id=self._broker_id,
            broker_epoch=epoch,
            assignments=[
                pb.AssignReplicasToDirsRequest.Assignment(
                    topic_id=topic_id, partition=partition, directory_id=directory_id
                )
                for (topic_id, partition), directory_id in batch.items()
            ],
        )
        try:
            answer = await self._controllers.call(
                _ASSIGN, request, pb.AssignReplicasToDirsResponse, timeout_ms=_TIMEOUT_MS
            )
            raise_for(answer.error_code, "the controller refused the whole request")
        except GlasslogError as error:
            _LOGGER.warning("the directories of %d replicas are not known yet: %s", len(batch), error)
            return False
        for key, directory_id in batch.items():
            if self._queued.get(key) == directory_id:
                del self._queued[key]
        for outcome in answer.outcomes:
            _explain(outcome)
        return True


def _explain(outcome: pb.AssignReplicasToDirsResponse.Outcome) -> None:
    error = error_code_of(outcome.error_code)
    if error is ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE:
        _LOGGER.error(
            "partition %d of topic %s has no leader: acknowledged records may be in a data directory that is "
            "gone. Bring it back, or set unclean.leader.election.enable on the topic to go on without",
            outcome.partition,
            outcome.topic_id.hex(),
        )
    elif error is not ErrorCode.NONE:
        _LOGGER.info("partition %d of topic %s: %s", outcome.partition, outcome.topic_id.hex(), error.name)
