"""Hands out producer ids from blocks that the controller allocates to this broker.

Ids are unique in the cluster because blocks are; one that is never used is lost, which does no harm. It
refuses to know transactions: those have their own coordinator. Source: Kafka's ``ProducerIdManager``.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.wire_errors import raise_for
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import BrokerEpoch, NodeId, ProducerEpoch, ProducerId
from glasslog.v1 import controller_pb2 as pb

_ALLOCATE = CONTROLLER_SERVICE + "AllocateProducerIds"
_TIMEOUT_MS = 5_000
_REFETCH_BELOW = 0.1
_FIRST_EPOCH = ProducerEpoch(0)


class ProducerIdBlocks:
    """The ids at hand: the block in use, and at most one more fetched ahead."""

    def __init__(self) -> None:
        self._next = 0
        self._end = 0
        self._size = 0
        self._ahead: tuple[int, int] | None = None

    def take(self) -> ProducerId | None:
        """The next id, ``None`` when there is none."""
        if self._next == self._end and self._ahead is not None:
            first, count = self._ahead
            self._next, self._end, self._size, self._ahead = first, first + count, count, None
        if self._next == self._end:
            return None
        self._next += 1
        return ProducerId(self._next - 1)

    @property
    def wants_more(self) -> bool:
        """Whether less than a tenth of a block is left and nothing was fetched ahead."""
        return self._ahead is None and self._end - self._next < max(1, self._size * _REFETCH_BELOW)

    def add(self, first: ProducerId, count: int) -> None:
        """A block of ``count`` ids from ``first`` on has been allocated."""
        self._ahead = (first, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerIdAndEpoch:
    """What an idempotent producer stamps on its batches."""

    producer_id: ProducerId
    producer_epoch: ProducerEpoch


class ProducerIds:
    """Answers InitProducerId. ``run`` fetches blocks ahead, until cancelled."""

    def __init__(
        self, controllers: ControllerCalls, *, broker_id: NodeId, broker_epoch: Callable[[], BrokerEpoch]
    ) -> None:
        self._controllers = controllers
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._blocks = ProducerIdBlocks()
        self._fetching = asyncio.Lock()
        self._wanted = asyncio.Event()

    async def init(self, *, transactional_id: str) -> ProducerIdAndEpoch:
        """A new identity for an idempotent producer.

        One that already has an id gets a new one as well: without transactions that is how its epoch is
        "bumped" (KIP-360). Raises ``GlasslogError``: UNSUPPORTED_VERSION for a transactional id,
        COORDINATOR_NOT_AVAILABLE while the controller can not be asked.
        """
        if transactional_id:
            raise GlasslogError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"transactional.id {transactional_id[:249]!r}: this version serves idempotent producers, "
                "not transactions",
            )
        return ProducerIdAndEpoch(producer_id=await self._take(), producer_epoch=_FIRST_EPOCH)

    async def run(self) -> None:
        """Fetch the next block while the one in use runs low."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._fetch()
            except GlasslogError:
                # Whoever runs dry asks again and reports it; fetching ahead is only a convenience.
                continue

    async def _take(self) -> ProducerId:
        while True:
            producer_id = self._blocks.take()
            if producer_id is not None:
                break
            await self._fetch()
        if self._blocks.wants_more:
            self._wanted.set()
        return producer_id

    async def _fetch(self) -> None:
        async with self._fetching:
            if not self._blocks.wants_more:
                return
            request = pb.AllocateProducerIdsRequest(
                broker_id=self._broker_id, broker_epoch=self._broker_epoch()
            )
            try:
                answer = await self._controllers.call(
                    _ALLOCATE, request, pb.AllocateProducerIdsResponse, timeout_ms=_TIMEOUT_MS
                )
                raise_for(answer.error_code)
            except GlasslogError as error:
                raise GlasslogError(
                    ErrorCode.COORDINATOR_NOT_AVAILABLE, f"no producer ids from the controller: {error}"
                ) from error
            if answer.count <= 0:
                raise GlasslogError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "the controller gave an empty block")
            self._blocks.add(ProducerId(answer.first_producer_id), answer.count)
