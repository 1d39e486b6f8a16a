"""A broker's data directories against what may be believed of them, with the disk gone after any operation.

From some operation on nothing reaches the disk any more, then power is lost.  What is found afterwards must
be sound: no log offline, nothing flushed lost, no checkpoint that says more than was true, nothing inherited
from a deleted namesake, and a clean stop claimed only where there was one.
``CHECKPOINT_HISTORIES=17`` replays one.
"""

import errno
import os
import random
from dataclasses import dataclass

import pytest
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.stored_logs import StoredLog
from glasslog.common.config import parse
from glasslog.common.errors import StorageError
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.files import Operation
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.topic_config import topic_config
from glasslog.log.directories import OpenedDirectories, open_directories
from glasslog.log.records import encode_batch

CONFIG = parse(
    NodeConfig,
    {"node.id": "1", "process.roles": "broker", "log.dirs": "/d1,/d2", "log.segment.bytes": "1024"},
    where="test",
)
TOPIC = topic_config(CONFIG, {})
NAMES = tuple(TopicPartition("t", number) for number in range(3))
STEPS = 14


@dataclass(slots=True, kw_only=True)
class Known:
    """One partition's life: what it has, and what can not be taken from it."""

    topic_id: TopicId
    end: int = 0
    durable_end: int = 0
    high_watermark: int = 0
    start: int = 0
    durable_start: int = 0


