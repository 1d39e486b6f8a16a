"""The group coordinator's core, told as stories: who joins, who waits, who is told what."""

from typing import TypeVar

import pytest
from glasslog.broker.group.core import GroupShard
from glasslog.broker.group.effects import Append, Response
from glasslog.broker.group.records import GroupLogRecord, GroupRecord
from glasslog.broker.group.types import (
    NOTHING_COMMITTED,
    CommitRequest,
    CommittedOffset,
    GroupLimits,
    JoinRequest,
    JoinResponse,
    LeavingMember,
    MemberIdentity,
    SyncRequest,
    SyncResponse,
)
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import LeaderEpoch, Offset, TopicPartition

T = TypeVar("T")
LIMITS = GroupLimits(
    initial_rebalance_delay_ms=0,
    min_session_timeout_ms=10,
    max_session_timeout_ms=100_000,
    max_group_size=3,
    max_offset_metadata_bytes=8,
    offsets_retention_ms=604_800_000,
    offsets_retention_check_interval_ms=600_000,
)
P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Bench:
    """A shard with a hand-turned clock and a log that stores at once, unless ``hold`` is set."""

    def __init__(self, limits: GroupLimits = LIMITS) -> None:
        self.shard = GroupShard(limits)
        self.now = 0
        self.answers: dict[int, Response] = {}
        self.log: list[GroupLogRecord] = []
        self.held: list[Append] = []
        self.hold = False
        self._waiter = 0

    def drain(self) -> None:
        while True:
            ready = self.shard.take_ready()
            for reply in ready.replies:
                assert reply.waiter not in self.answers, "answered twice"
                self.answers[reply.waiter] = reply.response
            self.held += ready.appends
            if self.hold or not self.held:
                return
            self.store(ErrorCode.NONE)

    def store(self, error: ErrorCode) -> None:
        append = self.held.pop(0)
        if error is ErrorCode.NONE:
            self.log += append.records
        self.shard.on_stored(append.token, error, self.now)

    def waiter(self) -> int:
        self._waiter += 1
        return self._waiter

    def advance(self, to_ms: int) -> None:
        while (due := self.shard.next_deadline_ms()) is not None and due <= to_ms:
            self.now = max(self.now, due)
            self.shard.tick(self.now, self.now)
            self.drain()
        self.now = to_ms

    def answer(self, waiter: int, kind: type[T]) -> T:
        response = self.answers[waiter]
        assert isinstance(response, kind)
        return response

    def join(self, member_id: str, **changes: object) -> int:
        """A join under a known id: ``new-x`` is first introduced as KIP-394 asks."""
        fields: dict[str, object] = {
            "group_id": "g",
            "member_id": member_id,
            "new_member_id": "unused",
            "session_timeout_ms": 1000,
            "rebalance_timeout_ms": 5000,
            "protocol_type": "consumer",
            "protocols": (("range", member_id.encode()),),
            **changes,
        }
        waiter = self.waiter()
        self.shard.join(JoinRequest(**fields), waiter, self.now)  # type: ignore[arg-type]  # a test's shorthand
        self.drain()
        return waiter

    def newcomer(self, name: str) -> int:
        first = self.join("", new_member_id=name, protocols=(("range", name.encode()),))
        response = self.answer(first, JoinResponse)
        assert (response.error, response.member_id) == (ErrorCode.MEMBER_ID_REQUIRED, name)
        return self.join(name)

    def sync(self, member_id: str, generation: int, assignments: dict[str, bytes] | None = None) -> int:
        waiter = self.waiter()
        request = SyncRequest(
            group_id="g",
            generation_id=generation,
            member_id=member_id,
            assignments=tuple((assignments or {}).items()),
        )
        self.shard.sync(request, waiter, self.now)
        self.drain()
        return waiter

    def heartbeat(self, member_id: str, generation: int) -> ErrorCode:
        return self.shard.heartbeat(identity(member_id, generation), self.now)

    def commit(self, member_id: str, generation: int, offset: int, metadata: str = "") -> int:
        waiter = self.waiter()
        committed = CommittedOffset(offset=Offset(offset), leader_epoch=LeaderEpoch(2), metadata=metadata)
        request = CommitRequest(identity=identity(member_id, generation), offsets=((P0, committed),))
        self.shard.commit(request, waiter, self.now, wall_ms=77)
        self.drain()
        return waiter

    def commit_outcome(self, waiter: int) -> ErrorCode:
        ((_, error),) = self.answer(waiter, tuple)
        assert isinstance(error, ErrorCode)
        return error

    def stable(self, *names: str) -> int:
        """A stable group of these members, the first leading; returns its generation."""
        waiters = {names[0]: self.newcomer(names[0])}
        for name in names[1:]:
            waiters[name] = self.newcomer(name)
            for old in waiters:
                if old != name and waiters[old] in self.answers:
                    waiters[old] = self.join(old)
        generation = self.answer(waiters[names[0]], JoinResponse).generation_id
        syncs = [self.sync(name, generation) for name in names[1:]]
        syncs.append(self.sync(names[0], generation, {name: b"for " + name.encode() for name in names}))
        assert all(self.answer(w, SyncResponse).error is ErrorCode.NONE for w in syncs)
        return generation


