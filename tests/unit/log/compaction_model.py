"""A compacted log against a model of it, on a disk that fails or loses power at any file operation.

One number makes one history: ``run_history(17)`` replays the one that failed as 17.  The model knows every
record that was ever appended; whatever happens, a record that is in the log is one of them, at its offset,
and the newest of each key is there, or is a tombstone that was due.
"""

import errno
import random
from dataclasses import dataclass
from itertools import pairwise

from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.files import MemoryFileSystem, Operation
from glasslog.log.batch import Compression, parse_header
from glasslog.log.cleaner import Rewritten
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.markers import EndTransactionMarker, encode_marker
from glasslog.log.offset_map import ENTRY_BYTES
from glasslog.log.records import encode_batch

from tests.unit.log.compacting import cleaning_of, plan, put_in_place, read_batches, read_records

PATH = "/data/t-0"
_KEYS = 12
_PRODUCERS = (1, 2, 3)
_STEPS = 40
_DELETE_RETENTION_MS = 100


class Death(BaseException):
    """Raised out of a file operation: nothing of the process goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record that was handed to the log; ``is_aborted`` once its transaction was."""

    offset: int
    key: bytes
    value: bytes | None
    appended_ms: int
    producer: int
    is_transactional: bool


class History:
    """See the module: ``step`` does something at random, ``check`` compares."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.files = MemoryFileSystem(random=SeededRandom(seed))
        self.files.on_operation = self.on_operation
        self.config = LogConfig(
            segment_bytes=self.random.choice([300, 500, 2_000]),
            index_interval_bytes=self.random.choice([0, 100]),
            is_compacted=True,
            delete_retention_ms=_DELETE_RETENTION_MS,
        )
        self.operations_left = -1
        self.is_refused = False
        self.now_ms = 1_000
        self.rows: list[Row] = []
        self.ends: list[int] = [0]
        """Where batches end, so that a log may end there after a crash."""
        self.decided: list[tuple[int, int, bool]] = []
        """Transactions as producer, marker's offset, and whether it was aborted."""
        self.durable_end = 0
        self.cleaner_offset = 0
        """As it was checkpointed."""
        self.cleaned_to = 0
        self.recovery_point = 0
        self.sequences = dict.fromkeys(_PRODUCERS, 0)
        self.told: list[str] = []
        self.log = self.open(clean=False)

    def on_operation(self, operation: Operation, path: str) -> None:
        if self.operations_left == 0:
            self.operations_left = -1
            if self.is_refused:
                raise OSError(errno.EIO, "bad disk", path)
            raise Death
        self.operations_left -= 1

    def open(self, *, clean: bool) -> Log:
        log = Log.open(
            files=self.files,
            directory=PATH,
            config=self.config,
            clean_shutdown=clean,
            recovery_point=self.recovery_point,
            now_ms=self.now_ms,
        )
        log.cleaner_offset = self.cleaner_offset if self.cleaner_offset <= log.log_end_offset else 0
        log.lower_cleaner_offset = self.lower_cleaner_offset
        return log

    def lower_cleaner_offset(self, offset: int) -> None:
        self.cleaner_offset = offset

    def is_usable(self) -> bool:
        """A flush that failed stops the log."""
        try:
            self.log.begin_flush()
        except StorageError:
            return False
        return True

    @property
    def end(self) -> int:
        return self.ends[-1]

    # --- steps ------------------------------------------------------------------------------------------

    def step(self) -> None:
        action = self.random.choice(
            (
                *(self.append, self.append, self.append, self.transact, self.compact, self.compact),
                *(self.roll, self.flush, self.truncate, self.reopen, self.kill, self.crash),
            )
        )
        self.told.append(action.__name__)
        self.now_ms += self.random.choice([0, 1, 60])
        if self.random.random() < 0.3:
            self.operations_left = self.random.randrange(25)
            self.is_refused = action == self.compact and self.random.random() < 0.3
        try:
            action()
        except Death:
            self.crash()
        except StorageError:
            if not self.is_refused:
                raise
            self.operations_left = -1
            if self.random.random() < 0.5 or not self.is_usable():
                self.kill()
        self.operations_left = -1
        self.is_refused = False

    def append(self) -> None:
        for _ in range(self.random.randrange(1, 6)):
            self.append_batch(self.random.choice([-1, *_PRODUCERS]), is_transactional=False)

    def append_batch(self, producer: int, *, is_transactional: bool) -> None:
        base, rows = self.log.log_end_offset, []
        for number in range(self.random.randrange(1, 4)):
            is_tombstone = self.random.random() < 0.25
            rows.append(
                Row(
                    offset=base + number,
                    key=b"k" * self.random.choice([1, 30]) + b"%d" % self.random.randrange(_KEYS // 2),
                    value=None if is_tombstone else b"%d" % (base + number) * self.random.randrange(1, 8),
                    appended_ms=self.now_ms,
                    producer=producer,
                    is_transactional=is_transactional,
                )
            )
        data = encode_batch(
            [(self.now_ms - self.random.randrange(50), row.key, row.value, ()) for row in rows],
            producer_id=producer,
            producer_epoch=0 if producer > 0 else -1,
            base_sequence=self.sequences[producer] if producer > 0 else -1,
            compression=self.random.choice([Compression.NONE, Compression.NONE, Compression.GZIP]),
            transactional=is_transactional,
        )
        # What a crash within the append leaves may be there or not.
        self.rows += rows
        self.ends.append(base + len(rows))
        if producer > 0:
            self.sequences[producer] += len(rows)
        self.log.append_as_leader(data, leader_epoch=0, now_ms=self.now_ms)

    def transact(self) -> None:
        """One transaction; another producer may write in between."""
        producer = self.random.choice(_PRODUCERS)
        for _ in range(self.random.randrange(1, 3)):
            self.append_batch(producer, is_transactional=True)
            if self.random.random() < 0.3:
                self.append_batch(-1, is_transactional=False)
        is_commit = self.random.random() < 0.6
        data = encode_marker(
            EndTransactionMarker(is_commit, 0),
            producer_id=producer,
            producer_epoch=0,
            timestamp_ms=self.now_ms,
        )
        self.decided.append((producer, self.log.log_end_offset, not is_commit))
        self.ends.append(self.log.log_end_offset + 1)
        self.log.append_as_leader(data, leader_epoch=0, now_ms=self.now_ms, origin_is_client=False)

    def compact(self) -> None:
        if self.random.random() < 0.5:
            self.log.roll()
        cleanable = plan(self.log, now_ms=self.now_ms)
        if not cleanable.dirty_bytes:
            return
        self.flush()
        self.cleaned_to = max(self.cleaned_to, cleanable.end_offset)
        map_bytes = ENTRY_BYTES * self.random.choice([4, 8, 100])
        cleaning = cleaning_of(self.files, self.log, cleanable, now_ms=self.now_ms, map_bytes=map_bytes)
        steps = cleaning.run()
        try:
            for step in steps:
                if isinstance(step, Rewritten):
                    put_in_place(self.log, step)
                elif self.random.random() < 0.02:
                    return
        finally:
            steps.close()
        self.log.cleaner_offset = self.cleaner_offset = cleaning.cleaned_to
        self.check_no_key_twice()

    def roll(self) -> None:
        self.log.roll()

    def flush(self) -> None:
        self.log.flush()
        self.durable_end = self.end
        self.recovery_point = self.log.recovery_point

    def truncate(self) -> None:
        """Above what may be compacted, as the high watermark has it."""
        lowest = max(self.cleaned_to, *(marker + 1 for _, marker, _ in self.decided), 0)
        if self.random.random() < 0.7 or lowest >= self.end:
            return
        offset = max(end for end in self.ends if end <= self.random.randrange(lowest, self.end + 1))
        self.durable_end = min(self.durable_end, offset)
        self.recovery_point = min(self.recovery_point, offset)
        self.log.truncate_to(offset)
        self.cut(self.log.log_end_offset)

    def reopen(self) -> None:
        self.log.close()
        self.recovery_point = self.log.recovery_point
        self.durable_end = self.end
        self.log = self.open(clean=True)

    def kill(self) -> None:
        self.log.abandon()
        self.files.process_kill()
        self.log = self.open(clean=False)

    def crash(self) -> None:
        self.operations_left = -1
        for _ in range(self.random.randrange(1, 4)):
            keep: Keep = self.random.choice(["none", "all", "torn"])
            self.files.crash(keep=keep)
            self.operations_left = self.random.choice([-1, -1, 0, 1, 2, 5, 9])
            self.is_refused = False
            try:
                self.log = self.open(clean=False)
                break
            except Death:
                self.operations_left = -1
        else:
            self.files.crash(keep="none")
            self.log = self.open(clean=False)
        self.operations_left = -1
        end = self.log.log_end_offset
        assert end >= self.durable_end
        self.cut(end)

    def cut(self, end: int) -> None:
        assert end in self.ends
        self.rows = [row for row in self.rows if row.offset < end]
        self.ends = [each for each in self.ends if each <= end]
        self.decided = [each for each in self.decided if each[1] < end]
        for producer in _PRODUCERS:
            known = self.log.producers.get(producer)
            has_batch = known is not None and known.batches
            self.sequences[producer] = known.batches[-1].last_sequence + 1 if known and has_batch else 0
        self.abort_what_hangs()

    def abort_what_hangs(self) -> None:
        """A transaction without its marker keeps everything after it from being compacted."""
        for producer in list(self.log.producers.ongoing.values()):
            data = encode_marker(
                EndTransactionMarker(False, 0),
                producer_id=producer,
                producer_epoch=0,
                timestamp_ms=self.now_ms,
            )
            self.decided.append((producer, self.log.log_end_offset, True))
            self.ends.append(self.log.log_end_offset + 1)
            self.log.append_as_leader(data, leader_epoch=0, now_ms=self.now_ms, origin_is_client=False)

    # --- what must hold ---------------------------------------------------------------------------------

    def check(self) -> None:
        log = self.log
        assert log.log_end_offset == self.end
        assert all(a.next_offset == b.base_offset for a, b in pairwise(log.segments))
        appended = {row.offset: row for row in self.rows}
        found: dict[bytes, Row] = {}
        aborted = self.aborted_offsets()
        for offset, _, key, value, _ in read_records(log):
            row = appended[offset]
            assert (row.key, row.value) == (key, value)
            if offset not in aborted:
                found[row.key] = row
        self.check_newest(found, aborted)
        self.check_aborted(aborted)
        self.check_producers()

    def check_newest(self, found: dict[bytes, Row], aborted: set[int]) -> None:
        newest = {row.key: row for row in self.rows if row.offset not in aborted}
        for key, row in newest.items():
            if row.value is None and self.now_ms - row.appended_ms >= _DELETE_RETENTION_MS:
                assert found.get(key, row) == row
            else:
                assert found[key] == row

    def aborted_offsets(self) -> set[int]:
        """Of every aborted transaction's records, by its marker."""
        found: set[int] = set()
        begins = dict.fromkeys(_PRODUCERS, 0)
        for producer, marker, is_aborted in self.decided:
            if is_aborted:
                found.update(
                    row.offset
                    for row in self.rows
                    if row.producer == producer and row.is_transactional
                    if begins[producer] <= row.offset < marker
                )
            begins[producer] = marker
        return found

    def check_aborted(self, aborted: set[int]) -> None:
        """A read-committed consumer is told of every aborted record that is still there."""
        index = self.log.aborted_transactions(0, upper_offset=self.end)
        for batch in read_batches(self.log):
            header = parse_header(batch)
            if header.is_transactional and not header.is_control and header.record_count:
                told = any(
                    each.producer_id == header.producer_id
                    and each.first_offset <= header.base_offset <= each.last_offset
                    for each in index
                )
                is_aborted = any(
                    offset in aborted for offset in range(header.base_offset, header.next_offset)
                )
                assert told == is_aborted

    def check_producers(self) -> None:
        for producer in _PRODUCERS:
            known = self.log.producers.get(producer)
            last = known.batches[-1].last_sequence if known and known.batches else -1
            assert last == self.sequences[producer] - 1

    def check_no_key_twice(self) -> None:
        seen: set[bytes] = set()
        for offset, _, key, _, _ in read_records(self.log):
            if offset < self.log.cleaner_offset:
                assert key is not None
                assert key not in seen
                seen.add(key)


def run_history(number: int) -> None:
    """Raises ``AssertionError`` with the number and what was done."""
    history = History(number)
    try:
        for _ in range(_STEPS):
            history.step()
            history.check()
    except Exception as error:
        error.add_note(f"history {number}: {', '.join(history.told)}")
        raise
