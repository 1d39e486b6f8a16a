"""``__consumer_offsets`` is compacted: a coordinator that reads what is left knows what it knew before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from glasslog.broker.group.coordinator import GroupCoordinator
from glasslog.broker.group.records import OffsetRecord, encode
from glasslog.broker.group.types import CommitRequest, CommittedOffset, GroupLimits, MemberIdentity
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import Offset, TopicPartition
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import memory_runtime
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.records import encode_batch

from tests.unit.log.compacting import compact, read_records

RETENTION_MS = 1_000
CONFIG = LogConfig(segment_bytes=2_000, is_compacted=True, delete_retention_ms=RETENTION_MS)
LIMITS = GroupLimits(
    initial_rebalance_delay_ms=50,
    min_session_timeout_ms=10,
    max_session_timeout_ms=100_000,
    max_group_size=9,
    max_offset_metadata_bytes=8,
    offsets_retention_ms=604_800_000,
    offsets_retention_check_interval_ms=600_000,
)
GROUPS, PARTITIONS = 3, 4


class LogStorage:
    """One partition of __consumer_offsets in a real log."""

    def __init__(self) -> None:
        self.files = MemoryFileSystem()
        self.log = Log.open(
            files=self.files, directory="/data/__consumer_offsets-0", config=CONFIG, clean_shutdown=False
        )

    def partition_count(self) -> int:
        return 1

    async def append(self, partition: int, batch: bytes) -> None:
        self.log.append_as_leader(batch, leader_epoch=0, now_ms=0)

    def start_offset(self, partition: int) -> Offset:
        return Offset(self.log.log_start_offset)

    def read(self, partition: int, offset: Offset, max_bytes: int) -> bytes:
        return bytes(self.log.read(offset, max_bytes=max_bytes))

    def compact(self, *, now_ms: int = 0) -> None:
        self.log.roll()
        compact(self.files, self.log, now_ms=now_ms)


@asynccontextmanager
async def coordinating(storage: LogStorage) -> AsyncIterator[GroupCoordinator]:
    coordinator = GroupCoordinator(runtime=memory_runtime(), limits=LIMITS, storage=storage)
    task = asyncio.create_task(coordinator.run())
    coordinator.on_elected(0, 1)
    await asyncio.sleep(0.01)
    try:
        yield coordinator
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def partition(number: int) -> TopicPartition:
    return TopicPartition("orders", number)


async def commit(coordinator: GroupCoordinator, group: int, number: int, offset: int) -> None:
    request = CommitRequest(
        identity=MemberIdentity(group_id=f"g{group}", generation_id=-1, member_id=""),
        offsets=((partition(number), CommittedOffset(offset=Offset(offset))),),
    )
    assert await coordinator.commit(request) == ((partition(number), ErrorCode.NONE),)


def committed(coordinator: GroupCoordinator) -> dict[tuple[str, TopicPartition], int]:
    found: dict[tuple[str, TopicPartition], int] = {}
    for group in range(GROUPS):
        offsets = coordinator.committed(f"g{group}", None)
        assert isinstance(offsets, tuple)
        found.update({(f"g{group}", name): int(each.offset) for name, each in offsets})
    return found


def test_a_coordinator_reads_the_same_offsets_after_a_compaction() -> None:
    async def main() -> None:
        storage = LogStorage()
        async with coordinating(storage) as coordinator:
            for offset in range(20):
                for group in range(GROUPS):
                    await commit(coordinator, group, offset % PARTITIONS, offset)
            before = committed(coordinator)
        assert len(before) == GROUPS * PARTITIONS
        storage.compact()
        assert len(read_records(storage.log)) == GROUPS * PARTITIONS
        async with coordinating(storage) as coordinator:
            assert committed(coordinator) == before
            await commit(coordinator, 0, 0, 99)
            before = committed(coordinator)
        storage.compact()
        async with coordinating(storage) as coordinator:
            assert committed(coordinator) == before

    run_virtual(main())


def test_a_forgotten_offset_leaves_nothing_behind_in_the_end() -> None:
    async def main() -> None:
        storage = LogStorage()
        async with coordinating(storage) as coordinator:
            for offset in range(10):
                await commit(coordinator, 0, offset % 2, offset)
        key, value = encode(OffsetRecord(group_id="g0", partition=partition(0), committed=None))
        await storage.append(0, bytes(encode_batch([(0, key, value, ())])))
        for now_ms, records in ((0, 2), (RETENTION_MS - 1, 2), (RETENTION_MS, 1)):
            storage.compact(now_ms=now_ms)
            assert len([each for each in read_records(storage.log) if each[2] != b"dirt"]) == records
            async with coordinating(storage) as coordinator:
                assert committed(coordinator) == {("g0", partition(1)): 9}
            await storage.append(0, bytes(encode_batch([(0, b"dirt", b"", ())])))

    run_virtual(main())