def identity(member_id: str, generation: int) -> MemberIdentity:
    return MemberIdentity(group_id="g", generation_id=generation, member_id=member_id)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_one_member_leads_itself_and_gets_its_assignment_once_it_is_stored(bench: Bench) -> None:
    joined = bench.answer(bench.newcomer("a"), JoinResponse)
    assert (joined.generation_id, joined.leader, joined.protocol_name) == (1, "a", "range")
    assert [m.member_id for m in joined.members] == ["a"]
    bench.hold = True
    waiter = bench.sync("a", 1, {"a": b"p0"})
    assert waiter not in bench.answers, "answered before the assignment was replicated"
    bench.store(ErrorCode.NONE)
    bench.drain()
    assert bench.answer(waiter, SyncResponse).assignment == b"p0"
    assert bench.heartbeat("a", 1) is ErrorCode.NONE


def test_a_second_member_makes_the_first_join_again(bench: Bench) -> None:
    assert bench.stable("a") == 1
    second = bench.newcomer("b")
    assert second not in bench.answers
    assert bench.heartbeat("a", 1) is ErrorCode.REBALANCE_IN_PROGRESS
    first = bench.join("a")
    for waiter in (first, second):
        assert bench.answer(waiter, JoinResponse).generation_id == 2
    assert bench.answer(second, JoinResponse).members == ()
    assert len(bench.answer(first, JoinResponse).members) == 2
    assert bench.heartbeat("b", 1) is ErrorCode.ILLEGAL_GENERATION


def test_who_does_not_join_in_time_is_out(bench: Bench) -> None:
    bench.stable("a", "b")
    waiter = bench.join("b", protocols=(("range", b"other"),))
    bench.advance(bench.now + 999)
    assert waiter not in bench.answers
    bench.advance(bench.now + 2)  # the session of a ends
    assert bench.answer(waiter, JoinResponse).leader == "b"
    assert bench.heartbeat("a", 2) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_heartbeating_member_is_waited_for_until_the_rebalance_timeout(bench: Bench) -> None:
    generation = bench.stable("a", "b")
    waiter = bench.join("b", protocols=(("range", b"other"),))
    for _ in range(10):
        bench.advance(bench.now + 490)
        assert bench.heartbeat("a", generation) is ErrorCode.REBALANCE_IN_PROGRESS
    assert waiter not in bench.answers
    bench.advance(5001)
    assert bench.answer(waiter, JoinResponse).leader == "b"


def test_a_silent_member_expires_and_a_leaving_one_goes_at_once(bench: Bench) -> None:
    bench.stable("a", "b")
    bench.shard.leave("g", (LeavingMember(member_id="b"),), bench.now)
    bench.drain()
    assert bench.heartbeat("a", 2) is ErrorCode.REBALANCE_IN_PROGRESS
    bench.advance(5001)
    assert bench.shard.describe("g").state == "Empty"
    assert isinstance(bench.log[-1], GroupRecord)


def test_the_leader_joining_again_rebalances_another_member_does_not(bench: Bench) -> None:
    generation = bench.stable("a", "b")
    again = bench.answer(bench.join("b"), JoinResponse)
    assert (again.generation_id, again.members) == (generation, ())
    assert bench.join("a") not in bench.answers


