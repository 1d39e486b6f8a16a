"""A log against a model of it, on a disk that fails, lies and loses power at any file operation.

One number makes one history: ``run_history(17)`` replays the one that failed as 17.  The model is a list of
batches and how far they are durable; a crash may take what was not, from the end, and no more.  What
compaction leaves of them is taken over when it was allowed (``compaction_rules``); a crash meanwhile leaves
some of the old and some of the new.  Which faults and steps a history has, and how large its segments are, is
drawn first (swarm testing), so that rare combinations come up.
"""

import errno
import random
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal

from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.files import MemoryFileSystem, Operation
from glasslog.log.batch import BatchHeader, iterate_batches, parse_header
from glasslog.log.cleaner import Rewritten
from glasslog.log.config import LogConfig
from glasslog.log.log import Log, OffsetOutOfRange
from glasslog.log.offset_map import ENTRY_BYTES
from glasslog.log.producer_state import ProducerEntry, ProducerStates
from glasslog.log.record_types import NewRecord
from glasslog.log.records import encode_batch

from tests.unit.log.compacting import cleaning_of, plan, put_in_place
from tests.unit.log.compaction_rules import batches_on_disk, check_compacted

PATH = "/data/t-0"
_DELETE_RETENTION_MS = 100
Fault = Literal["power", "kill", "error"]
_UNCHECKED_BYTES = (*range(8), *range(12, 16))
"""Of a batch: its base offset and leader epoch lie outside of the checksum."""


class Death(BaseException):
    """Raised out of a file operation: nothing of the process goes on."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One batch that was handed to the log."""

    data: bytes
    header: BatchHeader


@dataclass(slots=True)
class Model:
    """What must be in the log: whole batches, and below which offset a crash may not take them."""

    batches: list[Stored] = field(default_factory=list)
    """Those below the start, too: a crash may bring their segments back."""
    appended: list[BatchHeader] = field(default_factory=list)
    """Of all batches, those too that compaction took."""
    start: int = 0
    durable_end: int = 0
    base: int = 0
    """Where the log began when it was empty: no crash takes its start below."""

    @property
    def end(self) -> int:
        return max(self.start, self.batches[-1].header.next_offset if self.batches else 0)

    @property
    def readable(self) -> list[Stored]:
        return [each for each in self.batches if each.header.next_offset > self.start]

    def add(self, batch: Stored) -> None:
        self.batches.append(batch)
        self.appended.append(batch.header)

    def copy(self) -> "Model":
        return replace(self, batches=[*self.batches], appended=[*self.appended])

    def truncate(self, offset: int) -> None:
        while self.batches and self.batches[-1].header.next_offset > offset:
            self.batches.pop()
        while self.appended and self.appended[-1].next_offset > offset:
            self.appended.pop()
        self.durable_end = min(self.durable_end, self.end)

    def boundary_at(self, offset: int) -> int:
        """The last end of a batch that is not above ``offset``."""
        ends = (each.header.next_offset for each in reversed(self.batches))
        return next((end for end in ends if end <= offset), self.start)


