"""The coordinator of the groups in one partition of ``__consumer_offsets``, as a sans-I/O core.

Requests come in with a *waiter* number when their answer may have to wait; duties go out through
``take_ready``. Records are replicated before anything that rests on them becomes visible: offsets are
changed, and assignments handed out, only by ``on_stored``. A standby that replays the same records has the
same offsets and stable generations; who waits for whom is volatile, and members find a new coordinator.

Refuses to know storage, transports, clocks and randomness.
Source: Kafka's ``GroupCoordinatorShard``; classic groups only (KIP-848 groups would be a second kind here).
"""

from collections import Counter

from glasslog.broker.group.effects import Effects, OnStored, Ready
from glasslog.broker.group.group import CONSUMER_PROTOCOL, Group, GroupState, Keeps, restored
from glasslog.broker.group.rebalance import Rebalance
from glasslog.broker.group.records import GroupLogRecord, GroupRecord, OffsetRecord
from glasslog.broker.group.timers import GroupTimers
from glasslog.broker.group.types import (
    NO_GENERATION,
    NOTHING_COMMITTED,
    CommitRequest,
    CommittedOffset,
    GroupDescription,
    GroupLimits,
    JoinRequest,
    JoinResponse,
    LeavingMember,
    MemberIdentity,
    SyncRequest,
    SyncResponse,
)
from glasslog.broker.group.watches import Watch, Watches
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition

_EXPIRED_AT_ONCE = 1_000
"""Offsets forgotten by one append."""