def test_an_assignment_that_can_not_be_stored_starts_over(bench: Bench) -> None:
    bench.newcomer("a")
    bench.hold = True
    waiter = bench.sync("a", 1, {"a": b"p0"})
    bench.store(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    bench.drain()
    assert bench.answer(waiter, SyncResponse).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert bench.heartbeat("a", 1) is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_late_assignment_of_an_older_generation_changes_nothing(bench: Bench) -> None:
    """A rebalance overtook the append: its assignment must not be handed out in the new generation."""
    bench.newcomer("a")
    bench.hold = True
    old = bench.sync("a", 1, {"a": b"old"})
    bench.newcomer("b")
    assert bench.answer(old, SyncResponse).error is ErrorCode.REBALANCE_IN_PROGRESS
    bench.join("a")
    new = bench.sync("a", 2, {"a": b"new"})
    bench.store(ErrorCode.NONE)
    bench.drain()
    assert new not in bench.answers
    bench.store(ErrorCode.NONE)
    bench.drain()
    assert bench.answer(new, SyncResponse).assignment == b"new"


def test_who_never_syncs_is_out(bench: Bench) -> None:
    first = bench.newcomer("a")
    assert bench.answer(first, JoinResponse).generation_id == 1
    bench.newcomer("b")
    bench.join("a")
    waiter = bench.sync("a", 2, {"a": b"all"})
    assert bench.answer(waiter, SyncResponse).error is ErrorCode.NONE
    bench.advance(1500)
    assert [m.member_id for m in bench.shard.describe("g").members] != ["a", "b"]


def test_the_first_members_wait_for_more() -> None:
    bench = Bench(
        GroupLimits(
            initial_rebalance_delay_ms=100,
            min_session_timeout_ms=10,
            max_session_timeout_ms=100_000,
            max_group_size=9,
            max_offset_metadata_bytes=8,
            offsets_retention_ms=604_800_000,
            offsets_retention_check_interval_ms=600_000,
        )
    )
    first = bench.newcomer("a")
    bench.advance(60)
    second = bench.newcomer("b")
    bench.advance(120)
    assert first not in bench.answers
    bench.advance(161)
    assert {bench.answer(w, JoinResponse).generation_id for w in (first, second)} == {1}


def test_commits_are_visible_only_when_replicated(bench: Bench) -> None:
    generation = bench.stable("a")
    bench.hold = True
    waiter = bench.commit("a", generation, 42)
    assert bench.shard.committed("g", P0) == NOTHING_COMMITTED
    assert waiter not in bench.answers
    bench.store(ErrorCode.NONE)
    bench.drain()
    assert bench.commit_outcome(waiter) is ErrorCode.NONE
    committed = bench.shard.committed("g", P0)
    assert (committed.offset, committed.leader_epoch, committed.commit_timestamp_ms) == (42, 2, 77)


def test_a_failed_commit_changes_nothing(bench: Bench) -> None:
    bench.hold = True
    waiter = bench.commit("", -1, 5)
    bench.store(ErrorCode.NOT_COORDINATOR)
    bench.drain()
    assert bench.commit_outcome(waiter) is ErrorCode.NOT_COORDINATOR
    assert bench.shard.all_committed("g") == ()


@pytest.mark.parametrize(
    ("member", "shift", "error"),
    [
        ("a", -1, ErrorCode.ILLEGAL_GENERATION),
        ("a", 1, ErrorCode.ILLEGAL_GENERATION),
        ("ghost", 0, ErrorCode.UNKNOWN_MEMBER_ID),
        ("", 0, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_a_fenced_member_can_not_commit(bench: Bench, member: str, shift: int, error: ErrorCode) -> None:
    generation = bench.stable("a")
    assert bench.commit_outcome(bench.commit(member, generation + shift, 1)) is error
    assert bench.shard.all_committed("g") == ()


def test_too_much_metadata_is_refused(bench: Bench) -> None:
    outcome = bench.commit_outcome(bench.commit("", -1, 1, metadata="123456789"))
    assert outcome is ErrorCode.OFFSET_METADATA_TOO_LARGE


def test_commits_during_a_rebalance(bench: Bench) -> None:
    """Members commit what they did before they join again: allowed until all have joined, not after."""
    generation = bench.stable("a", "b")
    bench.join("b", protocols=(("range", b"other"),))
    assert bench.commit_outcome(bench.commit("a", generation, 9)) is ErrorCode.NONE
    bench.join("a")
    assert bench.commit_outcome(bench.commit("a", generation + 1, 10)) is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_standby_that_replays_the_log_goes_on_with_the_group(bench: Bench) -> None:
    generation = bench.stable("a", "b")
    bench.commit("b", generation, 11)
    other = Bench()
    for record in bench.log:
        other.shard.replay(record, now_ms=500)
    other.now = 500
    assert other.heartbeat("a", generation) is ErrorCode.NONE
    assert other.shard.committed("g", P0).offset == 11
    assert other.answer(other.sync("b", generation), SyncResponse).assignment == b"for b"
    other.advance(1600)
    assert other.heartbeat("b", generation) is not ErrorCode.NONE


def test_resigning_sends_everybody_away(bench: Bench) -> None:
    bench.stable("a", "b")
    waiting = bench.join("b", protocols=(("range", b"other"),))
    bench.hold = True
    commit = bench.commit("a", 2, 3)
    bench.shard.resign()
    bench.held.clear()
    bench.drain()
    assert bench.answer(waiting, JoinResponse).error is ErrorCode.NOT_COORDINATOR
    assert bench.commit_outcome(commit) is ErrorCode.NOT_COORDINATOR


def test_a_static_member_that_comes_back_keeps_its_place(bench: Bench) -> None:
    """KIP-345: no rebalance for a restart within the session; the old incarnation is fenced."""
    first = bench.join("", new_member_id="a1", group_instance_id="i", protocols=(("range", b"x"),))
    assert bench.answer(first, JoinResponse).generation_id == 1
    bench.sync("a1", 1, {"a1": b"p0"})
    again = bench.join("", new_member_id="a2", group_instance_id="i", protocols=(("range", b"x"),))
    joined = bench.answer(again, JoinResponse)
    assert (joined.generation_id, joined.member_id, joined.leader) == (1, "a2", "a2")
    assert bench.answer(bench.sync("a2", 1), SyncResponse).assignment == b"p0"
    old = MemberIdentity(group_id="g", generation_id=1, member_id="a1", group_instance_id="i")
    assert bench.shard.heartbeat(old, bench.now) is ErrorCode.FENCED_INSTANCE_ID


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"group_id": ""}, ErrorCode.INVALID_GROUP_ID),
        ({"session_timeout_ms": 1}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"session_timeout_ms": 10**9}, ErrorCode.INVALID_SESSION_TIMEOUT),
        ({"member_id": "ghost"}, ErrorCode.UNKNOWN_MEMBER_ID),
        ({"protocols": ()}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocols": (("sticky", b""),)}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_type": "connect"}, ErrorCode.INCONSISTENT_GROUP_PROTOCOL),
        ({"member_id": "ghost", "group_instance_id": "i"}, ErrorCode.UNKNOWN_MEMBER_ID),
    ],
)
def test_bad_joins_are_refused_and_disturb_nobody(
    bench: Bench, changes: dict[str, object], error: ErrorCode
) -> None:
    generation = bench.stable("a")
    waiter = (
        bench.join("", **changes)
        if "member_id" not in changes
        else bench.join(str(changes["member_id"]), **{k: v for k, v in changes.items() if k != "member_id"})
    )
    assert bench.answer(waiter, JoinResponse).error is error
    assert bench.heartbeat("a", generation) is ErrorCode.NONE


