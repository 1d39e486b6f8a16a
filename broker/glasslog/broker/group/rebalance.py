"""The transitions of a classic group: join, sync, leave, expiry.

    EMPTY -> PREPARING_REBALANCE   a member joins
    PREPARING_REBALANCE -> COMPLETING_REBALANCE   all have joined, or time is up; the generation goes up
    COMPLETING_REBALANCE -> STABLE   the leader's assignment is stored
    STABLE, COMPLETING_REBALANCE -> PREPARING_REBALANCE   a member joins, leaves, expires or changes its mind
    any -> EMPTY   the last member is gone

Refuses to know storage, transports and time sources. Source: Kafka's ``GroupMetadataManager.classicGroup*``.
"""

from glasslog.broker.group.effects import Effects
from glasslog.broker.group.group import Group, GroupState, Member
from glasslog.broker.group.records import GroupRecord
from glasslog.broker.group.types import (
    GroupLimits,
    JoinRequest,
    JoinResponse,
    SyncRequest,
    SyncResponse,
)
from glasslog.common.errors import ErrorCode


class Rebalance:
    """Moves groups through their states; what has to leave or to be stored goes to ``effects``."""

    def __init__(self, limits: GroupLimits, effects: Effects) -> None:
        self._limits = limits
        self._effects = effects
        self.wall_offset_ms = 0
        """What to add to monotonic time for ms since 1970."""

    def _stamp(self, group: Group, now_ms: int) -> None:
        group.state_wall_ms = now_ms + self.wall_offset_ms

    # --- join ---

    def join(self, group: Group, request: JoinRequest, waiter: int, now_ms: int) -> None:
        """Take in a join that passed the checks on the request itself."""
        error = self._join_error(group, request)
        if error is not ErrorCode.NONE:
            self._refuse_join(waiter, request.member_id, error)
        elif request.group_instance_id:
            self._join_static(group, request, waiter, now_ms)
        elif not request.member_id and not request.must_return:
            self._add_member(group, request, request.new_member_id, waiter, now_ms)
        elif not request.member_id:
            # KIP-394: a newcomer must come again with its id, so that a lost answer leaves no ghost member.
            group.pending[request.new_member_id] = now_ms + request.session_timeout_ms
            self._refuse_join(waiter, request.new_member_id, ErrorCode.MEMBER_ID_REQUIRED)
        elif request.member_id in group.pending:
            del group.pending[request.member_id]
            self._add_member(group, request, request.member_id, waiter, now_ms)
        else:
            self._rejoin(group, group.members[request.member_id], request, waiter, now_ms)

    def _join_error(self, group: Group, request: JoinRequest) -> ErrorCode:
        known = request.member_id in group.members or request.member_id in group.pending
        if not group.supports(request):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if request.group_instance_id and request.member_id:
            owner = group.static_ids.get(request.group_instance_id)
            if owner is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            return ErrorCode.NONE if owner == request.member_id else ErrorCode.FENCED_INSTANCE_ID
        if request.member_id and not known:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if not known and len(group.members) + len(group.pending) >= self._limits.max_group_size:
            return ErrorCode.GROUP_MAX_SIZE_REACHED
        return ErrorCode.NONE

    def _refuse_join(self, waiter: int, member_id: str, error: ErrorCode) -> None:
        self._effects.reply(waiter, JoinResponse(error=error, member_id=member_id))

    def _join_static(self, group: Group, request: JoinRequest, waiter: int, now_ms: int) -> None:
        old_id = group.static_ids.get(request.group_instance_id)
        if old_id is None:
            self._add_member(group, request, request.new_member_id, waiter, now_ms)
        elif request.member_id:
            self._rejoin(group, group.members[old_id], request, waiter, now_ms)
        else:
            self._replace_static(group, group.members[old_id], request, waiter, now_ms)

    def _replace_static(
        self, group: Group, old: Member, request: JoinRequest, waiter: int, now_ms: int
    ) -> None:
        """A static member came back under a new id: the old one is fenced, the place is kept (KIP-345)."""
        self._fence(old)
        unchanged = old.metadata(group.protocol_name) == dict(request.protocols).get(group.protocol_name)
        member = self._new_member(request, request.new_member_id, now_ms)
        member.assignment = old.assignment
        group.members = {
            (member.member_id if key == old.member_id else key): (member if value is old else value)
            for key, value in group.members.items()
        }
        group.static_ids[request.group_instance_id] = member.member_id
        if group.leader == old.member_id:
            group.leader = member.member_id
        if group.state is GroupState.STABLE and unchanged:
            self._store_replacement(group, member, waiter, now_ms)
            return
        member.join_waiter = waiter
        self.prepare(group, now_ms)

    def _store_replacement(self, group: Group, member: Member, waiter: int, now_ms: int) -> None:
        """Answer once the log has the new id: the next coordinator would take it for a fenced one."""
        assignments = {each.member_id: each.assignment for each in group.members.values()}
        self._stamp(group, now_ms)
        record = GroupRecord(group_id=group.group_id, value=group.value(assignments))

        def stored(error: ErrorCode, then_ms: int) -> None:
            if error is not ErrorCode.NONE:
                self._refuse_join(waiter, member.member_id, error)
            elif group.members.get(member.member_id) is not member:
                is_replaced = member.group_instance_id in group.static_ids
                gone = ErrorCode.FENCED_INSTANCE_ID if is_replaced else ErrorCode.UNKNOWN_MEMBER_ID
                self._refuse_join(waiter, member.member_id, gone)
            elif group.state is GroupState.PREPARING_REBALANCE and member.join_waiter is None:
                member.join_waiter = waiter
                self._maybe_complete(group, then_ms)
            else:
                self._answer_join(group, member, waiter)

        self._effects.append((record,), stored)

    def _fence(self, member: Member) -> None:
        if member.join_waiter is not None:
            self._refuse_join(member.join_waiter, member.member_id, ErrorCode.FENCED_INSTANCE_ID)
        self._effects.reply(member.sync_waiter, SyncResponse(error=ErrorCode.FENCED_INSTANCE_ID))
        member.join_waiter = member.sync_waiter = None

    def _new_member(self, request: JoinRequest, member_id: str, now_ms: int) -> Member:
        return Member(
            member_id=member_id,
            group_instance_id=request.group_instance_id,
            client_id=request.client_id,
            client_host=request.client_host,
            session_timeout_ms=request.session_timeout_ms,
            rebalance_timeout_ms=max(request.rebalance_timeout_ms, 1),
            protocols=request.protocols,
            session_deadline_ms=now_ms + request.session_timeout_ms,
        )

    def _add_member(
        self, group: Group, request: JoinRequest, member_id: str, waiter: int, now_ms: int
    ) -> None:
        member = self._new_member(request, member_id, now_ms)
        member.join_waiter = waiter
        if not group.members:
            group.protocol_type = request.protocol_type
        group.members[member_id] = member
        if member.group_instance_id:
            group.static_ids[member.group_instance_id] = member_id
        self.prepare(group, now_ms)

    def _rejoin(self, group: Group, member: Member, request: JoinRequest, waiter: int, now_ms: int) -> None:
        changed = member.protocols != request.protocols
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = max(request.rebalance_timeout_ms, 1)
        member.session_deadline_ms = now_ms + request.session_timeout_ms
        settled = group.state is GroupState.COMPLETING_REBALANCE or (
            group.state is GroupState.STABLE and member.member_id != group.leader
        )
        if settled and not changed:
            # The answer to its last join was lost, or it only asks again: nothing changes for the others.
            self._answer_join(group, member, waiter)
            return
        member.protocols = request.protocols
        if member.join_waiter is not None:
            self._refuse_join(member.join_waiter, member.member_id, ErrorCode.REBALANCE_IN_PROGRESS)
        member.join_waiter = waiter
        self.prepare(group, now_ms)

    def _answer_join(self, group: Group, member: Member, waiter: int | None) -> None:
        self._effects.reply(
            waiter,
            JoinResponse(
                generation_id=group.generation_id,
                protocol_type=group.protocol_type,
                protocol_name=group.protocol_name,
                leader=group.leader,
                member_id=member.member_id,
                members=group.joined_members() if member.member_id == group.leader else (),
            ),
        )

    # --- preparing and completing ---

    def prepare(self, group: Group, now_ms: int) -> None:
        """Start a rebalance, or go on with the one under way; ends it if everybody is there."""
        if group.state is GroupState.COMPLETING_REBALANCE:
            self._fail_syncs(group, ErrorCode.REBALANCE_IN_PROGRESS)
        if group.state is not GroupState.PREPARING_REBALANCE:
            self._start(group, now_ms)
        elif group.initial_delay_until_ms is not None:
            # The first members of a group wait for more, each newcomer a little longer, up to the bound.
            wait_until = min(now_ms + self._limits.initial_rebalance_delay_ms, group.initial_delay_until_ms)
            group.deadline_ms = max(group.deadline_ms or 0, wait_until)
        self._maybe_complete(group, now_ms)

    def _start(self, group: Group, now_ms: int) -> None:
        first = group.state is GroupState.EMPTY and self._limits.initial_rebalance_delay_ms > 0
        group.state = GroupState.PREPARING_REBALANCE
        group.storing_generation = None
        timeout_ms = group.rebalance_timeout_ms()
        group.initial_delay_until_ms = now_ms + timeout_ms if first else None
        wait_ms = min(self._limits.initial_rebalance_delay_ms, timeout_ms) if first else timeout_ms
        group.deadline_ms = now_ms + wait_ms

    def _maybe_complete(self, group: Group, now_ms: int) -> None:
        if group.initial_delay_until_ms is None and group.all_joined():
            self._complete(group, now_ms)

    def _complete(self, group: Group, now_ms: int) -> None:
        """Everybody who will come has come: a new generation, and the leader's turn."""
        for member in [m for m in group.members.values() if m.join_waiter is None]:
            if not member.group_instance_id:
                self._remove(group, member)
        group.initial_delay_until_ms = None
        group.generation_id += 1
        if not group.members:
            self._become_empty(group, now_ms)
            return
        if group.leader not in group.members or group.members[group.leader].join_waiter is None:
            joined = (m.member_id for m in group.members.values() if m.join_waiter is not None)
            group.leader = next(joined, next(iter(group.members)))
        group.protocol_name = group.choose_protocol()
        group.state = GroupState.COMPLETING_REBALANCE
        group.deadline_ms = now_ms + group.rebalance_timeout_ms()
        for member in group.members.values():
            waiter, member.join_waiter = member.join_waiter, None
            if waiter is not None:
                member.session_deadline_ms = now_ms + member.session_timeout_ms
                self._answer_join(group, member, waiter)

    def _become_empty(self, group: Group, now_ms: int) -> None:
        group.state = GroupState.EMPTY
        group.leader = group.protocol_name = ""
        group.deadline_ms = group.initial_delay_until_ms = None
        self._stamp(group, now_ms)
        record = GroupRecord(group_id=group.group_id, value=group.value({}))
        # Nothing waits for it: after a failover the members that left are found missing by their sessions.
        self._effects.append((record,), lambda _error, _now: None)

    # --- sync ---

    def sync(self, group: Group, request: SyncRequest, waiter: int, now_ms: int) -> None:
        """Take in a sync of a member that was checked."""
        member = group.members[request.member_id]
        member.session_deadline_ms = now_ms + member.session_timeout_ms
        match group.state:
            case GroupState.STABLE:
                self._effects.reply(waiter, self._assignment(group, member))
            case GroupState.COMPLETING_REBALANCE:
                if member.sync_waiter is not None:
                    self._effects.reply(
                        member.sync_waiter, SyncResponse(error=ErrorCode.REBALANCE_IN_PROGRESS)
                    )
                member.sync_waiter = waiter
                if member.member_id == group.leader and group.storing_generation is None:
                    self._store(group, dict(request.assignments), now_ms)
            case GroupState.PREPARING_REBALANCE:
                self._effects.reply(waiter, SyncResponse(error=ErrorCode.REBALANCE_IN_PROGRESS))
            case GroupState.EMPTY | GroupState.DEAD:
                self._effects.reply(waiter, SyncResponse(error=ErrorCode.UNKNOWN_MEMBER_ID))

    def _assignment(self, group: Group, member: Member) -> SyncResponse:
        return SyncResponse(
            protocol_type=group.protocol_type,
            protocol_name=group.protocol_name,
            assignment=member.assignment,
        )

    def _store(self, group: Group, assignments: dict[str, bytes], now_ms: int) -> None:
        generation = group.storing_generation = group.generation_id
        self._stamp(group, now_ms)
        record = GroupRecord(group_id=group.group_id, value=group.value(assignments))

        def stored(error: ErrorCode, then_ms: int) -> None:
            current = group.state is GroupState.COMPLETING_REBALANCE and group.generation_id == generation
            if current and group.storing_generation == generation:
                self._on_assignment_stored(group, assignments, error, then_ms)

        self._effects.append((record,), stored)

    def _on_assignment_stored(
        self, group: Group, assignments: dict[str, bytes], error: ErrorCode, now_ms: int
    ) -> None:
        group.storing_generation = None
        if error is not ErrorCode.NONE:
            self._fail_syncs(group, error)
            self.prepare(group, now_ms)
            return
        group.state = GroupState.STABLE
        group.deadline_ms = None
        for member in group.members.values():
            member.assignment = assignments.get(member.member_id, b"")
            waiter, member.sync_waiter = member.sync_waiter, None
            if waiter is not None:
                member.session_deadline_ms = now_ms + member.session_timeout_ms
                self._effects.reply(waiter, self._assignment(group, member))

    def _fail_syncs(self, group: Group, error: ErrorCode) -> None:
        for member in group.members.values():
            member.assignment = b""
            waiter, member.sync_waiter = member.sync_waiter, None
            self._effects.reply(waiter, SyncResponse(error=error))

    # --- leaving ---

    def leave(self, group: Group, member_id: str, now_ms: int) -> None:
        """A member, or one that was about to become one, is gone."""
        if group.pending.pop(member_id, None) is None:
            self._remove(group, group.members[member_id])
        match group.state:
            case GroupState.STABLE | GroupState.COMPLETING_REBALANCE:
                self.prepare(group, now_ms)
            case GroupState.PREPARING_REBALANCE:
                self._maybe_complete(group, now_ms)
            case GroupState.EMPTY | GroupState.DEAD:
                pass

    def _remove(self, group: Group, member: Member) -> None:
        del group.members[member.member_id]
        if member.group_instance_id:
            group.static_ids.pop(member.group_instance_id, None)
        if member.join_waiter is not None:
            self._refuse_join(member.join_waiter, member.member_id, ErrorCode.UNKNOWN_MEMBER_ID)
        self._effects.reply(member.sync_waiter, SyncResponse(error=ErrorCode.UNKNOWN_MEMBER_ID))

    # --- time ---

    def expire(self, group: Group, now_ms: int) -> None:
        """Everything whose time is up."""
        for member_id in [m for m, deadline in group.pending.items() if deadline <= now_ms]:
            self.leave(group, member_id, now_ms)
        silent = [m for m in group.members.values() if not m.waits and m.session_deadline_ms <= now_ms]
        for member in silent:
            if member.member_id in group.members:
                self.leave(group, member.member_id, now_ms)
        if group.deadline_ms is not None and group.deadline_ms <= now_ms:
            self._expire_phase(group, now_ms)

    def _expire_phase(self, group: Group, now_ms: int) -> None:
        if group.state is GroupState.PREPARING_REBALANCE:
            group.pending.clear()
            self._complete(group, now_ms)
            return
        # COMPLETING_REBALANCE: who has not synced in time holds the others up, and is out (KAFKA-10134).
        group.deadline_ms = now_ms + group.rebalance_timeout_ms()
        late = [m for m in group.members.values() if m.sync_waiter is None]
        for member in late:
            self._remove(group, member)
        if late:
            self.prepare(group, now_ms)

    def resign(self, group: Group, error: ErrorCode) -> None:
        """This coordinator does not serve the group any more: everybody has to look for the new one."""
        for member in group.members.values():
            if member.join_waiter is not None:
                self._refuse_join(member.join_waiter, member.member_id, error)
            self._effects.reply(member.sync_waiter, SyncResponse(error=error))
            member.join_waiter = member.sync_waiter = None
        group.state = GroupState.DEAD