class History:
    """See the module: ``step`` does something at random, ``check`` compares."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.files = MemoryFileSystem(random=SeededRandom(seed))
        self.files.on_operation = self.on_operation
        self.fault: Fault = "power"
        self.operations_left = -1
        self.told: list[str] = []
        self.model = Model()
        self.before_cuts: list[Model] = []
        """The log as it was before truncations that nobody has synced: power loss may bring it back."""
        self.checkpoint = 0
        self.start_checkpoint = 0
        self.taken_back_from = 0
        """Where the log began before a reset below that, which was not done to its end."""
        self.starts = {0}
        """Where the log was told to begin, ever."""
        self.epoch = 0
        self.assigned: list[tuple[int, int]] = []
        self.sequences: dict[int, tuple[int, int]] = {}
        self.config = LogConfig(
            segment_bytes=self.random.choice([400, 700, 700, 2000, 1 << 20]),
            index_interval_bytes=self.random.choice([0, 100, 100, 1000]),
            delete_retention_ms=_DELETE_RETENTION_MS,
        )
        self.cleaned_to = 0
        """No truncation goes below: it is committed."""
        self.is_compacting = False
        self.was_reset = False
        """A reset drops what the log knew of epochs first: after one that died the batches have to tell."""
        self.cleaner_offset = 0
        self.now_ms = 2000
        self.fault_rate = self.random.choice([0, 0.1, 0.3, 0.5])
        self.flip_rate = self.random.choice([0, 0, 0.3])
        self.actions = self.draw_actions()
        self.config = replace(self.config, is_compacted=self.compact in self.actions)
        self.log = self.open(clean=False)

    def draw_actions(self) -> list[Callable[[], None]]:
        others = [self.truncate, self.reset, self.reopen, self.kill, self.crash, self.write_checkpoint]
        others += [self.flush, self.flush_meanwhile, self.lead, self.fork, self.delete_records, self.retain]
        others += [self.compact]
        chosen = self.random.sample(others, self.random.randrange(2, len(others) + 1))
        chosen += [self.compact] * (2 * (self.compact in chosen))
        return [*chosen, *[self.append] * self.random.randrange(1, 7)]

    # --- faults -----------------------------------------------------------------------------------------

    def on_operation(self, operation: Operation, path: str) -> None:
        if self.operations_left == 0:
            self.operations_left = -1
            self.told.append(f"{self.fault} at {operation} {path}")
            if self.fault == "error":
                raise OSError(errno.EIO, "drawn", path)
            raise Death
        self.operations_left -= self.operations_left > 0

    def arm(self, *faults: Fault, operations: float = 7) -> None:
        """A fault after so many operations, more or less."""
        if self.random.random() < self.fault_rate:
            self.fault = self.random.choice(faults)
            self.operations_left = int(self.random.expovariate(1 / operations))

    def step(self) -> None:
        action = self.random.choice(self.actions)
        self.told.append(action.__name__)
        self.arm("power", "kill", "error", operations=20 if action == self.compact else 7)
        try:
            action()
        except (Death, StorageError):
            self.die(power=self.fault == "power")
        self.operations_left = -1

    def die(self, *, power: bool) -> None:
        """The process ends, with the machine or without, until it comes up again; it may die of that."""
        while True:
            self.operations_left = -1
            if power:
                keep: Keep = self.random.choice(["none", "all", "torn", "torn"])
                self.told.append(f"keep {keep}")
                self.files.crash(keep=keep)
            else:
                self.files.process_kill()
            if self.random.random() < self.flip_rate:
                self.flip_a_bit()
            self.arm("power", "kill", "error")
            try:
                self.log = self.open(clean=False)
            except (Death, StorageError):
                if self.operations_left != -1 or self.told[-1] == "open":
                    raise
                power = self.fault == "power"
            else:
                break
        self.operations_left = -1
        self.adopt()

    def flip_a_bit(self) -> None:
        """In what recovery reads again: the log's tail, its newest index, snapshots."""
        names = self.files.list(PATH) if self.files.is_dir(PATH) else ()
        names = [name for name in names if name.endswith((".log", ".snapshot"))]
        if not names:
            return
        name = self.random.choice([*names, *self.files_of_last_segment()])
        data = self.files.read(f"{PATH}/{name}")
        positions = self.doubtful_positions(data) if name.endswith(".log") else range(len(data))
        if positions:
            position = self.random.choice(positions)
            self.told.append(f"flip {name} at {position}")
            self.files.flip_bit(f"{PATH}/{name}", position, bit=self.random.randrange(8))

    def files_of_last_segment(self) -> list[str]:
        names = [name for name in self.files.list(PATH) if not name.endswith(".snapshot")]
        last = max((name[:20] for name in names if name.endswith(".log")), default="none")
        return [name for name in names if name.startswith(last)]

    def doubtful_positions(self, data: bytes) -> list[int]:
        """Checked bytes of a segment's batches that a crash may take."""
        positions: list[int] = []
        at = 0
        while at + 61 <= len(data):
            header = parse_header(data, at)
            if header.magic != 2 or header.size_bytes < 61:
                break
            if header.base_offset >= max(self.model.durable_end, self.checkpoint):
                end = min(at + header.size_bytes, len(data))
                positions += [n for n in range(at, end) if n - at not in _UNCHECKED_BYTES]
            at += header.size_bytes
        return positions

    def open(self, *, clean: bool) -> Log:
        self.told.append("open")
        log = Log.open(
            files=self.files,
            directory=PATH,
            config=self.config,
            clean_shutdown=clean,
            recovery_point=self.checkpoint,
            log_start_offset=self.start_checkpoint,
            cleaner_offset=self.cleaner_offset,
        )
        if self.cleaner_offset > log.log_end_offset:
            self.cleaner_offset = 0
        log.cleaner_offset = self.cleaner_offset
        log.lower_cleaner_offset = self.lower_cleaner_offset
        log.lower_log_start = self.lower_log_start
        return log

    # --- steps ------------------------------------------------------------------------------------------

    def append(self) -> None:
        for _ in range(self.random.randrange(1, 4)):
            self.epoch += self.random.random() < 0.15
            data, header = self.new_batch()
            as_leader = self.random.random() < 0.5
            if not as_leader and self.random.random() < 0.05:
                data, header = self.with_gap(data)
            # What a crash within the append leaves may be there or not.
            self.model.add(Stored(data, header))
            if as_leader:
                self.log.append_as_leader(bytearray(data), leader_epoch=self.epoch, now_ms=0)
            else:
                self.log.append_as_follower(data)
            if header.producer_id > 0:
                following = header.last_sequence + 1
                self.sequences[header.producer_id] = (header.producer_epoch, following)

    def new_batch(self) -> tuple[bytes, BatchHeader]:
        producer = self.random.choice([-1, 1, 2])
        producer_epoch, sequence = self.sequences.get(producer, (0, 0)) if producer > 0 else (-1, -1)
        if producer > 0 and self.random.random() < 0.1:
            producer_epoch, sequence = producer_epoch + 1, 0
        size_bytes, count = self.random.randrange(80), self.random.randrange(1, 4)
        data = encode_batch(
            [self.new_record(size_bytes) for _ in range(count)],
            base_offset=self.log.log_end_offset,
            leader_epoch=self.epoch,
            producer_id=producer,
            producer_epoch=producer_epoch,
            base_sequence=sequence,
        )
        return bytes(data), parse_header(data)

    def new_record(self, size_bytes: int) -> NewRecord:
        if not self.config.is_compacted:
            return (1000, None, bytes(size_bytes), ())
        is_tombstone = self.random.random() < 0.2
        return (1000, b"%d" % self.random.randrange(6), None if is_tombstone else bytes(size_bytes), ())

    def with_gap(self, data: bytes) -> tuple[bytes, BatchHeader]:
        """As a follower gets it from a leader that has compacted what lay between."""
        offset = self.log.log_end_offset + self.random.randrange(1, 5)
        data = offset.to_bytes(8) + data[8:]
        return data, parse_header(data)

    def flush(self) -> None:
        self.log.flush()
        self.before_cuts.clear()
        self.model.durable_end = self.model.end
        assert self.log.recovery_point == self.model.end

    def flush_meanwhile(self) -> None:
        """A flush in another thread, while the log goes on."""
        pending, target = self.log.begin_flush(), self.model.end
        if pending is None:
            return
        self.random.choice([self.append, self.truncate])()
        pending.sync()
        reached = self.log.complete_flush(pending)
        assert reached <= self.model.end
        self.model.durable_end = max(self.model.durable_end, min(reached, target))

    def write_checkpoint(self) -> None:
        self.checkpoint = self.log.recovery_point

    def lead(self) -> None:
        """A leader that has nothing to append yet."""
        self.epoch += 1
        self.assigned.append((self.epoch, self.log.log_end_offset))
        self.log.start_leader_epoch(self.epoch)

    def delete_records(self) -> None:
        """Up to some batch, or into one where nothing is ever cut: a cut there takes the start back."""
        offset = self.random.randrange(self.model.start, self.model.end + 1)
        cuts = any(each in self.actions for each in (self.truncate, self.fork, self.flush_meanwhile))
        self.begin_at(self.model.boundary_at(offset) if cuts else offset)

    def retain(self) -> None:
        """Whole segments go, the one that grows among them."""
        if self.random.random() < 0.3:
            self.log.roll()
        self.begin_at(max(self.random.choice(self.log.segment_base_offsets), self.model.start))

    def begin_at(self, offset: int) -> None:
        """The start is durable before any file goes."""
        self.starts.add(offset)
        self.log.advance_start(offset)
        for each in (self.model, *self.before_cuts):
            each.start = max(each.start, offset)
        self.start_checkpoint = max(self.start_checkpoint, offset)
        retired = self.log.retire_segments_below(offset)
        self.log.sync_folder()
        for segment in retired:
            segment.remove_files()
        bases = self.log.segment_base_offsets
        assert len(bases) == 1 or bases[1] > offset, "a segment below the start is kept"

    def compact(self) -> None:
        """What is committed and durable, while nobody else touches the log."""
        self.now_ms += self.random.choice([0, 1, 60])
        if self.random.random() < 0.7:
            self.log.roll()
        self.flush()
        self.write_checkpoint()
        cleanable = plan(self.log, now_ms=self.now_ms)
        if not cleanable.dirty_bytes:
            return
        self.cleaned_to = max(self.cleaned_to, cleanable.end_offset)
        map_bytes = ENTRY_BYTES * self.random.choice([3, 8, 100])
        cleaning = cleaning_of(self.files, self.log, cleanable, now_ms=self.now_ms, map_bytes=map_bytes)
        self.is_compacting = True
        with closing(cleaning.run()) as steps:
            for step in steps:
                if isinstance(step, Rewritten):
                    put_in_place(self.log, step)
        self.take_over_compacted()
        self.cleaner_offset = self.log.cleaner_offset = cleaning.cleaned_to

    def lower_cleaner_offset(self, offset: int) -> None:
        self.cleaner_offset = offset

    def lower_log_start(self, offset: int) -> None:
        self.taken_back_from = max(self.taken_back_from, self.start_checkpoint)
        self.start_checkpoint = min(self.start_checkpoint, offset)

    def take_over_compacted(self) -> None:
        """What the log holds now, if that may be left of what it held."""
        found = [*batches_on_disk(self.log)]
        first = self.log.segment_base_offsets[0]
        there = [each.data for each in self.model.batches if each.header.base_offset >= first]
        check_compacted(there, found, up_to=self.cleaned_to, now_ms=self.now_ms)
        below = [each for each in self.model.batches if each.header.base_offset < first]
        self.model.batches = [*below, *(Stored(data, parse_header(data)) for data in found)]
        self.is_compacting = False

    def truncate(self) -> None:
        end = self.model.end
        lowest = max(self.model.start, self.cleaned_to, end - 30)
        if lowest <= end:
            self.truncate_to(self.random.randrange(lowest, end + 1))

    def fork(self) -> None:
        """A follower finds that its log went another way after some epoch."""
        known = [epoch for epoch, _ in self.log.epochs.entries]
        if known:
            found = self.log.end_offset_for_epoch(self.random.choice(known))
            self.truncate_to(max(found.end_offset, self.model.start, self.cleaned_to))

    def truncate_to(self, offset: int) -> None:
        is_cut = offset < self.model.end
        # A crash within the truncation may leave any end from here on: only what is below is promised.
        self.note_cut(self.model.boundary_at(offset))
        self.log.truncate_to(offset)
        if is_cut:
            self.before_cuts.clear()
        self.model.truncate(offset)
        self.forget()

    def note_cut(self, durable_end: int) -> None:
        self.before_cuts.append(self.model.copy())
        for each in (self.model, *self.before_cuts):
            each.durable_end = min(each.durable_end, max(durable_end, each.start))

    def reset(self) -> None:
        if self.random.random() < 0.5:
            return
        offset = self.random.randrange(self.model.end + 50)
        self.starts.add(offset)
        self.was_reset = True
        self.note_cut(self.model.start)
        self.model = Model(start=offset, durable_end=offset, base=offset)
        self.log.truncate_fully_and_start_at(offset)
        self.taken_back_from = 0
        self.before_cuts.clear()
        self.cleaned_to = 0
        self.forget()

    def reopen(self) -> None:
        self.log.close()
        self.checkpoint = self.log.recovery_point
        self.model.durable_end = self.model.end
        self.before_cuts.clear()
        self.log = self.open(clean=True)

    def kill(self) -> None:
        self.log.abandon()
        self.die(power=False)

    def crash(self) -> None:
        self.die(power=True)

    # --- after a crash ----------------------------------------------------------------------------------

    def adopt(self) -> None:
        """The log may have lost what was not durable, from the end, at a batch boundary."""
        log = self.log
        for each in (self.model, *self.before_cuts):
            each.start = max(each.base, self.start_checkpoint)
            # Where the start was to go down, what lay below the old one may be gone since long.
            each.start = max(each.start, min(log.segment_base_offsets[0], self.taken_back_from))
        if self.before_cuts and not self.is_prefix(self.model):
            nothing = Model(start=log.log_start_offset, base=log.log_start_offset)
            found = next(filter(self.is_prefix, reversed(self.before_cuts)), nothing)
            self.model = found.copy()
        assert log.log_end_offset >= self.model.durable_end, "durable records are lost"
        self.model.truncate(log.log_end_offset)
        if self.is_compacting:
            self.take_over_compacted()
        # A truncation that power loss undid leaves more durable than was promised; the log may know.
        self.model.durable_end = max(self.model.durable_end, log.recovery_point)
        self.forget()

    def is_prefix(self, model: Model) -> bool:
        """Whether the log holds what ``model`` does, maybe without the last of it."""
        data = b"".join(each.data for each in model.readable)
        return self.log.log_start_offset == model.start and data.startswith(self.read_all())

    def read_all(self) -> bytes:
        found, offset = bytearray(), self.log.log_start_offset
        while data := self.log.read(offset, max_bytes=1 << 20):
            found += data
            offset = max(header.next_offset for header, _ in iterate_batches(data))
        return bytes(found)

    def forget(self) -> None:
        """Producers and leaders go on where the log says they are."""
        self.sequences.clear()
        for header in self.model.appended:
            if header.producer_id > 0:
                self.sequences[header.producer_id] = (header.producer_epoch, header.last_sequence + 1)
        self.epoch = max(self.epoch, self.log.latest_epoch)

    # --- what must hold ---------------------------------------------------------------------------------

    def check(self) -> None:
        log, model = self.log, self.model
        assert (log.log_start_offset, log.log_end_offset) == (model.start, model.end)
        assert self.start_checkpoint <= model.start
        first = log.segment_base_offsets[0]
        assert first <= model.start
        there = [each for each in model.batches if each.header.base_offset >= first]
        assert log.size_bytes == sum(len(each.data) for each in there)
        assert log.recovery_point <= max(model.durable_end, model.start)
        self.check_epochs()
        self.check_producers(there)
        self.check_reads()

    def check_producers(self, there: list[Stored]) -> None:
        """What all batches say, except that after a crash only those are asked that are there."""
        all_of_them, of_these = ProducerStates(), ProducerStates()
        for header in self.model.appended:
            all_of_them.replay(header)
        for batch in there:
            of_these.replay(batch.header)
        found, known = self.log.producers.entries, all_of_them.entries
        assert set(of_these.entries) <= set(found) <= set(known)
        if self.config.is_compacted:
            self.check_last_batches(found, known, of_these.entries)
            return
        if len(there) == len(self.model.batches):
            assert found == known
        for producer, entry in found.items():
            expected = known[producer]
            assert entry == expected._replace(batches=expected.batches[-len(entry.batches) :])
        for producer, least in of_these.entries.items():
            assert found[producer].batches[-len(least.batches) :] == least.batches

    def check_last_batches(self, *states: Mapping[int, ProducerEntry]) -> None:
        """Compaction leaves of each producer the last batch, and of that maybe not the latest timestamp."""
        last = [
            {
                producer: (
                    entry.producer_epoch,
                    entry.batches[-1].last_sequence,
                    entry.batches[-1].last_offset,
                )
                for producer, entry in each.items()
            }
            for each in states
        ]
        assert all(last[0][producer] == last[1][producer] for producer in last[0])
        assert all(last[0][producer] == last[2][producer] for producer in last[2])

    def check_epochs(self) -> None:
        """Those of the batches, and maybe of leaders that have not written yet.

        The first may begin where the log does or did, or with the first batch from there on.
        """
        headers = self.model.appended
        entries = self.log.epochs.entries
        allowed = {*_beginnings(headers), *self.assigned}
        if self.was_reset:
            allowed.update(_beginnings([batch.header for batch in self.model.batches]))
        for start in (*self.starts, *self.log.segment_base_offsets):
            first = next((header for header in headers if header.base_offset >= start), None)
            if first is not None:
                allowed.add((first.partition_leader_epoch, first.base_offset))
        known = {epoch for epoch, _ in allowed}
        assert all(entry in allowed or (entry[0] in known and entry[1] in self.starts) for entry in entries)
        epochs = [epoch for epoch, _ in entries]
        later = [each.header for each in self.model.batches if each.header.base_offset >= max(self.starts)]
        assert all(header.partition_leader_epoch in epochs for header in later)
        assert epochs == sorted(epochs)

    def check_reads(self) -> None:
        batches = self.model.readable
        number = self.random.randrange(len(batches) + 1)
        offset = self.model.start
        if number:
            header = batches[number - 1].header
            offset = self.random.randrange(max(header.base_offset, self.model.start), header.next_offset)
            number -= 1
        max_bytes = self.random.randrange(1, 2000)
        found = bytearray()
        while data := self.log.read(offset, max_bytes=max_bytes):
            headers = [header for header, _ in iterate_batches(data)]
            assert len(data) <= max_bytes or len(headers) == 1
            found += data
            offset = headers[-1].next_offset
        assert b"".join(each.data for each in batches[number:]) == found
        self.check_limited_read()

    def check_limited_read(self) -> None:
        """Nothing at or above the bound that a consumer has."""
        model = self.model
        offset = self.random.randrange(model.start, model.end + 1)
        upper = self.random.randrange(model.start, model.end + 1)
        data = self.log.read(offset, max_bytes=self.random.randrange(1, 2000), upper_offset=upper)
        for header, _ in iterate_batches(data):
            assert offset <= header.last_offset < upper
        try:
            self.log.read(model.end + 1, max_bytes=1)
        except OffsetOutOfRange:
            return
        raise AssertionError("read beyond the end")


def _beginnings(headers: list[BatchHeader]) -> list[tuple[int, int]]:
    """Each leader epoch, and where the first batch of it begins."""
    found: list[tuple[int, int]] = []
    for header in headers:
        if not found or found[-1][0] < header.partition_leader_epoch:
            found.append((header.partition_leader_epoch, header.base_offset))
    return found


def run_history(seed: int, *, steps: int = 16) -> None:
    """Raises ``AssertionError`` with the history if the log is not what the model says."""
    history = History(seed)
    try:
        for _ in range(steps):
            history.step()
            history.check()
    except BaseException as error:
        error.add_note(f"history {seed}: {'; '.join(history.told)}")
        raise