def test_a_full_group_takes_nobody(bench: Bench) -> None:
    bench.stable("a", "b", "c")
    waiter = bench.join("", new_member_id="d", protocols=(("range", b"d"),))
    assert bench.answer(waiter, JoinResponse).error is ErrorCode.GROUP_MAX_SIZE_REACHED


def test_a_refused_first_join_leaves_no_group(bench: Bench) -> None:
    bench.join("", protocols=())
    assert bench.shard.group_ids() == ()


def test_leaving_names_each_outcome(bench: Bench) -> None:
    bench.stable("a")
    outcomes = bench.shard.leave("g", (LeavingMember(member_id="x"), LeavingMember(member_id="a")), 0)
    assert outcomes == (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.NONE)
    assert bench.shard.leave("other", (LeavingMember(member_id="x"),), 0) == (ErrorCode.UNKNOWN_MEMBER_ID,)


def replayed(bench: Bench, now_ms: int = 0) -> Bench:
    """A new coordinator that has read everything the old one stored."""
    standby = Bench()
    for record in bench.log:
        standby.shard.replay(record, now_ms)
    return standby


def test_a_static_member_that_came_back_is_known_to_the_next_coordinator(bench: Bench) -> None:
    """Its new id was kept in memory only: after a failover the log still named the old one.

    The new coordinator then took the living member for a fenced one, which a client does not survive.
    """
    bench.join("", new_member_id="a1", group_instance_id="i", protocols=(("range", b"x"),))
    bench.sync("a1", 1, {"a1": b"p0"})
    bench.hold = True
    again = bench.join("", new_member_id="a2", group_instance_id="i", protocols=(("range", b"x"),))
    assert again not in bench.answers, "answered before the log has the new id"
    bench.hold = False
    bench.drain()
    assert bench.answer(again, JoinResponse).member_id == "a2"
    standby = replayed(bench)
    back = MemberIdentity(group_id="g", generation_id=1, member_id="a2", group_instance_id="i")
    assert standby.shard.heartbeat(back, 0) is ErrorCode.NONE
    assert standby.answer(standby.sync("a2", 1), SyncResponse).assignment == b"p0"


