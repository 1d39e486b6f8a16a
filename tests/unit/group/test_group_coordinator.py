"""The shell around the group cores: loading, storing, timers, giving up a partition; on virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.types import (
    CommitRequest,
    CommittedOffset,
    GroupDescription,
    GroupLimits,
    JoinRequest,
    MemberIdentity,
    SyncRequest,
)
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.ids import Offset, TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import memory_runtime
from glasslog.log.batch import parse_header, set_base_offset_and_epoch

LIMITS = GroupLimits(
    initial_rebalance_delay_ms=50,
    min_session_timeout_ms=10,
    max_session_timeout_ms=100_000,
    max_group_size=9,
    max_offset_metadata_bytes=8,
    offsets_retention_ms=604_800_000,
    offsets_retention_check_interval_ms=600_000,
)
P0 = TopicPartition("t", 0)


class Storage:
    """One partition of __consumer_offsets in a list; can be told to fail or to wait."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, bytes]] = []
        self.end = 0
        self.failure: ErrorCode | None = None
        self.read_failure: GlasslogError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def partition_count(self) -> int:
        return 1

    async def append(self, partition: int, batch: bytes) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise GlasslogError(self.failure)
        data = bytearray(batch)
        set_base_offset_and_epoch(data, 0, base_offset=self.end, leader_epoch=0)
        self.batches.append((self.end, bytes(data)))
        self.end += parse_header(data).record_count

    def start_offset(self, partition: int) -> Offset:
        return Offset(0)

    def read(self, partition: int, offset: Offset, max_bytes: int) -> bytes:
        if self.read_failure is not None:
            raise self.read_failure
        return next((data for base, data in self.batches if base >= offset), b"")


@asynccontextmanager
async def running(storage: Storage) -> AsyncIterator[GroupCoordinator]:
    coordinator = GroupCoordinator(runtime=memory_runtime(), limits=LIMITS, storage=storage)
    task = asyncio.create_task(coordinator.run())
    coordinator.on_elected(0, 1)
    try:
        await asyncio.sleep(0.01)
        assert coordinator.describe("g") is not ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        yield coordinator
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def join_request(member_id: str, new_member_id: str = "m") -> JoinRequest:
    return JoinRequest(
        group_id="g",
        member_id=member_id,
        new_member_id=new_member_id,
        session_timeout_ms=1000,
        rebalance_timeout_ms=3000,
        protocol_type="consumer",
        protocols=(("range", b"s"),),
    )


async def join_alone(coordinator: GroupCoordinator) -> MemberIdentity:
    assert (await coordinator.join(join_request(""))).error is ErrorCode.MEMBER_ID_REQUIRED
    joined = await coordinator.join(join_request("m"))
    assert joined.error is ErrorCode.NONE
    sync = SyncRequest(
        group_id="g", generation_id=joined.generation_id, member_id="m", assignments=(("m", b"all"),)
    )
    assert (await coordinator.sync(sync)).assignment == b"all"
    return MemberIdentity(group_id="g", generation_id=joined.generation_id, member_id="m")


def commit_request(identity: MemberIdentity, offset: int) -> CommitRequest:
    return CommitRequest(identity=identity, offsets=((P0, CommittedOffset(offset=Offset(offset))),))


def test_a_new_coordinator_goes_on_where_the_old_one_stood() -> None:
    async def main() -> None:
        storage = Storage()
        async with running(storage) as coordinator:
            identity = await join_alone(coordinator)
            assert await coordinator.commit(commit_request(identity, 5)) == ((P0, ErrorCode.NONE),)
        async with running(storage) as coordinator:
            assert coordinator.heartbeat(identity) is ErrorCode.NONE
            committed = coordinator.committed("g", None)
            assert isinstance(committed, tuple)
            assert committed[0][1].offset == 5
            assert [group.group_id for group in coordinator.groups()] == ["g"]

    run_virtual(main())


def test_a_silent_member_expires_without_any_request() -> None:
    async def main() -> None:
        async with running(Storage()) as coordinator:
            identity = await join_alone(coordinator)
            await asyncio.sleep(0.9)
            assert coordinator.heartbeat(identity) is ErrorCode.NONE
            await asyncio.sleep(1.1)
            assert coordinator.heartbeat(identity) is ErrorCode.UNKNOWN_MEMBER_ID

    run_virtual(main())


def test_many_commits_wait_for_one_append() -> None:
    async def main() -> None:
        storage = Storage()
        async with running(storage) as coordinator:
            identity = await join_alone(coordinator)
            storage.gate.clear()
            first = asyncio.create_task(coordinator.commit(commit_request(identity, 1)))
            await asyncio.sleep(0.01)
            rest = [asyncio.create_task(coordinator.commit(commit_request(identity, n))) for n in range(2, 9)]
            await asyncio.sleep(0.01)
            before = len(storage.batches)
            assert not first.done()
            storage.gate.set()
            await asyncio.gather(first, *rest)
            assert len(storage.batches) == before + 2
            committed = coordinator.committed("g", (P0,))
            assert isinstance(committed, tuple)
            assert committed[0][1].offset == 8

    run_virtual(main())


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.COORDINATOR_NOT_AVAILABLE),
    ],
)
def test_what_the_log_refuses_is_told_in_the_groups_words(failure: ErrorCode, told: ErrorCode) -> None:
    async def main() -> None:
        storage = Storage()
        async with running(storage) as coordinator:
            identity = await join_alone(coordinator)
            storage.failure = failure
            assert await coordinator.commit(commit_request(identity, 1)) == ((P0, told),)

    run_virtual(main())