class History:
    """One random history; see the module."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = MemoryWorld(seed=seed)
        self.disk = self.world.disk("b1")
        self.disk.on_operation = self.on_operation
        self.operations_left = -1
        self.is_gone = False
        self.known: dict[TopicPartition, Known] = {}
        self.ids = 0
        self.told: list[str] = []

    def on_operation(self, operation: Operation, path: str) -> None:
        if self.operations_left == 0:
            if not self.is_gone:
                self.told.append(f"gone at {operation} {path}")
            self.is_gone = True
            raise OSError(errno.EIO, "gone", path)
        self.operations_left -= self.operations_left > 0

    async def run(self) -> None:
        await self.open(clean=False)
        for _ in range(STEPS):
            if self.random.random() < 0.3:
                self.operations_left = int(self.random.expovariate(0.08))
            action = self.random.choice(
                [
                    *(self.append, self.append, self.append, self.flush, self.checkpoint),
                    *(self.delete_records, self.retire, self.close),
                ]
            )
            self.told.append(action.__name__)
            is_closed = await action()
            if self.is_gone:
                await self.lose_power()
                continue
            self.operations_left = -1
            if is_closed:
                await self.open(clean=True)
            self.check()

    # --- steps ------------------------------------------------------------------------------------------

    async def append(self) -> bool:
        name = self.random.choice(NAMES)
        known = self.known.get(name)
        if known is None:
            self.ids += 1
            known = self.known[name] = Known(topic_id=TopicId(self.ids.to_bytes(16)))
        stored = self.logs.adopt(name, known.topic_id, TOPIC)
        if isinstance(stored, StoredLog):
            for _ in range(self.random.randrange(5)):
                known.end += 1
                try:
                    data = bytearray(encode_batch([(0, None, bytes(300), ())]))
                    stored.log.append_as_leader(data, leader_epoch=0, now_ms=0)
                except Exception:
                    if not self.is_gone:
                        raise
                    break
        return False

    async def flush(self) -> bool:
        await self.logs.flush_closed_segments()
        for name, stored in self.stored().items():
            known = self.known[name]
            known.durable_end = max(known.durable_end, stored.log.recovery_point)
        return False

    async def checkpoint(self) -> bool:
        for known in self.known.values():
            known.high_watermark = max(known.high_watermark, self.random.randrange(known.end + 1))
        await self.logs.checkpoint_high_watermarks(
            {name: known.high_watermark for name, known in self.known.items()}
        )
        return False

    async def delete_records(self) -> bool:
        for name, stored in self.stored().items():
            known = self.known[name]
            known.start = self.random.randrange(known.start, stored.log.recovery_point + 1)
            try:
                stored.log.advance_start(known.start)
            except Exception:
                if not self.is_gone:
                    raise
        if await self.logs.checkpoint_log_starts() and not self.is_gone:
            for known in self.known.values():
                known.durable_start = known.start
        return False

    async def retire(self) -> bool:
        name = self.random.choice(NAMES)
        if name in self.known:
            self.logs.retire(name)
            del self.known[name]
        return False

    async def close(self) -> bool:
        for known in self.known.values():
            known.high_watermark = max(known.high_watermark, self.random.randrange(known.end + 1))
        await self.logs.close(
            high_watermarks={name: known.high_watermark for name, known in self.known.items()}
        )
        return True

    # --- coming up --------------------------------------------------------------------------------------

    def stored(self) -> dict[TopicPartition, StoredLog]:
        found = {
            name: self.logs.adopt(name, known.topic_id, TOPIC)
            for name, known in self.known.items()
            if not self.is_gone
        }
        return {name: each for name, each in found.items() if isinstance(each, StoredLog)}

    def directories(self) -> OpenedDirectories:
        runtime = self.world.runtime("b1")
        return open_directories(
            files=runtime.files,
            paths=CONFIG.log_dirs,
            cluster_id="c",
            node_id=1,
            new_directory_id=runtime.random.uuid,
        )

    async def open(self, *, clean: bool) -> None:
        directories = self.directories()
        assert self.is_gone or not directories.missing
        claimed = {each.clean_shutdown for each in directories.usable}
        assert not clean or claimed == {True}
        # A directory may have been closed before the disk was gone; then all in it is as it was.
        self.claimed = {each.path for each in directories.usable if each.clean_shutdown}
        self.logs = PartitionLogs(
            runtime=self.world.runtime("b1"), config=CONFIG, directories=directories.usable
        )
        await self.logs.recover()

    async def lose_power(self) -> None:
        while self.is_gone:
            self.logs.abandon()
            keep: Keep = self.random.choice(["none", "all", "torn", "torn"])
            self.told.append(f"keep {keep}")
            self.operations_left, self.is_gone = -1, False
            self.disk.crash(keep=keep)
            if self.random.random() < 0.3:
                self.operations_left = int(self.random.expovariate(0.05))
            try:
                await self.open(clean=False)
            except StorageError:
                if not self.is_gone:
                    raise
        self.operations_left = -1
        for name, known in list(self.known.items()):
            stored = self.logs.adopt(name, known.topic_id, TOPIC)
            assert isinstance(stored, StoredLog), f"{name} is offline: {stored}"
            log = stored.log
            assert known.durable_end <= log.log_end_offset <= known.end, (
                f"{name}: {log.log_end_offset} {known}"
            )
            assert known.durable_start <= log.log_start_offset <= known.start, f"{name}: {known}"
            assert stored.high_watermark <= known.high_watermark, f"{name}: {stored.high_watermark} {known}"
            assert log.recovery_point <= known.end
            if stored.directory.path in self.claimed:
                assert log.log_end_offset == known.end, f"{name} was said to be closed in order"
            known.end, known.start = log.log_end_offset, log.log_start_offset
            known.durable_start = min(known.durable_start, known.start)

    def check(self) -> None:
        for name, stored in self.stored().items():
            known = self.known[name]
            assert (stored.log.log_start_offset, stored.log.log_end_offset) == (known.start, known.end)


def numbers() -> range:
    first, _, end = os.environ.get("CHECKPOINT_HISTORIES", "0-400").partition("-")
    return range(int(first), int(end) if end else int(first) + 1)


@pytest.mark.parametrize("chunk", [numbers()[at : at + 50] for at in range(0, len(numbers()), 50)])
def test_what_is_found_after_a_crash_may_be_believed(chunk: range) -> None:
    for number in chunk:
        history = History(number)
        try:
            run_virtual(history.run)
        except BaseException as error:
            error.add_note(f"history {number}: {'; '.join(history.told)}")
            raise