def test_a_static_member_whose_new_id_could_not_be_stored_is_told_to_try_again(bench: Bench) -> None:
    bench.join("", new_member_id="a1", group_instance_id="i", protocols=(("range", b"x"),))
    bench.sync("a1", 1, {"a1": b"p0"})
    bench.hold = True
    again = bench.join("", new_member_id="a2", group_instance_id="i", protocols=(("range", b"x"),))
    bench.store(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    bench.hold = False
    bench.drain()
    assert bench.answer(again, JoinResponse).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    third = bench.join("", new_member_id="a3", group_instance_id="i", protocols=(("range", b"x"),))
    assert bench.answer(third, JoinResponse).member_id == "a3"
    assert bench.answer(bench.sync("a3", 1), SyncResponse).assignment == b"p0"


def test_a_rebalance_that_begins_while_a_new_id_is_stored_takes_the_member_along(bench: Bench) -> None:
    bench.join("", new_member_id="a1", group_instance_id="i", protocols=(("range", b"x"),))
    bench.sync("a1", 1, {"a1": b"p0"})
    bench.hold = True
    again = bench.join("", new_member_id="a2", group_instance_id="i", protocols=(("range", b"x"),))
    other = bench.newcomer("b")
    assert other not in bench.answers
    bench.hold = False
    bench.drain()
    assert bench.answer(again, JoinResponse).generation_id == 2
    assert bench.answer(other, JoinResponse).generation_id == 2


def test_sessions_begin_when_the_partition_is_loaded_not_when_a_record_is_read(bench: Bench) -> None:
    """A log that took longer to read than a session lasts made every group of it rebalance at once."""
    generation = bench.stable("a")
    standby = replayed(bench, now_ms=0)
    standby.shard.on_loaded(60_000, 60_000)
    standby.advance(60_000)
    assert standby.heartbeat("a", generation) is ErrorCode.NONE
    standby.advance(61_001)
    assert standby.heartbeat("a", generation) is ErrorCode.UNKNOWN_MEMBER_ID


def test_newcomers_that_never_come_back_leave_no_group(bench: Bench) -> None:
    """Every group id that was ever named in a first join stayed in memory for good."""
    bench.join("", new_member_id="x")
    assert bench.shard.group_ids() == ("g",)
    bench.advance(1001)
    assert bench.shard.group_ids() == ()
    bench.join("", new_member_id="y")
    assert bench.shard.leave("g", (LeavingMember(member_id="y"),), bench.now) == (ErrorCode.NONE,)
    assert bench.shard.group_ids() == ()


def test_of_two_that_claim_one_place_the_earlier_is_fenced_even_before_it_is_stored(bench: Bench) -> None:
    bench.join("", new_member_id="a1", group_instance_id="i", protocols=(("range", b"x"),))
    bench.sync("a1", 1, {"a1": b"p0"})
    bench.hold = True
    second = bench.join("", new_member_id="a2", group_instance_id="i", protocols=(("range", b"x"),))
    third = bench.join("", new_member_id="a3", group_instance_id="i", protocols=(("range", b"x"),))
    bench.hold = False
    bench.drain()
    assert bench.answer(second, JoinResponse).error is ErrorCode.FENCED_INSTANCE_ID
    assert bench.answer(third, JoinResponse).error is ErrorCode.NONE
