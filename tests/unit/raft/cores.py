"""Raft cores with in-memory logs, disks and hand-delivered messages, for scripts and random schedules.

Every duty of a ``Ready`` is done as the node's shell does it, but each step is under the test's control: a
sync may be held back, a message dropped, a node crashed between any two steps.  What a message claims is
compared with what its sender's disk holds at that moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NodeId, Offset
from glasslog.common.runtime.protocols import Random
from glasslog.controller.raft.batches import (
    committed_batches,
    encode_data,
    encode_leader_change_batch,
    encode_voters_batch,
    parse_fetched,
)
from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.epochs import NO_SNAPSHOT, LogOutline
from glasslog.controller.raft.messages import (
    BatchSpan,
    BeginQuorumEpochRequest,
    Committed,
    DamagedSnapshot,
    DataAppend,
    DivergingEpoch,
    EndQuorumEpochRequest,
    FetchedAppend,
    FetchedBatches,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    LeaderChangeAppend,
    LeaderReady,
    LogRange,
    NoSnapshotPart,
    Notice,
    Outgoing,
    Ready,
    Reply,
    Request,
    RequestReceived,
    Response,
    ResponseReceived,
    Send,
    SnapshotInstalled,
    SnapshotInstead,
    SnapshotPart,
    SnapshotRange,
    SoundSnapshot,
    VoteRequest,
    VoteResponse,
    VotersAppend,
)
from glasslog.controller.raft.types import CommittedBatch, HardState, Identity, QuorumConfig
from glasslog.controller.raft.voters import VoterHistory, read_history
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY, VoterEntry
from glasslog.metadata.snapshot import CorruptSnapshot, SnapshotId, decode_snapshot, encode_snapshot

CLUSTER = "cluster-of-the-tests"


class BatchLog:
    """Whole batches in a list; the first ``synced`` of them survive a loss of power."""

    def __init__(self) -> None:
        self.batches: list[tuple[BatchSpan, bytes]] = []
        self.synced = 0
        self.base = NO_SNAPSHOT

    @property
    def end_offset(self) -> int:
        return self.batches[-1][0].end_offset if self.batches else self.base.end_offset

    @property
    def synced_offset(self) -> int:
        return self.batches[self.synced - 1][0].end_offset if self.synced else self.base.end_offset

    @property
    def epoch_starts(self) -> list[tuple[int, int]]:
        starts: list[tuple[int, int]] = []
        for span, _ in self.batches:
            if not starts or starts[-1][0] != span.epoch:
                starts.append((span.epoch, span.base_offset))
        return starts

    def append(self, data: bytes) -> None:
        position = 0
        for span in parse_fetched(data).spans:
            assert span.base_offset == self.end_offset
            size = int.from_bytes(data[position + 8 : position + 12]) + 12
            self.batches.append((span, data[position : position + size]))
            position += size

    def truncate_to(self, end_offset: int) -> None:
        while self.end_offset > end_offset:
            self.batches.pop()
        assert self.end_offset == end_offset
        self.synced = min(self.synced, len(self.batches))

    def read(self, start_offset: int, *, end_offset: int, max_bytes: int) -> bytes:
        parts: list[bytes] = []
        for span, data in self.batches:
            if span.base_offset >= start_offset and span.end_offset <= end_offset:
                if parts and len(data) > max_bytes:
                    break
                parts.append(data)
                max_bytes -= len(data)
        return b"".join(parts)

    def replace_by(self, snapshot_id: SnapshotId) -> None:
        self.batches, self.synced, self.base = [], 0, snapshot_id

    def trim_to(self, base: SnapshotId) -> None:
        """Snapshots end where batches do."""
        kept = [each for each in self.batches if each[0].base_offset >= base.end_offset]
        self.synced -= len(self.batches) - len(kept)
        assert self.synced >= 0, "a snapshot of entries that are not durable"
        self.batches, self.base = kept, base

    def lose_unsynced(self, keep: int) -> None:
        """Power is lost; ``keep`` un-synced batches happen to have reached the disk."""
        del self.batches[self.synced + keep :]
        self.synced = len(self.batches)


@dataclass(frozen=True, slots=True)
class Packet:
    """A request or a response between two lives of two nodes."""

    sender: int
    receiver: int
    correlation_id: int
    body: Request | Response
    lives: tuple[int, int]
    is_request: bool


class Voter:
    """One node: a core while it is up, and what outlives it."""

    def __init__(self, node_id: int, voters: Sequence[int], config: QuorumConfig, random: Random) -> None:
        self.node_id = NodeId(node_id)
        self.voters = tuple(map(NodeId, voters))
        self.config = config
        self.random = random
        self.log = BatchLog()
        self.disk = HardState()
        self.life = 0
        self.now_ms = 0
        self.disks = 0
        self.port = 1
        self.directory_id = UNKNOWN_DIRECTORY
        self.bootstrap_servers: tuple[str, ...] = ()
        self.core: RaftCore | None = None
        self.held: Ready | None = None
        self.waiting: dict[int, tuple[Packet, Request]] = {}
        self.next_request_id = 1
        self.committed: list[CommittedBatch] = []
        self.delivered = 0
        self.notices: list[Notice] = []
        self.snapshots: dict[SnapshotId, bytes] = {}
        self.fetched = bytearray()

    # --- life -----------------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> None:
        self.life += 1
        self.now_ms = now_ms
        self.committed, self.delivered, self.held, self.waiting = [], 0, None, {}
        # As the shell does after opening: what is there is made durable before it is claimed.
        self.log.synced = len(self.log.batches)
        newest = max(self.snapshots, default=NO_SNAPSHOT)
        if newest.end_offset:
            self._load(newest)
        outline = LogOutline(
            base=self.log.base,
            snapshot=newest,
            end_offset=self.log.end_offset,
            epoch_starts=self.log.epoch_starts,
        )
        self.core = RaftCore(
            node_id=self.node_id,
            cluster_id=CLUSTER,
            history=self._history(),
            identity=Identity(
                directory_id=self.directory_id,
                address=f"{self.node_id}:{self.port}",
                bootstrap_servers=self.bootstrap_servers,
            ),
            config=self.config,
            random=self.random,
            hard_state=self.disk,
            log=outline,
        )
        self.core.start(now_ms)

    def crash(self, *, keep: int = 0) -> None:
        self.core = None
        self.log.lose_unsynced(keep)

    @property
    def is_free(self) -> bool:
        """Up, and not waiting for its disk."""
        return self.core is not None and self.held is None

    # --- inputs ---------------------------------------------------------------------------------------------

    def receive(self, packet: Packet, now_ms: int) -> None:
        assert self.core is not None
        self.now_ms = now_ms
        if isinstance(
            packet.body,
            VoteRequest
            | BeginQuorumEpochRequest
            | EndQuorumEpochRequest
            | FetchRequest
            | FetchSnapshotRequest,
        ):
            request_id, self.next_request_id = self.next_request_id, self.next_request_id + 1
            self.waiting[request_id] = (packet, packet.body)
            self.core.step(RequestReceived(request_id=request_id, request=packet.body), now_ms)
        else:
            received = ResponseReceived(
                sender=NodeId(packet.sender), correlation_id=packet.correlation_id, response=packet.body
            )
            self.core.step(received, now_ms)

    def _history(self) -> VoterHistory:
        """Settings, the newest snapshot, and what the log above it names."""
        settings = [VoterEntry(node_id=voter, address=f"{voter}:1") for voter in self.voters]
        newest = max(self.snapshots, default=NO_SNAPSHOT)
        named = decode_snapshot(newest, self.snapshots[newest]).voters if newest.end_offset else None
        records = [
            (span.base_offset, span.voters)
            for span, _ in self.log.batches
            if span.voters is not None and span.base_offset >= newest.end_offset
        ]
        snapshot = None if named is None else (newest.end_offset, named)
        return read_history(settings, snapshot=snapshot, records=records)

    def lose_disk(self) -> None:
        """Another disk in its place: empty, and with another id."""
        self.log, self.disk, self.snapshots = BatchLog(), HardState(), {}
        self.disks += 1
        self.directory_id = bytes([self.node_id, 100 + self.disks]) * 8

    # --- snapshots ------------------------------------------------------------------------------------------

    def take_snapshot(self) -> SnapshotId | None:
        """Of all that was delivered; None when there is nothing new."""
        assert self.core is not None
        outline = self.core.log
        if self.delivered <= outline.snapshot.end_offset:
            return None
        taken = SnapshotId(end_offset=self.delivered, epoch=outline.epoch_before(self.delivered))
        values = [value for batch in self.committed for value in batch.records]
        voters = self.core.voters_before(self.delivered)
        parts = encode_snapshot(taken, [values], timestamp_ms=0, voters=voters)
        self.snapshots[taken] = b"".join(parts)
        self.core.on_snapshot_taken(taken)
        return taken

    def trim(self) -> SnapshotId | None:
        """Begin the log with the newest snapshot, if that moves it."""
        assert self.core is not None
        base = max(self.snapshots, default=NO_SNAPSHOT)
        if base.end_offset <= self.log.base.end_offset or base.end_offset > self.log.synced_offset:
            return None
        self.log.trim_to(base)
        self.core.on_trimmed(base)
        self.snapshots = {base: self.snapshots[base]}
        return base

    def _receive_part(self, part: SnapshotPart, now_ms: int) -> None:
        assert self.core is not None
        del self.fetched[part.position :]
        assert len(self.fetched) == part.position
        self.fetched += part.data
        if not part.is_last:
            return
        try:
            snapshot = decode_snapshot(part.snapshot_id, bytes(self.fetched))
        except CorruptSnapshot:
            self.core.on_snapshot_received(DamagedSnapshot(), now_ms)
            return
        self.snapshots[part.snapshot_id] = bytes(self.fetched)
        self.log.replace_by(part.snapshot_id)
        sound = SoundSnapshot(snapshot_id=part.snapshot_id, voters=snapshot.voters)
        self.core.on_snapshot_received(sound, now_ms)

    def _load(self, snapshot_id: SnapshotId) -> None:
        snapshot = decode_snapshot(snapshot_id, self.snapshots[snapshot_id])
        values = tuple(value for batch in snapshot.batches for value in batch)
        self.committed = [CommittedBatch(base_offset=Offset(0), epoch=snapshot_id.epoch, records=values)]
        self.delivered = snapshot_id.end_offset

    # --- duties ---------------------------------------------------------------------------------------------

    def take(self) -> list[Packet]:
        """Take a ``Ready`` and do what comes before its sync, which is then held; the messages that leave."""
        assert self.core is not None
        assert self.held is None
        ready = self.core.take_ready()
        if ready.is_empty:
            return []
        for part in ready.snapshot_parts:
            self._receive_part(part, self.now_ms)
        if ready.truncate_to is not None:
            self.log.truncate_to(ready.truncate_to)
        for append in ready.appends:
            assert append.base_offset == self.log.end_offset
            match append:
                case DataAppend():
                    self.log.append(bytes(encode_data(append, timestamp_ms=0)))
                case LeaderChangeAppend():
                    self.log.append(bytes(encode_leader_change_batch(append, timestamp_ms=0)))
                case VotersAppend():
                    self.log.append(bytes(encode_voters_batch(append, timestamp_ms=0)))
                case FetchedAppend(data=data):
                    self.log.append(data)
        packets = [packet for message in ready.messages for packet in self._leave(message)]
        for notice in ready.notices:
            self._note(notice)
        self.held = ready
        return packets

    def sync(self) -> list[Packet]:
        """Do the rest of what ``take`` began; the messages that leave now."""
        assert self.core is not None
        assert self.held is not None
        ready, self.held = self.held, None
        if ready.hard_state is not None:
            assert ready.hard_state.epoch >= self.disk.epoch
            self.disk = ready.hard_state
        if ready.needs_sync:
            self.log.synced = len(self.log.batches)
            self.core.on_synced(self.log.end_offset)
        return [packet for message in ready.messages_after_sync for packet in self._leave(message)]

    def _note(self, notice: Notice) -> None:
        self.notices.append(notice)
        if isinstance(notice, SnapshotInstalled):
            self._load(notice.snapshot_id)
        elif isinstance(notice, Committed):
            data = self.log.read(self.delivered, end_offset=notice.high_watermark, max_bytes=1 << 30)
            for end_offset, batch in committed_batches(data):
                if batch is not None:
                    self.committed.append(batch)
                self.delivered = end_offset
            assert self.delivered == notice.high_watermark
        elif isinstance(notice, LeaderReady):
            starts = dict(self.log.epoch_starts)
            assert self.delivered > starts[notice.epoch], "ready before its first entry was delivered"

    def _leave(self, message: Outgoing) -> list[Packet]:
        if isinstance(message, Send):
            self._check_request(message.request)
            receiver = int(message.address.partition(":")[0])
            packet = Packet(
                self.node_id, receiver, message.correlation_id, message.request, (self.life, 0), True
            )
            return [packet]
        asked, request = self.waiting.pop(message.request_id)
        response = self._fill(message)
        self._check_response(request, response)
        packet = Packet(
            self.node_id, asked.sender, asked.correlation_id, response, (self.life, asked.lives[0]), False
        )
        return [packet]

    def _fill(self, reply: Reply) -> Response:
        response = reply.response
        if isinstance(response, FetchSnapshotResponse) and isinstance(response.body, SnapshotRange):
            part = self._read_part(response.body)
            error = ErrorCode.SNAPSHOT_NOT_FOUND if isinstance(part, NoSnapshotPart) else response.error
            return replace(response, error=error, body=part)
        if isinstance(response, FetchResponse) and isinstance(response.body, LogRange):
            wanted = response.body
            data = self.log.read(
                wanted.start_offset, end_offset=wanted.end_offset, max_bytes=wanted.max_bytes
            )
            assert data
            return replace(response, body=parse_fetched(data))
        return response

    def _read_part(self, wanted: SnapshotRange) -> SnapshotPart | NoSnapshotPart:
        data = self.snapshots.get(wanted.snapshot_id)
        if data is None:
            return NoSnapshotPart()
        return SnapshotPart(
            snapshot_id=wanted.snapshot_id,
            position=wanted.position,
            size_bytes=len(data),
            data=data[wanted.position : wanted.position + wanted.max_bytes],
        )

    # --- durable before sent --------------------------------------------------------------------------------

    def _check_request(self, request: Request) -> None:
        match request:
            case VoteRequest(candidate_epoch=epoch, pre_vote=pre_vote):
                assert epoch == self.disk.epoch
                assert pre_vote or self.disk.voted_for == self.node_id
            case FetchRequest(fetch_offset=fetch_offset, current_leader_epoch=epoch):
                assert epoch <= self.disk.epoch
                assert fetch_offset <= self.log.synced_offset, "claims entries that are not durable"
            case BeginQuorumEpochRequest(leader_epoch=epoch) | EndQuorumEpochRequest(leader_epoch=epoch):
                assert epoch <= self.disk.epoch

    def _check_response(self, request: Request, response: Response) -> None:
        assert response.epoch <= self.disk.epoch
        if isinstance(response, VoteResponse) and response.granted and isinstance(request, VoteRequest):
            is_durable = self.disk.voted_for == request.candidate_id and self.disk.epoch >= response.epoch
            assert request.pre_vote or is_durable, "a vote that is not durable"


def describe_packet(packet: Packet) -> str:
    """One line for a script's output."""
    return f"{packet.sender}->{packet.receiver} {_describe_body(packet.body)}"


