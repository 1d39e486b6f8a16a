"""The broker's eyes on the cluster's metadata: follows the controllers' log and publishes images.

Fetches ``__cluster_metadata-0`` as an observer, replays what is committed into a ``MetadataDelta``, shows
the image to whoever asks, and hands delta and image to subscribers in order. It refuses to know what
subscribers do with them: that may take seconds where thousands of logs are made, and as in Kafka nobody
waits for it who only wants to know what was decided. Nothing is kept on disk, and of the log nothing in
memory once it is applied: a broker that starts, or that was away for long, gets a snapshot from the active
controller, and what differs from its image is the delta. Source: Kafka's ``MetadataLoader`` and
``BrokerMetadataPublisher``.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from glasslog.broker.controller_channel import ControllerChannel
from glasslog.broker.observed_log import ObservedBatch, ObservedLog
from glasslog.broker.watched import Watched
from glasslog.broker.wire_errors import error_code_of
from glasslog.common.addresses import Voter
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation
from glasslog.common.ids import NodeId, Offset
from glasslog.common.runtime.protocols import Runtime, TransportError
from glasslog.log.batch import CorruptBatch
from glasslog.log.records import decode_fast
from glasslog.metadata.control_records import VotersRecord
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import EMPTY_IMAGE, MetadataImage
from glasslog.metadata.image_records import image_of
from glasslog.metadata.snapshot import SnapshotId, decode_snapshot
from glasslog.metadata.voter_batches import voters_in
from glasslog.metadata.wire import decode_record
from glasslog.v1 import quorum_pb2 as pb
from google.protobuf.message import DecodeError

_log = logging.getLogger(__name__)

QUORUM_FETCH = "/glasslog.v1.Quorum/Fetch"
QUORUM_FETCH_SNAPSHOT = "/glasslog.v1.Quorum/FetchSnapshot"
_MAX_WAIT_MS = 500
_FETCH_BYTES = 1_048_576
_MAX_PENDING_BYTES = 64 * 1_048_576
_MAX_SNAPSHOT_BYTES = 256 * 1_048_576
_PART_ATTEMPTS = 3
_FATAL = frozenset({ErrorCode.INCONSISTENT_CLUSTER_ID})


class MetadataListener(Protocol):
    """Told of each step of the metadata, in order and at once; it must not block."""

    def __call__(self, delta: MetadataDelta, image: MetadataImage) -> None: ...


class MetadataApplier(Protocol):
    """Makes true what a step of the metadata says; awaited, step by step, so it may take its time."""

    async def __call__(self, delta: MetadataDelta, image: MetadataImage) -> None: ...


class MetadataView(Protocol):
    """What readers of metadata need of the observer."""

    @property
    def image(self) -> MetadataImage:
        """The newest committed metadata."""
        ...

    async def wait_for_offset(self, offset: Offset) -> None:
        """Return once ``image`` shows everything up to and including ``offset``."""
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
        self._blocking = runtime.blocking
        self._controllers = controllers
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._answer_timeout_ms = answer_timeout_ms
        self._log = ObservedLog(max_pending_bytes=_MAX_PENDING_BYTES)
        self._applier: MetadataApplier | None = None
        self._listeners: list[MetadataListener] = []
        self._images: Watched[MetadataImage] = Watched(EMPTY_IMAGE)
        self._shown: Watched[Offset] = Watched(Offset(-1))
        self._applied_offset = Offset(-1)

    # --- reading ---

    @property
    def image(self) -> MetadataImage:
        """The newest committed metadata; whoever makes it true here may still be at it."""
        return self._images.value

    @property
    def applied_offset(self) -> Offset:
        """The last offset that was made true here, entries without metadata included; -1 before any."""
        return self._applied_offset

    @property
    def high_watermark(self) -> Offset:
        """How far the log is committed, as last heard; -1 before any answer."""
        return self._log.high_watermark

    def subscribe(self, listener: MetadataListener) -> None:
        """Call ``listener`` for every step from now on; subscribe before ``run``."""
        self._listeners.append(listener)

    def apply_with(self, applier: MetadataApplier) -> None:
        """Await ``applier`` for every step, before the listeners hear of it; set before ``run``."""
        self._applier = applier

    async def wait_for(self, condition: Callable[[MetadataImage], bool]) -> MetadataImage:
        """The first image, the present one included, for which ``condition`` holds."""
        return await self._images.until(condition)

    async def wait_for_offset(self, offset: Offset) -> None:
        """Return once ``image`` shows everything up to and including ``offset``."""
        await self._shown.until(lambda shown: shown >= offset)

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
                if await self._take(answer):
                    await self._begin_with_snapshot(voter, answer.snapshot_id)
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

    async def _take(self, answer: pb.QuorumFetchResponse) -> bool:
        """Take in one answer; returns whether it sends to a snapshot.

        Raises ``GlasslogError`` when it does not come from the active controller.
        """
        self._learn_leader(answer)
        if answer.HasField("snapshot_id"):
            return True
        if answer.HasField("diverging_epoch"):
            diverging = answer.diverging_epoch
            self._log.on_diverging(epoch=diverging.epoch, end_offset=Offset(diverging.end_offset))
            return False
        self._log.on_batches(answer.records)
        self._log.on_high_watermark(Offset(answer.high_watermark))
        batches = self._log.take_committed()
        try:
            await self._apply(batches)
        except GlasslogError as error:
            # It is never handed out again: a broker that went on would lack it for good.
            raise InvariantViolation(f"committed metadata can not be replayed: {error}") from error
        return False

    def _learn_leader(self, answer: pb.QuorumFetchResponse | pb.FetchSnapshotResponse) -> None:
        if not self._log.on_epoch(answer.epoch):
            raise GlasslogError(ErrorCode.NOT_CONTROLLER, f"it is still in epoch {answer.epoch}")
        self._controllers.on_leader(
            leader_id=NodeId(answer.leader_id), epoch=answer.epoch, address=answer.leader_address
        )
        if answer.error_code:
            raise GlasslogError(error_code_of(answer.error_code), "it refused the fetch")

    # --- a snapshot -----------------------------------------------------------------------------------------

    async def _begin_with_snapshot(self, voter: Voter, wanted: pb.SnapshotId) -> None:
        """Fetch it, and go on from it. Raises ``CorruptSnapshot`` for a damaged one; nothing changes then."""
        snapshot_id = SnapshotId(end_offset=wanted.end_offset, epoch=wanted.epoch)
        data = await self._fetch_snapshot(voter, snapshot_id)
        image, voters = await self._blocking(partial(_read_image, snapshot_id, data))
        self._log.begin_with(end_offset=Offset(snapshot_id.end_offset), epoch=snapshot_id.epoch)
        _log.info("broker %d: metadata begins with snapshot %s", self._node_id, snapshot_id)
        self._learn_voters(voters)
        await self._publish(MetadataDelta.between(self.image, image), image)

    async def _fetch_snapshot(self, voter: Voter, snapshot_id: SnapshotId) -> bytes:
        data = bytearray()
        while True:
            part = await self._fetch_part_again(voter, snapshot_id, position=len(data))
            if not part.data or part.position != len(data) or part.size_bytes > _MAX_SNAPSHOT_BYTES:
                raise GlasslogError(
                    ErrorCode.CORRUPT_MESSAGE,
                    f"snapshot {snapshot_id}: {len(part.data)} bytes from {part.position} on of "
                    f"{part.size_bytes}, where {len(data)} and at most {_MAX_SNAPSHOT_BYTES} were expected",
                )
            data += part.data
            if len(data) >= part.size_bytes:
                return bytes(data)

    async def _fetch_part_again(
        self, voter: Voter, snapshot_id: SnapshotId, *, position: int
    ) -> pb.FetchSnapshotResponse:
        """A lost part is asked for again, not the whole."""
        for _ in range(_PART_ATTEMPTS - 1):
            try:
                return await self._fetch_part(voter, snapshot_id, position=position)
            except TransportError as error:
                _log.debug("part of snapshot %s at %d: %s", snapshot_id, position, error)
        return await self._fetch_part(voter, snapshot_id, position=position)

    async def _fetch_part(
        self, voter: Voter, snapshot_id: SnapshotId, *, position: int
    ) -> pb.FetchSnapshotResponse:
        request = pb.FetchSnapshotRequest(
            cluster_id=self._cluster_id,
            replica_id=self._node_id,
            current_leader_epoch=self._log.leader_epoch,
            snapshot_id=pb.SnapshotId(end_offset=snapshot_id.end_offset, epoch=snapshot_id.epoch),
            position=position,
            max_bytes=_FETCH_BYTES,
            observer=True,
        )
        channel = self._controllers.channel_to(voter)
        data = await channel.unary(
            QUORUM_FETCH_SNAPSHOT, request.SerializeToString(), timeout_ms=self._answer_timeout_ms
        )
        try:
            answer = pb.FetchSnapshotResponse.FromString(data)
        except DecodeError as error:
            raise TransportError(f"unreadable answer: {error}") from error
        self._learn_leader(answer)
        return answer

    # --- applying -------------------------------------------------------------------------------------------

    async def _relieve(self) -> None:
        """A tail that outgrew its bound is dropped and fetched again after a pause."""
        if self._log.is_full:
            self._log.drop_pending()
            await asyncio.sleep(_MAX_WAIT_MS / 1000)

    async def _apply(self, batches: tuple[ObservedBatch, ...]) -> None:
        if not batches:
            return
        delta = MetadataDelta(self.image)
        for batch in batches:
            self._replay(delta, batch)
        await self._publish(delta, delta.apply())

    async def _publish(self, delta: MetadataDelta, image: MetadataImage) -> None:
        is_new = image.offset > self.image.offset
        if is_new:
            self._images.set(image)
        # After the image: whoever waits for an offset finds what is at it.
        end = Offset(self._log.applied_end - 1)
        self._shown.set(end)
        if is_new:
            await self._make_true(delta, image)
        self._applied_offset = end

    async def _make_true(self, delta: MetadataDelta, image: MetadataImage) -> None:
        try:
            if self._applier is not None:
                await self._applier(delta, image)
            for listener in self._listeners:
                listener(delta, image)
        except GlasslogError as error:
            # It is shown, and never handed out again: a broker that went on would lack it for good.
            raise InvariantViolation(f"committed metadata can not be applied: {error}") from error

    def _replay(self, delta: MetadataDelta, batch: ObservedBatch) -> None:
        epoch = batch.header.partition_leader_epoch
        try:
            if batch.header.is_control:
                self._learn_voters(voters_in(batch.data, batch.header, 0))
                return
            records = decode_fast(batch.data)
        except CorruptBatch as error:
            # Its checksum held when it was fetched: it was written so, and can not be skipped.
            raise InvariantViolation(f"metadata log: unreadable committed batch: {error}") from error
        for offset, _, _, value, _ in records:
            delta.replay(Offset(offset), epoch, decode_record(value or b""))

    def _learn_voters(self, record: VotersRecord | None) -> None:
        """Whom to ask when the active controller is gone, which settings may not name any more."""
        if record is not None:
            known = (Voter(node_id=each.node_id, address=each.address) for each in record.voters)
            self._controllers.on_voters(tuple(known))


def _read_image(snapshot_id: SnapshotId, data: bytes) -> tuple[MetadataImage, VotersRecord | None]:
    """Raises ``CorruptSnapshot``, or ``InvariantViolation`` for records that make no image."""
    snapshot = decode_snapshot(snapshot_id, data)
    records = (decode_record(value) for batch in snapshot.batches for value in batch)
    return image_of(records, offset=snapshot.last_offset, epoch=snapshot_id.epoch), snapshot.voters
