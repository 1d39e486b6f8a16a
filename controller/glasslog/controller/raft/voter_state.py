"""The state that a core's parts share: who, when, the log's outline, the quorum state, what waits to leave.

It does bookkeeping only; this module refuses to know the rules of elections and replication, which lie in
``election``, ``following`` and ``leading``.
"""

from collections.abc import Sequence

from glasslog.common.errors import ErrorCode, require
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.common.runtime.protocols import Random
from glasslog.controller.raft.epochs import LogOutline
from glasslog.controller.raft.messages import (
    NO_RECORDS,
    Append,
    Committed,
    DataAppend,
    EpochResponse,
    FetchBody,
    FetchedAppend,
    FetchResponse,
    FetchSnapshotResponse,
    LeaderChangeAppend,
    LeaderChanged,
    NoSnapshotPart,
    Notice,
    Outgoing,
    Ready,
    Reply,
    Request,
    Response,
    Send,
    SnapshotBody,
    SnapshotInstalled,
    SnapshotPart,
    VoteResponse,
)
from glasslog.controller.raft.quorum_state import QuorumState
from glasslog.controller.raft.types import QuorumConfig
from glasslog.metadata.snapshot import SnapshotId


class VoterState:
    """One voter's state and its outgoing side; time is whatever ``now_ms`` was set to last."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        cluster_id: str,
        voters: Sequence[NodeId],
        config: QuorumConfig,
        random: Random,
        quorum: QuorumState,
        log: LogOutline,
    ) -> None:
        require(node_id in voters, f"node {node_id} is not among the voters {list(voters)}")
        self.node_id = node_id
        self.cluster_id = cluster_id
        self.voters = tuple(sorted(voters))
        self.others = tuple(voter for voter in self.voters if voter != node_id)
        self.config = config
        self.quorum = quorum
        self.log = log
        # What is in a snapshot was committed.
        self.high_watermark = log.snapshot.end_offset
        self.now_ms = 0
        self._random = random
        self._next_correlation_id = 1
        self._truncate_to: int | None = None
        self._snapshot_parts: list[SnapshotPart] = []
        self._appends: list[Append] = []
        self._messages: list[Outgoing] = []
        self._messages_after_sync: list[Outgoing] = []
        self._notices: list[Notice] = []
        self._told = LeaderChanged(epoch=-1, leader_id=NO_NODE)

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    def draw_ms(self, *, at_least_ms: int, spread_ms: int) -> int:
        """A deadline from now: ``at_least_ms`` and up to ``spread_ms`` more, drawn evenly."""
        return self.now_ms + at_least_ms + (self._random.randrange(spread_ms) if spread_ms > 0 else 0)

    def draw_election_deadline_ms(self) -> int:
        timeout_ms = self.config.election_timeout_ms
        return self.draw_ms(at_least_ms=timeout_ms, spread_ms=timeout_ms)

    # --- what leaves ----------------------------------------------------------------------------------------

    def send(self, to: NodeId, request: Request, *, timeout_ms: int, after_sync: bool = False) -> int:
        """Queue a request; returns its correlation id."""
        correlation_id = self._next_correlation_id
        self._next_correlation_id += 1
        message = Send(to=to, correlation_id=correlation_id, timeout_ms=timeout_ms, request=request)
        (self._messages_after_sync if after_sync else self._messages).append(message)
        return correlation_id

    def reply(self, request_id: int, response: Response) -> None:
        self._messages.append(Reply(request_id=request_id, response=response))

    def reply_vote(self, request_id: int, *, granted: bool, error: ErrorCode = ErrorCode.NONE) -> None:
        quorum = self.quorum
        self.reply(
            request_id,
            VoteResponse(error=error, epoch=quorum.epoch, leader_id=quorum.leader_id, granted=granted),
        )

    def reply_epoch(self, request_id: int, error: ErrorCode = ErrorCode.NONE) -> None:
        quorum = self.quorum
        self.reply(request_id, EpochResponse(error=error, epoch=quorum.epoch, leader_id=quorum.leader_id))

    def reply_fetch(
        self, request_id: int, body: FetchBody = NO_RECORDS, *, error: ErrorCode = ErrorCode.NONE
    ) -> None:
        quorum = self.quorum
        response = FetchResponse(
            error=error,
            epoch=quorum.epoch,
            leader_id=quorum.leader_id,
            high_watermark=self.high_watermark,
            log_start_offset=self.log.start_offset,
            body=body,
        )
        self.reply(request_id, response)

    def reply_snapshot(
        self, request_id: int, body: SnapshotBody | None = None, *, error: ErrorCode = ErrorCode.NONE
    ) -> None:
        quorum = self.quorum
        response = FetchSnapshotResponse(
            error=error,
            epoch=quorum.epoch,
            leader_id=quorum.leader_id,
            body=NoSnapshotPart() if body is None else body,
        )
        self.reply(request_id, response)

    # --- the log --------------------------------------------------------------------------------------------

    def write_snapshot_part(self, part: SnapshotPart) -> None:
        """Queue a part of a snapshot; the shell tells what became of the whole."""
        self._snapshot_parts.append(part)

    def install_snapshot(self, snapshot_id: SnapshotId) -> None:
        """The shell has replaced the log by the snapshot, durably."""
        require(
            snapshot_id.end_offset > self.high_watermark,
            f"node {self.node_id}: snapshot {snapshot_id} ends before high watermark {self.high_watermark}",
        )
        require(not self._appends, "a snapshot after an append in one Ready")
        self.log.replace_by(snapshot_id)
        self.high_watermark = snapshot_id.end_offset
        self.notice(SnapshotInstalled(snapshot_id=snapshot_id))

    def append_data(self, values: tuple[bytes, ...]) -> int:
        """Append a leader's batch; returns its base offset."""
        base_offset, epoch = self.log.end_offset, self.quorum.epoch
        self.log.append(epoch=epoch, end_offset=base_offset + len(values))
        self._appends.append(DataAppend(base_offset=base_offset, epoch=epoch, values=values))
        return base_offset

    def append_leader_change(self, granting_voters: Sequence[NodeId]) -> None:
        base_offset, epoch = self.log.end_offset, self.quorum.epoch
        self.log.append(epoch=epoch, end_offset=base_offset + 1)
        self._appends.append(
            LeaderChangeAppend(
                base_offset=base_offset,
                epoch=epoch,
                leader_id=self.node_id,
                voters=self.voters,
                granting_voters=tuple(sorted(granting_voters)),
            )
        )

    def append_fetched(self, append: FetchedAppend) -> None:
        """Queue batches whose spans were noted in ``log`` already."""
        self._appends.append(append)

    def truncate(self, end_offset: int) -> None:
        """Cut the log; what the majority holds must never go, and nothing queued may be cut."""
        require(
            end_offset >= self.high_watermark,
            f"node {self.node_id}: truncation to {end_offset}, below high watermark {self.high_watermark}",
        )
        require(not self._appends, "truncation after an append in one Ready")
        self.log.truncate(end_offset)
        self._truncate_to = end_offset

    def advance_high_watermark(self, high_watermark: int) -> None:
        """Note that everything below is committed; never moves back."""
        require(high_watermark <= self.log.end_offset, f"high watermark {high_watermark} beyond the log")
        if high_watermark > self.high_watermark:
            self.high_watermark = high_watermark
            self.notice(Committed(high_watermark=high_watermark))

    def notice(self, notice: Notice) -> None:
        self._notices.append(notice)

    def tell_leader_change(self) -> None:
        """Tell the state machine who leads now, unless it knows or this node does (see ``LeaderReady``)."""
        leader_id = self.quorum.leader_id
        now = LeaderChanged(epoch=self.quorum.epoch, leader_id=leader_id)
        if now != self._told:
            self._told = now
            if leader_id != self.node_id:
                self.notice(now)

    # --- draining -------------------------------------------------------------------------------------------

    def take_ready(self) -> Ready:
        """Hand over all duties. While the hard state is not durable, no message of its time may leave."""
        hard_state = self.quorum.take_hard_state()
        messages, after_sync = self._messages, self._messages_after_sync
        if hard_state is not None:
            messages, after_sync = [], messages + after_sync
        ready = Ready(
            truncate_to=self._truncate_to,
            appends=tuple(self._appends),
            messages=tuple(messages),
            hard_state=hard_state,
            messages_after_sync=tuple(after_sync),
            notices=tuple(self._notices),
            snapshot_parts=tuple(self._snapshot_parts),
        )
        self._truncate_to = None
        self._snapshot_parts = []
        self._appends, self._messages, self._messages_after_sync, self._notices = [], [], [], []
        return ready