def _describe_body(body: Request | Response) -> str:
    match body:
        case VoteRequest():
            kind = "PreVote" if body.pre_vote else "Vote"
            return f"{kind} epoch={body.candidate_epoch} log={body.log_end_offset}@{body.last_epoch}"
        case BeginQuorumEpochRequest():
            return f"BeginQuorumEpoch epoch={body.leader_epoch}"
        case EndQuorumEpochRequest():
            successors = ",".join(map(str, body.preferred_successors))
            return f"EndQuorumEpoch epoch={body.leader_epoch} successors={successors}"
        case FetchRequest():
            return (
                f"Fetch epoch={body.current_leader_epoch} log={body.fetch_offset}@{body.last_fetched_epoch} "
                f"hw={body.known_high_watermark}"
            )
        case FetchSnapshotRequest():
            return (
                f"FetchSnapshot epoch={body.current_leader_epoch} id={body.snapshot_id} from={body.position}"
            )
        case _:
            return _describe_response(body)


def _describe_response(response: Response) -> str:
    view = f"epoch={response.epoch} leader={response.leader_id}"
    if response.error is not ErrorCode.NONE:
        return f"{response.error.name} {view}"
    if isinstance(response, VoteResponse):
        return f"{'granted' if response.granted else 'rejected'} {view}"
    if isinstance(response, FetchSnapshotResponse):
        part = response.body
        assert isinstance(part, SnapshotPart)
        return (
            f"part of {part.snapshot_id} from={part.position} last={'yes' if part.is_last else 'no'} {view}"
        )
    if not isinstance(response, FetchResponse):
        return f"ok {view}"
    match response.body:
        case FetchedBatches(spans=spans) if spans:
            body = f"records=[{spans[0].base_offset},{spans[-1].end_offset})"
        case FetchedBatches() | LogRange():
            body = "nothing"
        case SnapshotInstead(snapshot_id=snapshot_id):
            body = f"snapshot={snapshot_id}"
        case DivergingEpoch() as diverging:
            body = f"diverging={diverging.end_offset}@{diverging.epoch}"
    return f"{body} hw={response.high_watermark} {view}"