class GroupShard:
    """The groups and offsets of one partition. Every time is monotonic ms but ``wall_ms``, ms since 1970."""

    def __init__(self, limits: GroupLimits) -> None:
        self._limits = limits
        self._effects = Effects()
        self._rebalance = Rebalance(limits, self._effects)
        self._groups: dict[str, Group] = {}
        self._offsets: dict[str, dict[TopicPartition, CommittedOffset]] = {}
        self._committing: Counter[str] = Counter()
        """By group the changes of offsets that are not stored yet."""

        self._expiry_at_ms: int | None = None
        self._timers = GroupTimers(self._due_of)
        self._watches = Watches()

    # --- duties and time ---

    def take_ready(self) -> Ready:
        """What has to be appended and may be answered; each duty is given once."""
        return self._effects.take_ready()

    def on_stored(self, token: int, error: ErrorCode, now_ms: int) -> None:
        """An append ended, well or not. Appends end in the order they were given."""
        records, then = self._effects.take_stored(token)
        if error is ErrorCode.NONE:
            for record in records:
                self._replay_offset(record)
        then(error, now_ms)
        for record in records:
            if isinstance(record, GroupRecord):
                self._changed(record.group_id)

    def next_deadline_ms(self) -> int | None:
        """``tick`` has nothing to do before. Heartbeats may mean that there is nothing then either."""
        deadlines = (self._timers.next_ms(), self._expiry_at_ms)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _due_of(self, group_id: str) -> int | None:
        group = self._groups.get(group_id)
        return None if group is None else group.next_deadline_ms()

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Expire sessions, joins and syncs whose time is up; now and then, offsets."""
        self._rebalance.wall_offset_ms = wall_ms - now_ms
        if self._expiry_at_ms is not None and self._expiry_at_ms <= now_ms:
            self._expiry_at_ms = now_ms + self._limits.offsets_retention_check_interval_ms
            self._expire_offsets(wall_ms)
        for group_id in self._timers.take_due(now_ms):
            group = self._groups[group_id]
            self._rebalance.expire(group, now_ms)
            self._changed(group_id)
            self._forget_if_never_was(group)

    def _changed(self, group_id: str) -> None:
        """Something happened in the group: it may be due earlier, and its members may have to hear of it."""
        self._timers.touch(group_id)
        for waiter, answer in self._watches.take_news(group_id, self._standing):
            self._effects.reply(waiter, answer)

    def _forget_if_never_was(self, group: Group) -> None:
        """A group that nobody has really joined leaves no trace."""
        if not (group.members or group.pending or group.generation_id):
            self._groups.pop(group.group_id, None)

    # --- loading ---

    def replay(self, record: GroupLogRecord, now_ms: int) -> None:
        """A record of the log, while this coordinator takes the partition over."""
        self._replay_offset(record)
        if isinstance(record, GroupRecord):
            if record.value is None:
                self._groups.pop(record.group_id, None)
            else:
                self._groups[record.group_id] = restored(record.group_id, record.value, now_ms)

    def on_loaded(self, now_ms: int, wall_ms: int) -> None:
        """Everything is replayed: sessions begin now, since nobody could send a heartbeat before."""
        self._rebalance.wall_offset_ms = wall_ms - now_ms
        self._expiry_at_ms = now_ms + self._limits.offsets_retention_check_interval_ms
        for group in self._groups.values():
            self._timers.touch(group.group_id)
            for member in group.members.values():
                member.session_deadline_ms = now_ms + member.session_timeout_ms

    def _replay_offset(self, record: GroupLogRecord) -> None:
        if not isinstance(record, OffsetRecord):
            return
        offsets = self._offsets.setdefault(record.group_id, {})
        if record.committed is None:
            offsets.pop(record.partition, None)
        else:
            offsets[record.partition] = record.committed

    def resign(self) -> None:
        """Another broker coordinates these groups from now on: everybody who waits is told."""
        for group in self._groups.values():
            self._rebalance.resign(group, ErrorCode.NOT_COORDINATOR)
        for token in self._effects.unfinished:
            _, then = self._effects.take_stored(token)
            then(ErrorCode.NOT_COORDINATOR, 0)
        for waiter in self._watches.take_all():
            self._effects.reply(waiter, ErrorCode.NOT_COORDINATOR)

    # --- members ---

    def join(self, request: JoinRequest, waiter: int, now_ms: int) -> None:
        """A member joins, or joins again; answered with a ``JoinResponse``."""
        error = self._join_error(request)
        if error is not ErrorCode.NONE:
            self._effects.reply(waiter, JoinResponse(error=error, member_id=request.member_id))
            return
        group = self._groups.setdefault(request.group_id, Group(group_id=request.group_id))
        self._rebalance.join(group, request, waiter, now_ms)
        self._changed(request.group_id)
        self._forget_if_never_was(group)

    def _join_error(self, request: JoinRequest) -> ErrorCode:
        if not request.group_id:
            return ErrorCode.INVALID_GROUP_ID
        limits = self._limits
        if not limits.min_session_timeout_ms <= request.session_timeout_ms <= limits.max_session_timeout_ms:
            return ErrorCode.INVALID_SESSION_TIMEOUT
        if request.member_id and request.group_id not in self._groups:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE

    def sync(self, request: SyncRequest, waiter: int, now_ms: int) -> None:
        """A member asks for its assignment, the leader brings all; answered with a ``SyncResponse``."""
        identity = MemberIdentity(
            group_id=request.group_id,
            generation_id=request.generation_id,
            member_id=request.member_id,
            group_instance_id=request.group_instance_id,
        )
        error = self._member_error(identity)
        group = self._groups.get(request.group_id)
        if error is ErrorCode.NONE and group is not None:
            asked = (
                request.protocol_type or group.protocol_type,
                request.protocol_name or group.protocol_name,
            )
            if asked != (group.protocol_type, group.protocol_name):
                error = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if error is not ErrorCode.NONE or group is None:
            self._effects.reply(waiter, SyncResponse(error=error))
            return
        self._rebalance.sync(group, request, waiter, now_ms)
        self._changed(request.group_id)

    def heartbeat(self, identity: MemberIdentity, now_ms: int) -> ErrorCode:
        """A member is alive; REBALANCE_IN_PROGRESS tells it to join again."""
        standing = self._standing(identity)
        if standing in (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS):
            member = self._groups[identity.group_id].members[identity.member_id]
            member.session_deadline_ms = now_ms + member.session_timeout_ms
        return standing

    def watch(self, identity: MemberIdentity, told: ErrorCode, waiter: int) -> None:
        """Answer ``waiter`` once: as a heartbeat would be, as soon as that is not as ``told`` just now."""
        self._watches.add(waiter, Watch(identity=identity, told=told))

    def unwatch(self, identity: MemberIdentity, waiter: int) -> None:
        """Whoever watched is gone, or has been answered."""
        self._watches.remove(identity.group_id, waiter)

    def _standing(self, identity: MemberIdentity) -> ErrorCode:
        error = self._member_error(identity)
        if error is not ErrorCode.NONE:
            return error
        if self._groups[identity.group_id].state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def _member_error(self, identity: MemberIdentity) -> ErrorCode:
        group = self._groups.get(identity.group_id)
        if not identity.group_id:
            return ErrorCode.INVALID_GROUP_ID
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if identity.group_instance_id:
            owner = group.static_ids.get(identity.group_instance_id)
            if owner is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if owner != identity.member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        if identity.member_id not in group.members:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if identity.generation_id != group.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        return ErrorCode.NONE

    def leave(self, group_id: str, members: tuple[LeavingMember, ...], now_ms: int) -> tuple[ErrorCode, ...]:
        """Members go, each with its outcome, in order."""
        group = self._groups.get(group_id)
        if group is None:
            return tuple(ErrorCode.UNKNOWN_MEMBER_ID for _ in members)
        outcomes = tuple(self._leave_one(group, member, now_ms) for member in members)
        self._changed(group_id)
        self._forget_if_never_was(group)
        return outcomes

    def _leave_one(self, group: Group, member: LeavingMember, now_ms: int) -> ErrorCode:
        member_id = member.member_id
        if member.group_instance_id:
            owner = group.static_ids.get(member.group_instance_id)
            if owner is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if member_id and owner != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
            member_id = owner
        if member_id not in group.members and member_id not in group.pending:
            return ErrorCode.UNKNOWN_MEMBER_ID
        self._rebalance.leave(group, member_id, now_ms)
        return ErrorCode.NONE

    # --- offsets ---

    def commit(self, request: CommitRequest, waiter: int, now_ms: int, wall_ms: int) -> None:
        """Store offsets; answered partition by partition once they are replicated."""
        error = self._commit_error(request.identity, now_ms)
        bound = self._limits.max_offset_metadata_bytes
        outcomes = {
            partition: ErrorCode.OFFSET_METADATA_TOO_LARGE
            if len(committed.metadata.encode()) > bound and error is ErrorCode.NONE
            else error
            for partition, committed in request.offsets
        }
        records = tuple(
            OffsetRecord(
                group_id=request.identity.group_id,
                partition=partition,
                committed=_stamped(committed, wall_ms),
            )
            for partition, committed in request.offsets
            if outcomes[partition] is ErrorCode.NONE
        )

        def stored(outcome: ErrorCode, _now_ms: int) -> None:
            self._effects.reply(
                waiter,
                tuple((p, outcome if e is ErrorCode.NONE else e) for p, e in outcomes.items()),
            )

        if records:
            self._append_offsets(request.identity.group_id, records, stored)
        else:
            stored(ErrorCode.NONE, now_ms)

    def _append_offsets(self, group_id: str, records: tuple[OffsetRecord, ...], then: OnStored) -> None:
        self._committing[group_id] += 1

        def stored(error: ErrorCode, now_ms: int) -> None:
            self._committing[group_id] -= 1
            if not self._committing[group_id]:
                del self._committing[group_id]
            then(error, now_ms)

        self._effects.append(records, stored)

    def _commit_error(self, identity: MemberIdentity, now_ms: int) -> ErrorCode:
        group = self._groups.get(identity.group_id)
        if (group is None or not group.members) and identity.generation_id <= NO_GENERATION:
            return ErrorCode.NONE
        if group is None and identity.group_id not in self._offsets:
            return ErrorCode.ILLEGAL_GENERATION
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        error = self._member_error(identity)
        if error is ErrorCode.NONE:
            member = group.members[identity.member_id]
            member.session_deadline_ms = now_ms + member.session_timeout_ms
            if group.state is GroupState.COMPLETING_REBALANCE:
                return ErrorCode.REBALANCE_IN_PROGRESS
        return error

    def committed(self, group_id: str, partition: TopicPartition) -> CommittedOffset:
        """What the group committed for a partition; ``NOTHING_COMMITTED`` if nothing."""
        return self._offsets.get(group_id, {}).get(partition, NOTHING_COMMITTED)

    def all_committed(self, group_id: str) -> tuple[tuple[TopicPartition, CommittedOffset], ...]:
        """Everything the group committed, by partition."""
        return tuple(sorted(self._offsets.get(group_id, {}).items(), key=lambda item: item[0]))

    # --- forgetting ---

    def _expire_offsets(self, wall_ms: int) -> None:
        """Forget offsets not needed for ``offsets.retention.minutes``, and groups without any left.

        A group with changes under way is looked at the next time: they may be what keeps an offset.
        """
        before_ms = wall_ms - self._limits.offsets_retention_ms
        for group_id in sorted({*self._groups, *self._offsets}):
            if group_id in self._committing:
                continue
            group, offsets = self._groups.get(group_id), self._offsets.get(group_id, {})
            expired = [
                OffsetRecord(group_id=group_id, partition=partition, committed=None)
                for partition, committed in offsets.items()
                if _is_expired(group, partition, committed, before_ms)
            ]
            for start in range(0, len(expired), _EXPIRED_AT_ONCE):
                self._append_offsets(group_id, tuple(expired[start : start + _EXPIRED_AT_ONCE]), _ignore)
            if len(expired) == len(offsets):
                self._forget(group_id)

    def _forget(self, group_id: str) -> None:
        """A group without offsets goes once it is empty."""
        group = self._groups.get(group_id)
        if group is None:
            if not self._committing[group_id]:
                self._offsets.pop(group_id, None)
            return
        if group.state is not GroupState.EMPTY or group.pending:
            return

        def stored(error: ErrorCode, _now_ms: int) -> None:
            if error is ErrorCode.NONE and not (group.members or group.pending):
                self._groups.pop(group_id, None)

        self._effects.append((GroupRecord(group_id=group_id, value=None),), stored)

    def delete_group(self, group_id: str, waiter: int) -> None:
        """Forget a group without members and all it committed; answered with an ``ErrorCode``."""
        group, offsets = self._groups.get(group_id), self._offsets.get(group_id)
        if group is None and not offsets:
            self._effects.reply(waiter, ErrorCode.GROUP_ID_NOT_FOUND)
            return
        if group is not None and group.members:
            self._effects.reply(waiter, ErrorCode.NON_EMPTY_GROUP)
            return
        records: list[GroupLogRecord] = [
            OffsetRecord(group_id=group_id, partition=partition, committed=None)
            for partition in offsets or ()
        ]
        if group is not None:
            # Who has an id but has not come with it is no member; it is asked to begin anew.
            group.pending.clear()
            records.append(GroupRecord(group_id=group_id, value=None))

        def stored(error: ErrorCode, _now_ms: int) -> None:
            # Somebody may have joined meanwhile: what the group becomes is stored after this.
            if error is ErrorCode.NONE and group is not None and not (group.members or group.pending):
                self._groups.pop(group_id, None)
            if not self._offsets.get(group_id):
                self._offsets.pop(group_id, None)
            self._effects.reply(waiter, error)

        self._effects.append(tuple(records), stored)

    def delete_offsets(self, group_id: str, partitions: tuple[TopicPartition, ...], waiter: int) -> None:
        """Forget what a group committed for partitions of topics that no member reads (KIP-496).

        Answered with an ``ErrorCode`` for all, or as a commit is.
        """
        group, offsets = self._groups.get(group_id), self._offsets.get(group_id, {})
        if not group_id or (group is None and not offsets):
            self._effects.reply(
                waiter, ErrorCode.GROUP_ID_NOT_FOUND if group_id else ErrorCode.INVALID_GROUP_ID
            )
            return
        if group is not None and group.members and group.protocol_type != CONSUMER_PROTOCOL:
            self._effects.reply(waiter, ErrorCode.NON_EMPTY_GROUP)
            return
        outcomes = {
            each: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
            if group is not None and group.may_read(each.topic)
            else ErrorCode.NONE
            for each in partitions
        }
        records = tuple(
            OffsetRecord(group_id=group_id, partition=each, committed=None)
            for each, outcome in outcomes.items()
            if outcome is ErrorCode.NONE and each in offsets
        )

        def stored(error: ErrorCode, _now_ms: int) -> None:
            self._effects.reply(
                waiter, tuple((p, error if e is ErrorCode.NONE else e) for p, e in outcomes.items())
            )

        if records:
            self._effects.append(records, stored)
        else:
            stored(ErrorCode.NONE, 0)

    # --- looking in ---

    def describe(self, group_id: str) -> GroupDescription:
        """A group's state and members; ``Dead`` for one that is not known, ``Empty`` for offsets alone."""
        group = self._groups.get(group_id)
        if group is not None:
            return group.describe()
        state = GroupState.EMPTY if self._offsets.get(group_id) else GroupState.DEAD
        return GroupDescription(group_id=group_id, state=state.value)

    def group_ids(self) -> tuple[str, ...]:
        """Every group with members or offsets, sorted."""
        return tuple(sorted({*self._groups, *(g for g, offsets in self._offsets.items() if offsets)}))


def _is_expired(
    group: Group | None, partition: TopicPartition, committed: CommittedOffset, before_ms: int
) -> bool:
    match Keeps.SINCE_COMMIT if group is None else group.keeps_offsets_since(partition.topic):
        case Keeps.ALWAYS:
            return False
        case Keeps.SINCE_EMPTY:
            return group is not None and group.state_wall_ms <= before_ms
        case Keeps.SINCE_COMMIT:
            return committed.commit_timestamp_ms <= before_ms


def _ignore(error: ErrorCode, now_ms: int) -> None:
    """What could not be forgotten is found again the next time."""


def _stamped(committed: CommittedOffset, wall_ms: int) -> CommittedOffset:
    return CommittedOffset(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp_ms=wall_ms,
    )
