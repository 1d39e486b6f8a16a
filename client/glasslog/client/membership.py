"""A consumer's membership in its group: joining, being given partitions, staying, committing, leaving.

Survives the coordinator's death: a new one knows the group from its log, so the member only asks elsewhere.
Refuses to know fetching and when it is right to give up partitions: the consumer calls ``join`` when the
user polls. Sources: Kafka's ``AbstractCoordinator`` and ``ConsumerCoordinator``, KIP-394.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from glasslog.client.assignors.members import NO_GENERATION, NO_RACKS, Assignor, Member, Racks
from glasslog.client.assignors.registry import assignors_named
from glasslog.client.cluster import TopicView
from glasslog.client.consumer_protocol import (
    Held,
    Subscription,
    decode_assignment,
    decode_held,
    decode_subscription,
    encode_assignment,
    encode_held,
    encode_subscription,
)
from glasslog.client.coordinator import CoordinatorClient
from glasslog.client.heartbeats import Heartbeats
from glasslog.client.options import ConsumerOptions
from glasslog.client.session import Session
from glasslog.client.types import OffsetAndMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.v1.broker_pb2 import (
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)

_PROTOCOL_TYPE = "consumer"
_JOIN_SLACK_MS = 5_000
_ATTEMPT_MS = 5_000
_LEAVE_TIMEOUT_MS = 1_000
_LOOK_EVERY_MS = 3_000

_EXPELLED = frozenset(
    {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.FENCED_INSTANCE_ID}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Not in the group, or not in its present generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoining:
    """On the way from a generation to the next, with what was held in it (KIP-429): commits still count."""

    generation_id: int


Layout = tuple[tuple[int, ...], ...]
"""By partition the brokers that have replicas; nothing about these where racks are of no interest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """In a generation. ``watched`` are the topics as the group's leader found them when it dealt them out."""

    generation_id: int
    protocol_name: str
    watched: Mapping[str, Layout]


