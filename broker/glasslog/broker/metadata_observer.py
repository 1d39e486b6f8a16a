"""The broker's eyes on the cluster's metadata: follows the controllers' log and publishes images.

Fetches ``__cluster_metadata-0`` as an observer, replays what is committed into a ``MetadataDelta``, and hands
delta and image to subscribers in order. It refuses to know what subscribers do with them. The log is kept
nowhere: a broker reads it from the start when it starts, which takes milliseconds for the clusters this
serves until snapshots exist. Source: Kafka's ``MetadataLoader`` and ``BrokerMetadataPublisher``.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from glasslog.broker.controller_channel import ControllerChannel
from glasslog.broker.observed_log import ObservedBatch, ObservedLog
from glasslog.broker.watched import Watched
from glasslog.broker.wire_errors import error_code_of
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation
from glasslog.common.ids import NodeId, Offset
from glasslog.common.node_config import Voter
from glasslog.common.runtime.protocols import Runtime, TransportError
from glasslog.log.batch import CorruptBatch
from glasslog.log.records import decode_fast
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import EMPTY_IMAGE, MetadataImage
from glasslog.metadata.wire import decode_record
from glasslog.v1 import quorum_pb2 as pb
from google.protobuf.message import DecodeError

_log = logging.getLogger(__name__)

QUORUM_FETCH = "/glasslog.v1.Quorum/Fetch"
_MAX_WAIT_MS = 500
_FETCH_BYTES = 1_048_576
_MAX_PENDING_BYTES = 64 * 1_048_576
_FATAL = frozenset({ErrorCode.INCONSISTENT_CLUSTER_ID})


class MetadataListener(Protocol):
    """Told of each step of the metadata, in order and at once; it must not block."""

    def __call__(self, delta: MetadataDelta, image: MetadataImage) -> None: ...


class MetadataView(Protocol):
    """What readers of metadata need of the observer."""

    @property
    def image(self) -> MetadataImage:
        """The newest committed metadata."""
        ...

    async def wait_for(self, condition: Callable[[MetadataImage], bool]) -> MetadataImage:
        """The first image, the present one included, for which ``condition`` holds."""
        ...


class MetadataObserver:
    """See the module. ``run`` until cancelled; ``answer_timeout_ms`` bounds a fetch beyond its own wait."""

    def __init__(
        self,
        runtime: Runtime,
        controllers: ControllerChannel,
        *,
        node_id: NodeId,
        cluster_id: str,
        answer_timeout_ms: int,
    ) -> None:
        self._clock = runtime.clock
        self._controllers = controllers
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._answer_timeout_ms = answer_timeout_ms
        self._log = ObservedLog(max_pending_bytes=_MAX_PENDING_BYTES)
        self._listeners: list[MetadataListener] = []
        self._images: Watched[MetadataImage] = Watched(EMPTY_IMAGE)
        self._applied: Watched[Offset] = Watched(Offset(-1))

    # --- reading ---

    @property
    def image(self) -> MetadataImage:
        """The newest committed metadata."""
        return self._images.value

    @property
    def applied_offset(self) -> Offset:
        """The last offset of the log taken in, entries without metadata included; -1 before any."""
        return self._applied.value

    @property
    def high_watermark(self) -> Offset:
        """How far the log is committed, as last heard; -1 before any answer."""
        return self._log.high_watermark

    def subscribe(self, listener: MetadataListener) -> None:
        """Call ``listener`` for every step from now on; subscribe before ``run``."""
        self._listeners.append(listener)

    async def wait_for(self, condition: Callable[[MetadataImage], bool]) -> MetadataImage:
        """The first image, the present one included, for which ``condition`` holds."""
        return await self._images.until(condition)

    async def wait_for_offset(self, offset: Offset) -> None:
        """Return once everything up to and including ``offset`` has been applied."""
        await self._applied.until(lambda applied: applied >= offset)

    # --- following ---

    async def run(self) -> None:
        """Follow the log until cancelled.

        Raises ``InvariantViolation`` when committed metadata can not be what it is, and ``GlasslogError``
        (INCONSISTENT_CLUSTER_ID) when the controllers belong to another cluster.

        FENCED_LEADER_EPOCH is an answer, not a failure: it told the newer epoch and perhaps its leader.
        """
        backoff = self._controllers.new_backoff()
        while True:
            voter = self._controllers.candidate
            try:
                answer = await self._fetch(voter)
                self._take(answer)
            except GlasslogError as error:
                if error.code in _FATAL:
                    raise
                _log.debug("metadata fetch from controller %d: %s", voter.node_id, error)
                if error.code is not ErrorCode.FENCED_LEADER_EPOCH:
                    self._controllers.on_failure(voter)
                await self._controllers.pause(backoff)
            else:
                self._controllers.on_success(voter)
                backoff.reset()
                await self._relieve()

    async def _fetch(self, voter: Voter) -> pb.QuorumFetchResponse:
        position = self._log.position()
        request = pb.QuorumFetchRequest(
            cluster_id=self._cluster_id,
            replica_id=self._node_id,
            current_leader_epoch=position.leader_epoch,
            fetch_offset=position.fetch_offset,
            last_fetched_epoch=position.last_fetched_epoch,
            max_wait_ms=_MAX_WAIT_MS,
            max_bytes=_FETCH_BYTES,
            observer=True,
            known_high_watermark=position.known_high_watermark,
        )
        channel = self._controllers.channel_to(voter)
        timeout_ms = _MAX_WAIT_MS + self._answer_timeout_ms
        data = await channel.unary(QUORUM_FETCH, request.SerializeToString(), timeout_ms=timeout_ms)
        try:
            return pb.QuorumFetchResponse.FromString(data)
        except DecodeError as error:
            raise TransportError(f"unreadable answer: {error}") from error

    def _take(self, answer: pb.QuorumFetchResponse) -> None:
        """Take in one answer; raises ``GlasslogError`` when it does not come from the active controller."""
        if not self._log.on_epoch(answer.epoch):
            raise GlasslogError(ErrorCode.NOT_CONTROLLER, f"it is still in epoch {answer.epoch}")
        self._controllers.on_leader(leader_id=NodeId(answer.leader_id), epoch=answer.epoch)
        if answer.error_code:
            raise GlasslogError(error_code_of(answer.error_code), "it refused the fetch")
        if answer.HasField("diverging_epoch"):
            diverging = answer.diverging_epoch
            self._log.on_diverging(epoch=diverging.epoch, end_offset=Offset(diverging.end_offset))
            return
        self._log.on_batches(answer.records)
        self._log.on_high_watermark(Offset(answer.high_watermark))
        batches = self._log.take_committed()
        try:
            self._apply(batches)
        except GlasslogError as error:
            # Half applied, and never handed out again: a broker that went on would lack it for good.
            raise InvariantViolation(f"committed metadata can not be applied: {error}") from error

    async def _relieve(self) -> None:
        """A tail that outgrew its bound is dropped and fetched again after a pause."""
        if self._log.is_full:
            self._log.drop_pending()
            await asyncio.sleep(_MAX_WAIT_MS / 1000)

    def _apply(self, batches: tuple[ObservedBatch, ...]) -> None:
        if not batches:
            return
        delta = MetadataDelta(self.image)
        for batch in batches:
            self._replay(delta, batch)
        image = delta.apply()
        if image.offset > self.image.offset:
            for listener in self._listeners:
                listener(delta, image)
            self._images.set(image)
        # After the image: whoever waits for an offset finds what is at it.
        self._applied.set(Offset(self._log.applied_end - 1))

    def _replay(self, delta: MetadataDelta, batch: ObservedBatch) -> None:
        if batch.header.is_control:
            return
        epoch = batch.header.partition_leader_epoch
        try:
            records = decode_fast(batch.data)
        except CorruptBatch as error:
            # Its checksum held when it was fetched: it was written so, and can not be skipped.
            raise InvariantViolation(f"metadata log: unreadable committed batch: {error}") from error
        for offset, _, _, value, _ in records:
            delta.replay(Offset(offset), epoch, decode_record(value or b""))