def test_giving_a_partition_up_answers_everybody_who_waits() -> None:
    async def main() -> None:
        storage = Storage()
        async with running(storage) as coordinator:
            identity = await join_alone(coordinator)
            storage.gate.clear()
            commit = asyncio.create_task(coordinator.commit(commit_request(identity, 1)))
            second = await coordinator.join(join_request("", "n"))
            join = asyncio.create_task(coordinator.join(join_request(second.member_id)))
            await asyncio.sleep(0.01)
            coordinator.on_resigned(0)
            assert await commit == ((P0, ErrorCode.NOT_COORDINATOR),)
            assert (await join).error is ErrorCode.NOT_COORDINATOR
            assert coordinator.heartbeat(identity) is ErrorCode.NOT_COORDINATOR
            assert coordinator.committed("g", None) is ErrorCode.NOT_COORDINATOR

    run_virtual(main())


def test_a_member_that_dies_right_after_a_slow_store_expires_in_time() -> None:
    """The timer was armed for the rebalance, minutes away, while the assignment was being replicated.

    Nothing told it that the group had become stable, so a member that died then was kept, with its
    partitions unread, until the rebalance timeout instead of its session timeout.
    """

    async def main() -> None:
        storage = Storage()
        async with running(storage) as coordinator:
            await coordinator.join(join_request(""))
            joined = await coordinator.join(join_request("m"))
            storage.gate.clear()
            sync = SyncRequest(group_id="g", generation_id=joined.generation_id, member_id="m")
            syncing = asyncio.create_task(coordinator.sync(sync))
            await asyncio.sleep(0.1)
            storage.gate.set()
            assert (await syncing).error is ErrorCode.NONE
            await asyncio.sleep(1.1)
            described = coordinator.describe("g")
            assert isinstance(described, GroupDescription)
            assert described.state == "Empty"

    run_virtual(main())


def test_a_log_that_is_being_mended_is_read_when_it_is() -> None:
    async def main() -> None:
        storage = Storage()
        storage.read_failure = GlasslogError(ErrorCode.KAFKA_STORAGE_ERROR, "a batch is damaged")
        coordinator = GroupCoordinator(runtime=memory_runtime(), limits=LIMITS, storage=storage)
        task = asyncio.create_task(coordinator.run())
        coordinator.on_elected(0, 1)
        await asyncio.sleep(1)
        assert coordinator.describe("g") is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        storage.read_failure = None
        await asyncio.sleep(1)
        assert isinstance(coordinator.describe("g"), GroupDescription)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run_virtual(main())


@pytest.mark.parametrize(
    "failure", [StorageError("the disk"), GlasslogError(ErrorCode.CORRUPT_MESSAGE, "damaged")]
)
def test_a_partition_that_can_not_be_read_takes_only_its_own_groups_away(failure: GlasslogError) -> None:
    """A failed disk under one partition of __consumer_offsets ended the whole broker's coordinator."""

    async def main() -> None:
        storage = Storage()
        storage.read_failure = failure
        coordinator = GroupCoordinator(runtime=memory_runtime(), limits=LIMITS, storage=storage)
        task = asyncio.create_task(coordinator.run())
        coordinator.on_elected(0, 1)
        await asyncio.sleep(0.01)
        assert not task.done()
        assert coordinator.describe("g") is ErrorCode.NOT_COORDINATOR
        storage.read_failure = None
        coordinator.on_elected(0, 1)
        await asyncio.sleep(0.01)
        assert isinstance(coordinator.describe("g"), GroupDescription)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run_virtual(main())


def test_a_name_too_long_for_the_log_fails_its_own_commit_only() -> None:
    """A topic name of 40,000 bytes does not fit Kafka's 16-bit lengths: encoding it ended the broker."""

    async def main() -> None:
        async with running(Storage()) as coordinator:
            identity = await join_alone(coordinator)
            monster = TopicPartition("t" * 40_000, 0)
            offsets = ((monster, CommittedOffset(offset=Offset(1))),)
            bad = coordinator.commit(CommitRequest(identity=identity, offsets=offsets))
            refused, stored = await asyncio.gather(bad, coordinator.commit(commit_request(identity, 5)))
            assert refused == ((monster, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),)
            assert stored == ((P0, ErrorCode.NONE),)

    run_virtual(main())


def test_commits_that_wait_together_make_batches_of_bounded_size() -> None:
    """Five hundred commits of many partitions were joined into one batch of any size."""

    async def main() -> None:
        storage = Storage()
        async with running(storage) as coordinator:
            identity = await join_alone(coordinator)
            before = len(storage.batches)
            many = tuple(
                (TopicPartition("t" * 200, number), CommittedOffset(offset=Offset(1)))
                for number in range(1_000)
            )
            request = CommitRequest(identity=identity, offsets=many)
            outcomes = await asyncio.gather(*(coordinator.commit(request) for _ in range(20)))
            assert all(error is ErrorCode.NONE for outcome in outcomes for _, error in outcome)
            sizes = [len(data) for _, data in storage.batches[before:]]
            assert max(sizes) < 2 << 20
            assert len(sizes) < 20

    run_virtual(main())


def test_a_commit_larger_than_any_batch_may_be_is_refused() -> None:
    async def main() -> None:
        storage = Storage()
        async with running(storage) as coordinator:
            identity = await join_alone(coordinator)
            huge = tuple(
                (TopicPartition("t" * 30_000, number), CommittedOffset(offset=Offset(1)))
                for number in range(400)
            )
            outcome = await coordinator.commit(CommitRequest(identity=identity, offsets=huge))
            assert {error for _, error in outcome} == {ErrorCode.INVALID_COMMIT_OFFSET_SIZE}
            assert coordinator.heartbeat(identity) is ErrorCode.NONE

    run_virtual(main())