class Membership:
    """One member. ``on_change`` is called when ``needs_join`` or ``lost`` may have become true."""

    def __init__(self, session: Session, options: ConsumerOptions, on_change: Callable[[], None]) -> None:
        self._session = session
        self._options = options
        self._on_change = on_change
        self._assignors = assignors_named(options.partition_assignment_strategy)
        self._coordinator = CoordinatorClient(session, options.group_id)
        self._heartbeats = Heartbeats(session, options, self._coordinator)
        self._beating: asyncio.Task[None] | None = None
        self._member_id = ""
        self._state: Outside | Rejoining | Joined = Outside()
        self._held = Held()
        self._topics: tuple[str, ...] = ()
        self._committing = asyncio.Lock()
        self.needs_join = False
        self.lost = False
        """The partitions held belong to somebody else already: nothing may be committed for them."""

        self.polled_ms = session.runtime.clock.now_ms()
        self.look_every_ms = max(
            1, min(_LOOK_EVERY_MS, options.heartbeat_every_ms, options.max_poll_interval_ms // 3)
        )
        """How often it is seen to that the user polls, and that a poll that waits counts as one."""

    @property
    def member_id(self) -> str:
        return self._member_id

    @property
    def generation_id(self) -> int:
        """-1 outside."""
        return NO_GENERATION if isinstance(self._state, Outside) else self._state.generation_id

    @property
    def is_cooperative(self) -> bool:
        """Whether partitions are kept while the group rebalances: only if every assignor does so."""
        return all(assignor.is_cooperative for assignor in self._assignors)

    def start(self) -> None:
        self._session.metadata.on_change(self._notice_new_partitions)
        self._session.scope.spawn(self._look_after(), "consumer membership")

    def subscribe(self, topics: tuple[str, ...]) -> None:
        """Take part with these topics from the next join on; without any, no more."""
        self._topics = topics
        self.needs_join = bool(topics)

    # --- joining ----------------------------------------------------------------------------------------

    async def join(self, owned: Sequence[TopicPartition]) -> tuple[TopicPartition, ...] | None:
        """Be in the next generation; returns the partitions given to this member.

        Takes as long as the other members need. ``None``: ``owned``, which a cooperative member holds on to,
        is ``lost``; join again without.  Raises what the group refuses this member for.
        """
        generation_id = self.generation_id
        keeps = bool(owned) and generation_id != NO_GENERATION
        self._become(Rejoining(generation_id=generation_id) if keeps else Outside())
        self.lost = False
        while True:
            self.needs_join = False
            joined = await self._join_once(owned)
            given = None if joined is None else await self._sync_once(joined)
            if given is not None:
                return given
            if owned and isinstance(self._state, Outside):
                self.lost = self.needs_join = True
                return None
            await asyncio.sleep(self._options.retry_backoff_ms / 1_000)

    def _metadata(self, assignor: Assignor, owned: Sequence[TopicPartition]) -> bytes:
        return encode_subscription(
            Subscription(
                topics=self._topics,
                owned=tuple(owned),
                user_data=encode_held(self._held) if assignor.is_told_by_user_data else b"",
                generation_id=self.generation_id,
                rack=self._options.client_rack,
            )
        )

    async def _join_once(self, owned: Sequence[TopicPartition]) -> JoinGroupResponse | None:
        limit_ms = self._options.max_poll_interval_ms + _JOIN_SLACK_MS
        request = JoinGroupRequest(
            group_id=self._options.group_id,
            session_timeout_ms=self._options.session_timeout_ms,
            rebalance_timeout_ms=self._options.max_poll_interval_ms,
            member_id=self._member_id,
            group_instance_id=self._options.group_instance_id,
            protocol_type=_PROTOCOL_TYPE,
            protocols=[
                JoinGroupRequest.Protocol(name=assignor.name, metadata=self._metadata(assignor, owned))
                for assignor in self._assignors
            ],
            client_id=self._options.client_id,
        )
        reply, code = await self._coordinator.call(
            "JoinGroup",
            request,
            JoinGroupResponse,
            lambda answer: answer.error_code,
            attempt_ms=limit_ms,
            timeout_ms=limit_ms,
        )
        match code:
            case ErrorCode.NONE:
                self._member_id = reply.member_id
                return reply
            case ErrorCode.MEMBER_ID_REQUIRED:
                self._member_id = reply.member_id
            case ErrorCode.UNKNOWN_MEMBER_ID | ErrorCode.ILLEGAL_GENERATION:
                self._member_id = ""
                self._become(Outside())
            case ErrorCode.REBALANCE_IN_PROGRESS:
                pass
            case _:
                raise GlasslogError(
                    code, f"group {self._options.group_id!r} refuses this member: {code.name}"
                )
        return None

    async def _sync_once(self, joined: JoinGroupResponse) -> tuple[TopicPartition, ...] | None:
        watched: Mapping[str, Layout] = {}
        assignments: list[SyncGroupRequest.Assignment] = []
        if joined.leader == joined.member_id and not joined.skip_assignment:
            watched, assignments = await self._divide(joined)
        request = SyncGroupRequest(
            group_id=self._options.group_id,
            generation_id=joined.generation_id,
            member_id=joined.member_id,
            group_instance_id=self._options.group_instance_id,
            protocol_type=_PROTOCOL_TYPE,
            protocol_name=joined.protocol_name,
            assignments=assignments,
        )
        limit_ms = self._options.max_poll_interval_ms + _JOIN_SLACK_MS
        reply, code = await self._coordinator.call(
            "SyncGroup",
            request,
            SyncGroupResponse,
            lambda answer: answer.error_code,
            attempt_ms=limit_ms,
            timeout_ms=limit_ms,
        )
        match code:
            case ErrorCode.NONE:
                # Whoever waited for the others in a poll did not neglect to poll.
                self.polled_ms = self._session.runtime.clock.now_ms()
                self._become(
                    Joined(
                        generation_id=joined.generation_id,
                        protocol_name=joined.protocol_name,
                        watched=watched,
                    )
                )
                given = decode_assignment(reply.assignment)
                self._held = Held(partitions=given, generation_id=joined.generation_id)
                return given
            case ErrorCode.UNKNOWN_MEMBER_ID:
                self._member_id = ""
                self._become(Outside())
            case ErrorCode.ILLEGAL_GENERATION:
                self._become(Outside())
            case ErrorCode.REBALANCE_IN_PROGRESS:
                pass
            case _:
                raise GlasslogError(
                    code, f"group {self._options.group_id!r} refuses this member: {code.name}"
                )
        return None

    async def _divide(
        self, joined: JoinGroupResponse
    ) -> tuple[Mapping[str, Layout], list[SyncGroupRequest.Assignment]]:
        """This member leads: deal the partitions of all subscribed topics out."""
        assignor = self._assignor(joined.protocol_name)
        members = [_member_of(member, assignor) for member in joined.members]
        topics = sorted({topic for member in members for topic in member.topics})
        metadata = self._session.metadata
        if any(metadata.view.topic(topic) is None for topic in topics):
            metadata.add_topics(topics)
            await metadata.refresh()
        watched = self._layouts(topics)
        counts = {topic: len(layout) for topic, layout in watched.items() if layout}
        racks = self._racks(counts) if any(member.rack for member in members) else NO_RACKS
        assigned = assignor.assign(members, counts, racks)
        return watched, [
            SyncGroupRequest.Assignment(member_id=member_id, assignment=encode_assignment(partitions))
            for member_id, partitions in assigned.items()
        ]

    def _layouts(self, topics: Iterable[str]) -> dict[str, Layout]:
        """Empty for a topic that does not exist (yet)."""
        view, tells_racks = self._session.metadata.view, bool(self._options.client_rack)
        return {name: _layout(view.topic(name), with_replicas=tells_racks) for name in topics}

    def _racks(self, topics: Iterable[str]) -> Racks:
        """Brokers that are down are nowhere: their racks come back with the next rebalance."""
        view = self._session.metadata.view
        racks: dict[TopicPartition, tuple[str, ...]] = {}
        for name in topics:
            topic = view.topic(name)
            for partition in topic.partitions if topic is not None else ():
                brokers = (view.brokers.get(replica) for replica in partition.replicas)
                found = {broker.rack for broker in brokers if broker is not None and broker.rack}
                racks[TopicPartition(name, partition.partition)] = tuple(sorted(found))
        return racks

    def _assignor(self, name: str) -> Assignor:
        for assignor in self._assignors:
            if assignor.name == name:
                return assignor
        raise GlasslogError(
            ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
            f"the group chose assignor {name!r}, which is not among ours",
        )

    def _notice_new_partitions(self) -> None:
        """The leader has what it dealt out dealt again when a topic grows, appears or goes."""
        if isinstance(self._state, Joined) and self._state.watched:
            layouts = self._layouts(self._state.watched)
            if layouts != self._state.watched and not self.needs_join:
                self.needs_join = True
                self._on_change()

    # --- staying ----------------------------------------------------------------------------------------

    def _become(self, state: Outside | Rejoining | Joined) -> None:
        """Whoever is in a generation says so to the coordinator, who tells how long it lasts."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        self._state = state
        if isinstance(state, Joined):
            member = HeartbeatRequest(
                group_id=self._options.group_id,
                generation_id=state.generation_id,
                member_id=self._member_id,
                group_instance_id=self._options.group_instance_id,
            )
            beating = self._heartbeats.keep_up(member, partial(self._note, state))
            self._beating = self._session.scope.spawn(beating, "consumer heartbeats")

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(self.look_every_ms / 1_000)
            state = self._state
            if not isinstance(state, Joined):
                continue
            silent_ms = self._session.runtime.clock.now_ms() - self.polled_ms
            if silent_ms > self._options.max_poll_interval_ms:
                self._expel()
                await self.leave(f"not polled for {silent_ms} ms")
            elif not all(state.watched.values()):
                # Some topics do not exist, or did not.
                self._session.metadata.request_update()

    def _note(self, state: Joined, code: ErrorCode) -> None:
        """What an answer to a member in ``state`` says about its membership."""
        if self._state is not state:
            return
        if code is ErrorCode.REBALANCE_IN_PROGRESS:
            self.needs_join = True
            self._on_change()
        elif code in _EXPELLED:
            if code is ErrorCode.UNKNOWN_MEMBER_ID:
                # A fenced static member keeps its id: under a new one it would fence its successor.
                self._member_id = ""
            self._expel()

    def _expel(self) -> None:
        self._become(Outside())
        self.needs_join = self.lost = True
        self._on_change()

    async def leave(self, reason: str) -> None:
        """Tell the coordinator, so that the others need not wait for the session to end. Best effort.

        A static member only falls silent.
        """
        self._become(Outside())
        if not self._member_id or self._options.group_instance_id:
            return
        member = LeaveGroupRequest.Member(member_id=self._member_id, reason=reason)
        self._member_id = ""
        try:
            await self._coordinator.call(
                "LeaveGroup",
                LeaveGroupRequest(group_id=self._options.group_id, members=[member]),
                LeaveGroupResponse,
                lambda answer: answer.error_code,
                attempt_ms=_LEAVE_TIMEOUT_MS,
                timeout_ms=_LEAVE_TIMEOUT_MS,
            )
        except GlasslogError:
            return

    # --- offsets ----------------------------------------------------------------------------------------

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], *, timeout_ms: int) -> None:
        """Store positions, one commit after the other. Raises when the group went on without this member."""
        if not offsets:
            return
        async with self._committing:
            if self._topics and isinstance(self._state, Outside):
                # Without generation and member the broker would take it for the commit of a simple reader.
                code = ErrorCode.UNKNOWN_MEMBER_ID if self.lost else ErrorCode.REBALANCE_IN_PROGRESS
                raise GlasslogError(code, _commit_failure(self._options.group_id, code))
            request = OffsetCommitRequest(
                group_id=self._options.group_id,
                generation_id=self.generation_id,
                member_id="" if isinstance(self._state, Outside) else self._member_id,
                group_instance_id=self._options.group_instance_id,
                partitions=[
                    OffsetCommitRequest.Partition(
                        topic=partition.topic,
                        partition=partition.partition,
                        offset=position.offset,
                        leader_epoch=position.leader_epoch,
                        metadata=position.metadata,
                    )
                    for partition, position in offsets.items()
                ],
            )
            state = self._state
            _, code = await self._coordinator.call(
                "OffsetCommit",
                request,
                OffsetCommitResponse,
                _first_commit_error,
                attempt_ms=_ATTEMPT_MS,
                timeout_ms=timeout_ms,
            )
        if code is ErrorCode.NONE:
            return
        if isinstance(state, Rejoining):
            # What becomes of this member the answer to its join will tell.
            code = ErrorCode.REBALANCE_IN_PROGRESS if code in _EXPELLED else code
        elif isinstance(state, Joined):
            self._note(state, code)
        raise GlasslogError(code, _commit_failure(self._options.group_id, code))

    async def committed(
        self, partitions: Sequence[TopicPartition], *, timeout_ms: int
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """The group's positions; partitions without one are left out."""
        request = OffsetFetchRequest(
            group_id=self._options.group_id,
            partitions=[
                OffsetFetchRequest.Partition(topic=partition.topic, partition=partition.partition)
                for partition in partitions
            ],
            require_stable=True,
        )
        reply, code = await self._coordinator.call(
            "OffsetFetch",
            request,
            OffsetFetchResponse,
            _first_fetch_error,
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=timeout_ms,
        )
        if code is not ErrorCode.NONE:
            raise GlasslogError(code, f"positions of group {self._options.group_id!r}: {code.name}")
        return {
            TopicPartition(item.topic, item.partition): OffsetAndMetadata(
                item.offset, item.leader_epoch, item.metadata
            )
            for item in reply.partitions
            if item.offset >= 0
        }


def _member_of(member: JoinGroupResponse.Member, assignor: Assignor) -> Member:
    subscription = decode_subscription(member.metadata)
    held = Held(partitions=subscription.owned, generation_id=subscription.generation_id)
    if assignor.is_told_by_user_data:
        held = decode_held(subscription.user_data)
    return Member(
        member_id=member.member_id,
        topics=subscription.topics,
        group_instance_id=member.group_instance_id,
        owned=held.partitions,
        generation_id=held.generation_id,
        rack=subscription.rack,
    )


def _layout(topic: TopicView | None, *, with_replicas: bool) -> Layout:
    if topic is None:
        return ()
    return tuple(partition.replicas if with_replicas else () for partition in topic.partitions)


def _first_commit_error(reply: OffsetCommitResponse) -> int:
    return next((item.error_code for item in reply.partitions if item.error_code), 0)


def _first_fetch_error(reply: OffsetFetchResponse) -> int:
    return reply.error_code or next((item.error_code for item in reply.partitions if item.error_code), 0)


def _commit_failure(group_id: str, code: ErrorCode) -> str:
    if code in _EXPELLED:
        return (
            f"the commit came too late: group {group_id!r} has given the partitions to other members "
            f"({code.name}); poll more often or raise max_poll_interval_ms"
        )
    if code is ErrorCode.REBALANCE_IN_PROGRESS:
        return f"group {group_id!r} is being rebalanced: poll, then commit again"
    return f"group {group_id!r} refused the commit: {code.name}"
