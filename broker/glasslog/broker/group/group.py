"""One classic group: its members, its state and what each member may do in which state.

Plain state with the rules for reading it; transitions are made by ``core``. Refuses to know time sources,
storage and transports. Source: Kafka's ``ClassicGroup`` and ``ClassicGroupMember``.
"""

from dataclasses import dataclass, field
from enum import Enum

from glasslog.broker.group.records import GroupValue, MemberRecord
from glasslog.broker.group.subscriptions import subscribed_topics
from glasslog.broker.group.types import GroupDescription, JoinedMember, JoinRequest, MemberDescription

CONSUMER_PROTOCOL = "consumer"
"""The ``protocol_type`` of consumers: their metadata is a subscription."""


class GroupState(Enum):
    """Kafka's states, with the words its tools print."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class Keeps(Enum):
    """From when on an offset's retention counts."""

    ALWAYS = "it does not"
    SINCE_EMPTY = "since the last member left"
    SINCE_COMMIT = "since it was committed"


@dataclass(slots=True, kw_only=True)
class Member:
    """A member. ``join_waiter`` and ``sync_waiter`` hold the request that waits for the others, if one does.

    ``session_deadline_ms`` counts only while nothing of the member waits here: who waits is alive.
    """

    member_id: str
    group_instance_id: str
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]
    session_deadline_ms: int
    assignment: bytes = b""
    join_waiter: int | None = None
    sync_waiter: int | None = None

    def metadata(self, protocol_name: str) -> bytes:
        return dict(self.protocols).get(protocol_name, b"")

    @property
    def waits(self) -> bool:
        return self.join_waiter is not None or self.sync_waiter is not None


@dataclass(slots=True, kw_only=True)
class Group:
    """A group. ``deadline_ms`` ends the current phase: waiting for joins, or for the leader's assignment."""

    group_id: str
    state: GroupState = GroupState.EMPTY
    generation_id: int = 0
    protocol_type: str = ""
    protocol_name: str = ""
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    static_ids: dict[str, str] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    deadline_ms: int | None = None
    initial_delay_until_ms: int | None = None
    storing_generation: int | None = None
    state_wall_ms: int = -1
    """Since when it is in its state, in ms since 1970; -1 when its log does not say."""

    def supports(self, request: JoinRequest) -> bool:
        """Whether the request's protocols fit: same type as the group's, and one that all members know."""
        if not request.protocol_type or not request.protocols:
            return False
        others = [m for m in self.members.values() if m.member_id != request.member_id]
        if not others:
            return True
        if request.protocol_type != self.protocol_type:
            return False
        return any(all(name in dict(m.protocols) for m in others) for name, _ in request.protocols)

    def choose_protocol(self) -> str:
        """The protocol that most members prefer, of those that all know; ties go to the leader's order."""
        members = list(self.members.values())
        common = [name for name, _ in members[0].protocols if all(name in dict(m.protocols) for m in members)]
        votes = [next(name for name, _ in m.protocols if name in common) for m in members]
        return max(common, key=votes.count)

    def joined_members(self) -> tuple[JoinedMember, ...]:
        return tuple(
            JoinedMember(
                member_id=m.member_id,
                group_instance_id=m.group_instance_id,
                metadata=m.metadata(self.protocol_name),
            )
            for m in self.members.values()
        )

    def keeps_offsets_since(self, topic: str) -> "Keeps":
        """From when on the retention of offsets in ``topic`` counts, as the group is now (KIP-211)."""
        if not self.protocol_type:
            return Keeps.SINCE_COMMIT
        if self.state is GroupState.EMPTY:
            return Keeps.SINCE_EMPTY if self.state_wall_ms >= 0 else Keeps.SINCE_COMMIT
        is_consumers = self.protocol_type == CONSUMER_PROTOCOL
        if self.state is GroupState.STABLE and is_consumers and not self.may_read(topic):
            return Keeps.SINCE_COMMIT
        return Keeps.ALWAYS

    def may_read(self, topic: str) -> bool:
        """Whether a member has subscribed to ``topic``, as far as its protocol tells."""
        for member in self.members.values():
            for _, metadata in member.protocols:
                topics = subscribed_topics(metadata)
                if topics is None or topic in topics:
                    return True
        return False

    def rebalance_timeout_ms(self) -> int:
        return max((m.rebalance_timeout_ms for m in self.members.values()), default=0)

    def all_joined(self) -> bool:
        return not self.pending and all(m.join_waiter is not None for m in self.members.values())

    def next_deadline_ms(self) -> int | None:
        """When something expires at the earliest, if ever."""
        deadlines = [m.session_deadline_ms for m in self.members.values() if not m.waits]
        deadlines += self.pending.values()
        if self.deadline_ms is not None:
            deadlines.append(self.deadline_ms)
        return min(deadlines, default=None)

    def value(self, assignments: dict[str, bytes]) -> GroupValue:
        """The group as it is to be stored, with these assignments."""
        return GroupValue(
            protocol_type=self.protocol_type,
            generation_id=self.generation_id,
            protocol_name=self.protocol_name,
            leader=self.leader,
            state_timestamp_ms=self.state_wall_ms,
            members=tuple(self._member_record(m, assignments) for m in self.members.values()),
        )

    def _member_record(self, member: Member, assignments: dict[str, bytes]) -> MemberRecord:
        return MemberRecord(
            member_id=member.member_id,
            group_instance_id=member.group_instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            session_timeout_ms=member.session_timeout_ms,
            subscription=member.metadata(self.protocol_name),
            assignment=assignments.get(member.member_id, b""),
        )

    def describe(self) -> GroupDescription:
        return GroupDescription(
            group_id=self.group_id,
            state=self.state.value,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            members=tuple(
                MemberDescription(
                    member_id=m.member_id,
                    group_instance_id=m.group_instance_id,
                    client_id=m.client_id,
                    client_host=m.client_host,
                    metadata=m.metadata(self.protocol_name),
                    assignment=m.assignment,
                )
                for m in self.members.values()
            ),
        )


def restored(group_id: str, value: GroupValue, now_ms: int) -> Group:
    """A group as the log has it: stable if it has members, each with a fresh session."""
    group = Group(
        group_id=group_id,
        state=GroupState.STABLE if value.members else GroupState.EMPTY,
        generation_id=value.generation_id,
        protocol_type=value.protocol_type,
        protocol_name=value.protocol_name,
        leader=value.leader,
        state_wall_ms=value.state_timestamp_ms,
    )
    for m in value.members:
        group.members[m.member_id] = Member(
            member_id=m.member_id,
            group_instance_id=m.group_instance_id,
            client_id=m.client_id,
            client_host=m.client_host,
            session_timeout_ms=m.session_timeout_ms,
            rebalance_timeout_ms=m.rebalance_timeout_ms,
            protocols=((value.protocol_name, m.subscription),),
            session_deadline_ms=now_ms + m.session_timeout_ms,
            assignment=m.assignment,
        )
        if m.group_instance_id:
            group.static_ids[m.group_instance_id] = m.member_id
    return group
