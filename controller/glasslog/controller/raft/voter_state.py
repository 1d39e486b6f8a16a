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
    FetchedBatches,
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
    VotersAppend,
)
from glasslog.controller.raft.quorum_state import QuorumState
from glasslog.controller.raft.types import Identity, QuorumConfig
from glasslog.controller.raft.voters import VoterHistory, VoterSet
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY, VotersRecord
from glasslog.metadata.snapshot import SnapshotId

FIRST_BOOTSTRAP_ID = NodeId(-2)
"""Stands for the first of the bootstrap servers, whose id is not known; the next one is lower by one."""


class VoterState:
    """One voter's state and its outgoing side; time is whatever ``now_ms`` was set to last."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        cluster_id: str,
        identity: Identity,
        history: VoterHistory,
        config: QuorumConfig,
        random: Random,
        quorum: QuorumState,
        log: LogOutline,
    ) -> None:
        self.node_id = node_id
        self.cluster_id = cluster_id
        self.directory_id = identity.directory_id
        self.address = identity.address
        self.bootstrap_servers = identity.bootstrap_servers
        self.history = history
        self.config = config
        self.quorum = quorum
        self.log = log
        # What is in a snapshot was committed.
        self.high_watermark = log.snapshot.end_offset
        self.now_ms = 0
        self.next_candidate = 0
        self._leader_told = NO_NODE, ""
        self._unreached: dict[NodeId, int] = {}
        self._refresh_voters()
        self._random = random
        self._next_correlation_id = 1
        self._truncate_to: int | None = None
        self._snapshot_parts: list[SnapshotPart] = []
        self._appends: list[Append] = []
        self._messages: list[Outgoing] = []
        self._messages_after_sync: list[Outgoing] = []
        self._notices: list[Notice] = []
        self._told = LeaderChanged(epoch=-1, leader_id=NO_NODE)

    # --- voters ---------------------------------------------------------------------------------------------

    def _refresh_voters(self) -> None:
        self.voter_set = self.history.latest
        self.voters = self.voter_set.ids
        self.others = tuple(voter for voter in self.voters if voter != self.node_id)
        self.is_voter = self.voter_set.has(self.node_id, self.directory_id)

    @property
    def may_be_elected(self) -> bool:
        """A voter; or one that was removed by a record that is not known to be committed.

        Perhaps nobody else has what was committed just before that record (Raft's dissertation, 4.2.2).
        """
        if self.is_voter or self.history.latest_offset < self.high_watermark:
            return self.is_voter
        return self.history.had_before_latest(self.node_id, self.directory_id)

    @property
    def majority(self) -> int:
        return self.voter_set.majority

    @property
    def is_static(self) -> bool:
        """Only settings name the voters: nobody else can be one."""
        return bool(self.voters) and not self.voter_set.is_recorded

    def address_of(self, node_id: NodeId) -> str:
        """Where a node is reached, empty if that is not known. Ids below -1 stand for bootstrap servers."""
        if node_id <= FIRST_BOOTSTRAP_ID:
            return self.bootstrap_servers[FIRST_BOOTSTRAP_ID - node_id]
        places = self._places(node_id)
        return places[self._unreached.get(node_id, 0) % len(places)] if places else ""

    def _places(self, node_id: NodeId) -> list[str]:
        """Where it may be: as was told of the leader, as the log has it, as settings have it."""
        leader_id, told = self._leader_told
        named = self.voter_set.find(node_id), self.history.bootstrap.find(node_id)
        found = [told if node_id == leader_id else "", *(each.address for each in named if each is not None)]
        return list(dict.fromkeys(address for address in found if address))

    def note_leader_address(self, leader_id: NodeId, address: str) -> None:
        """Somebody told where the leader is; nothing, if the address is empty."""
        if address:
            self._leader_told = leader_id, address

    def note_unreached(self, node_id: NodeId) -> None:
        """Where it was looked for it is not: try another place next, if one is known.

        Without this a quorum whose controllers all got other addresses would never meet again.
        """
        if len(self._places(node_id)) > 1:
            self._unreached[node_id] = self._unreached.get(node_id, 0) + 1

    def directory_of(self, voter: NodeId) -> bytes:
        known = self.voter_set.find(voter)
        return UNKNOWN_DIRECTORY if known is None else known.directory_id

    def may_follow(self, leader_id: NodeId, address: str) -> bool:
        """Whether a node can be the leader that this one fetches from: another one that can be reached."""
        if leader_id in (NO_NODE, self.node_id):
            return False
        return leader_id in self.others or bool(address)

    # --- time -----------------------------------------------------------------------------------------------

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
        message = Send(
            to=to,
            correlation_id=correlation_id,
            timeout_ms=timeout_ms,
            request=request,
            address=self.address_of(to),
        )
        (self._messages_after_sync if after_sync else self._messages).append(message)
        return correlation_id

    def reply(self, request_id: int, response: Response) -> None:
        self._messages.append(Reply(request_id=request_id, response=response))

    @property
    def known_leader_address(self) -> str:
        """Told with every answer, so that nodes find leaders that their settings do not name."""
        leader_id = self.quorum.leader_id
        return self.address if leader_id == self.node_id else self.address_of(leader_id)

    def reply_vote(self, request_id: int, *, granted: bool, error: ErrorCode = ErrorCode.NONE) -> None:
        quorum = self.quorum
        self.reply(
            request_id,
            VoteResponse(
                error=error,
                epoch=quorum.epoch,
                leader_id=quorum.leader_id,
                granted=granted,
                leader_address=self.known_leader_address,
            ),
        )

    def reply_epoch(self, request_id: int, error: ErrorCode = ErrorCode.NONE) -> None:
        quorum = self.quorum
        response = EpochResponse(
            error=error,
            epoch=quorum.epoch,
            leader_id=quorum.leader_id,
            leader_address=self.known_leader_address,
        )
        self.reply(request_id, response)

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
            leader_address=self.known_leader_address,
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
            leader_address=self.known_leader_address,
        )
        self.reply(request_id, response)

    # --- the log --------------------------------------------------------------------------------------------

    def write_snapshot_part(self, part: SnapshotPart) -> None:
        """Queue a part of a snapshot; the shell tells what became of the whole."""
        self._snapshot_parts.append(part)

    def install_snapshot(self, snapshot_id: SnapshotId, voters: VotersRecord | None) -> None:
        """The shell has replaced the log by the snapshot, durably."""
        require(
            snapshot_id.end_offset > self.high_watermark,
            f"node {self.node_id}: snapshot {snapshot_id} ends before high watermark {self.high_watermark}",
        )
        require(not self._appends, "a snapshot after an append in one Ready")
        self.log.replace_by(snapshot_id)
        self.history.begin_with(snapshot_id.end_offset, voters)
        self._refresh_voters()
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

    def append_voters(self, voters: VoterSet) -> int:
        """Append a leader's new set of voters, which counts from now on; returns the record's offset."""
        append = VotersAppend(
            base_offset=self.log.end_offset,
            epoch=self.quorum.epoch,
            voters=voters.record,
            with_version=not self.voter_set.is_recorded,
        )
        self.log.append(epoch=append.epoch, end_offset=append.end_offset)
        self._appends.append(append)
        self._learn_voters(append.base_offset, append.voters)
        return append.base_offset

    def _learn_voters(self, offset: int, record: VotersRecord) -> None:
        self.history.append(offset, record)
        self._refresh_voters()

    def append_fetched(self, batches: FetchedBatches) -> None:
        """Append a leader's batches as they are."""
        for span in batches.spans:
            self.log.append(epoch=span.epoch, end_offset=span.end_offset)
            if span.voters is not None:
                self._learn_voters(span.base_offset, span.voters)
        self._appends.append(FetchedAppend(base_offset=batches.spans[0].base_offset, data=batches.data))

    def truncate(self, end_offset: int) -> None:
        """Cut the log; what the majority holds must never go, and nothing queued may be cut."""
        require(
            end_offset >= self.high_watermark,
            f"node {self.node_id}: truncation to {end_offset}, below high watermark {self.high_watermark}",
        )
        require(not self._appends, "truncation after an append in one Ready")
        self.log.truncate(end_offset)
        self.history.truncate(end_offset)
        self._refresh_voters()
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
