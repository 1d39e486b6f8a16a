"""The consumer's core: which partitions it reads, where it stands, what is fetched but not handed out.

Sans-I/O.  Refuses to know brokers, groups and time.  Two positions matter: ``position`` is the next offset
to hand out, ``processed`` the next one after what the user is known to have dealt with, since they asked
for more afterwards; automatic commits use the latter.  Source: Kafka's ``SubscriptionState`` and
``FetchCollector``.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from glasslog.client.aborted import AbortedFilter
from glasslog.client.types import ConsumerRecord, FetchedRecords, OffsetAndMetadata, make_record
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.log.batch import CorruptBatch, iterate_batches, read_header
from glasslog.log.records import RecordTuple, decode_fast

NO_POSITION = -1
EARLIEST, LATEST = -2, -1
"""Timestamps that ListOffsets takes for the ends of a log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positioned:
    """Reading at ``offset``; ``leader_epoch`` of the record before it, -1 when unknown."""

    offset: int
    leader_epoch: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingCommitted:
    """The group's committed position has to be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitingReset:
    """The offset at ``timestamp`` (or an end of the log) has to be asked for."""

    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Nothing can be read until somebody seeks; ``error`` says why and is raised by every poll."""

    error: GlasslogError


Place = Positioned | AwaitingCommitted | AwaitingReset | Stuck


class PartitionState:
    """One assigned partition. ``version`` changes when what is under way for it has become worthless."""

    __slots__ = (
        "_chunks",
        "_decoded",
        "_decoded_epoch",
        "_decoded_next",
        "_index",
        "_number",
        "_topic",
        "buffered_bytes",
        "fetch_epoch",
        "fetch_offset",
        "fetching",
        "high_watermark",
        "leader_only_until_ms",
        "log_start_offset",
        "partition",
        "paused",
        "place",
        "preferred_replica",
        "preferred_until_ms",
        "processed",
        "retry_at_ms",
        "version",
    )

    def __init__(self, partition: TopicPartition, place: Place, version: int) -> None:
        self.partition = partition
        self._topic, self._number = partition.topic, partition.partition
        self.paused = False
        self.fetching = False
        self.preferred_replica = -1
        self.preferred_until_ms = 0
        self.leader_only_until_ms = 0
        self.retry_at_ms = 0
        self.high_watermark = -1
        self.log_start_offset = -1
        self.version = version
        self.move_to(place, version)

    def move_to(self, place: Place, version: int) -> None:
        """Stand somewhere else; whatever was fetched is dropped."""
        self.place = place
        self.version = version
        self.fetch_offset = place.offset if isinstance(place, Positioned) else NO_POSITION
        self.fetch_epoch = place.leader_epoch if isinstance(place, Positioned) else -1
        self.processed = self.fetch_offset
        self._chunks: deque[tuple[bytes, int, AbortedFilter]] = deque()
        self._decoded: list[RecordTuple] = []
        self._decoded_epoch = -1
        self._decoded_next = NO_POSITION
        self._index = 0
        self.buffered_bytes = 0

    def read_from(self, replica: int, *, until_ms: int) -> None:
        """The leader has named a closer replica, for as long as its word holds (KIP-392)."""
        self.preferred_replica, self.preferred_until_ms = replica, until_ms

    def preferred_at(self, now_ms: int) -> int:
        """The replica that the leader has named, -1: the leader, who then says who is closest now."""
        if now_ms >= self.preferred_until_ms:
            self.preferred_replica = -1
        return self.preferred_replica

    def distrust_replica(self, *, until_ms: int) -> None:
        """The named replica is of no use: back to the leader, who is not to name it again at once."""
        if self.preferred_replica >= 0:
            self.preferred_replica = -1
            self.leader_only_until_ms = until_ms

    @property
    def position(self) -> int:
        """The next offset to hand out; ``NO_POSITION`` while it is not known."""
        if not isinstance(self.place, Positioned):
            return NO_POSITION
        if self._index == 0:
            return self.place.offset
        return self._decoded_next if not self._has_decoded else self._decoded[self._index - 1][0] + 1

    @property
    def leader_epoch(self) -> int:
        """Of the record before ``position``; -1 when unknown."""
        if self._index:
            return self._decoded_epoch
        return self.place.leader_epoch if isinstance(self.place, Positioned) else -1

    @property
    def _has_decoded(self) -> bool:
        return self._index < len(self._decoded)

    def add(self, data: bytes, aborted: Sequence[tuple[int, int]] = ()) -> None:
        """Take fetched batches. Raises ``CorruptBatch`` when headers make no sense.

        ``aborted``: producer ids with the offsets where transactions begin that are not to be handed out.
        """
        next_offset, epoch = NO_POSITION, -1
        for header, _ in iterate_batches(data):
            next_offset, epoch = header.next_offset, header.partition_leader_epoch
        if next_offset > self.fetch_offset:
            self.fetch_offset, self.fetch_epoch = next_offset, epoch
            self._chunks.append((data, 0, AbortedFilter(aborted)))
            self.buffered_bytes += len(data)

    def take(self, max_records: int) -> FetchedRecords | None:
        """The next run of at most ``max_records`` records, and the position moves behind it.

        ``None`` when nothing is buffered.  Raises ``CorruptBatch``; the position then stays before the batch.
        """
        if not self.load():
            return None
        index = self._index
        records = self._decoded[index : index + max_records]
        self._index = index + len(records)
        return FetchedRecords(self.partition, records, self._decoded_epoch)

    def take_one(self) -> ConsumerRecord | None:
        """The next record, if one is at hand; all before it have been dealt with."""
        index = self._index
        if index >= len(self._decoded):
            return None
        record = self._decoded[index]
        self._index, self.processed = index + 1, record[0]
        return make_record(ConsumerRecord, (self._topic, self._number, *record, self._decoded_epoch))

    def load(self) -> bool:
        """Have the next records decoded; False when nothing is buffered. Raises ``CorruptBatch``."""
        while not self._has_decoded:
            if not self._chunks:
                return False
            self._decode_next()
        return True

    def _decode_next(self) -> None:
        self.place = Positioned(offset=self.position, leader_epoch=self.leader_epoch)
        self._decoded, self._index = [], 0
        data, start, aborted = self._chunks[0]
        header = read_header(data, start)
        is_aborted = aborted.hides(header, data, start)
        if header.next_offset > self.position:
            position = self.place.offset
            records = [] if header.is_control or is_aborted else decode_fast(data, start)
            if records and records[0][0] < position:
                records = [record for record in records if record[0] >= position]
            self._decoded = records
            self._decoded_epoch, self._decoded_next = header.partition_leader_epoch, header.next_offset
            if not records:
                # Nothing to hand out in it (a marker, or compacted away), but it has been read.
                self.place = Positioned(offset=header.next_offset, leader_epoch=header.partition_leader_epoch)
        end = start + header.size_bytes
        if end < len(data):
            self._chunks[0] = (data, end, aborted)
        else:
            self._chunks.popleft()
            self.buffered_bytes -= len(data)


class SubscriptionState:
    """All assigned partitions, in order, and the topics that were asked for."""

    def __init__(self, *, auto_offset_reset: str, max_buffered_bytes: int) -> None:
        self._reset = {"earliest": EARLIEST, "latest": LATEST}.get(auto_offset_reset)
        self._max_buffered_bytes = max_buffered_bytes
        self._states: dict[TopicPartition, PartitionState] = {}
        self._versions = 0
        self._turn = 0
        self.topics: tuple[str, ...] = ()
        """Subscribed; empty with a manual assignment."""

    # --- assignment -------------------------------------------------------------------------------------

    @property
    def assignment(self) -> tuple[TopicPartition, ...]:
        return tuple(self._states)

    @property
    def states(self) -> Iterable[PartitionState]:
        return self._states.values()

    def state(self, partition: TopicPartition) -> PartitionState:
        """Raises ``GlasslogError`` for a partition that is not assigned."""
        state = self._states.get(partition)
        if state is None:
            raise GlasslogError(
                ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                f"partition {partition} is not assigned to this consumer",
            )
        return state

    def find(self, partition: TopicPartition, version: int) -> PartitionState | None:
        """The partition's state if it still is what it was at ``version``."""
        state = self._states.get(partition)
        return state if state is not None and state.version == version else None

    def assign(self, partitions: Iterable[TopicPartition], *, has_group: bool) -> None:
        """Read exactly these; those that are kept go on where they are."""
        place: Place = AwaitingCommitted() if has_group else self.reset_place()
        old, self._states = self._states, {}
        for partition in sorted(partitions):
            kept = old.get(partition)
            self._states[partition] = kept or PartitionState(partition, place, self._next_version())

    def move_to(self, partition: TopicPartition, place: Place) -> None:
        self.state(partition).move_to(place, self._next_version())

    def reset_place(self, partition: TopicPartition | None = None) -> Place:
        """Where a partition without a valid position goes, by ``auto_offset_reset``."""
        if self._reset is not None:
            return AwaitingReset(timestamp=self._reset)
        where = "" if partition is None else f" for {partition}"
        error = GlasslogError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"there is no valid position{where}, and auto_offset_reset is 'none': seek first",
        )
        return Stuck(error=error)

    def on_committed(self, partition: TopicPartition, version: int, offset: int, leader_epoch: int) -> None:
        """The group's committed position; -1: there is none."""
        state = self.find(partition, version)
        if state is not None and isinstance(state.place, AwaitingCommitted):
            found = Positioned(offset=offset, leader_epoch=leader_epoch)
            place = found if offset >= 0 else self.reset_place(partition)
            self.move_to(partition, place)

    def on_diverging(self, partition: TopicPartition, *, epoch: int, end_offset: int) -> bool:
        """The log has another history from ``end_offset`` on; True if records handed out are no longer there.

        What was fetched ahead is fetched anew.  What was handed out can not be taken back: reading goes on
        where the log parts, or, without ``auto_offset_reset``, stops until somebody seeks (KIP-320).
        """
        state = self.state(partition)
        is_lost = state.position > end_offset or state.leader_epoch > epoch
        place: Place = Positioned(
            offset=min(state.position, end_offset), leader_epoch=min(state.leader_epoch, epoch)
        )
        if is_lost and self._reset is None:
            error = GlasslogError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"{partition} was truncated: records from {end_offset} to {state.position} are no longer "
                "what was read, and auto_offset_reset is 'none': seek first",
            )
            place = Stuck(error=error)
        self.move_to(partition, place)
        return is_lost

    # --- fetching ---------------------------------------------------------------------------------------

    def fetchable(self, now_ms: int) -> list[PartitionState]:
        """What may be fetched now, beginning with another partition each time."""
        states = [state for state in self._states.values() if self._is_fetchable(state, now_ms)]
        if not states:
            return states
        self._turn = (self._turn + 1) % len(states)
        return states[self._turn :] + states[: self._turn]

    @property
    def some_are_full(self) -> bool:
        """Whether a partition is not fetched only because enough of it waits to be handed out."""
        return any(
            state.buffered_bytes >= self._max_buffered_bytes and not state.paused
            for state in self._states.values()
        )

    def next_retry_ms(self, now_ms: int) -> int | None:
        """When a partition that failed may be fetched again."""
        return min(
            (state.retry_at_ms for state in self._states.values() if state.retry_at_ms > now_ms), default=None
        )

    def _is_fetchable(self, state: PartitionState, now_ms: int) -> bool:
        return (
            isinstance(state.place, Positioned)
            and not state.fetching
            and not state.paused
            and state.buffered_bytes < self._max_buffered_bytes
            and now_ms >= state.retry_at_ms
        )

    # --- handing out ------------------------------------------------------------------------------------

    def note_processed(self) -> None:
        """The user asks for more, so what was handed out before has been dealt with."""
        for state in self._states.values():
            if state.position >= 0:
                state.processed = state.position

    def take(self, max_records: int) -> list[FetchedRecords]:
        """Runs of records, at most ``max_records`` in all, the partitions in turn.

        Raises what makes a partition unreadable, if nothing else can be handed out.
        """
        taken: list[FetchedRecords] = []
        failure: GlasslogError | None = None
        for state in self._in_turn():
            try:
                while max_records > 0 and (run := _take(state, max_records)) is not None:
                    taken.append(run)
                    max_records -= len(run.records)
            except GlasslogError as error:
                failure = failure or error
        if failure is not None and not taken:
            raise failure
        return taken

    def next_loaded(self) -> PartitionState | None:
        """A partition with records at hand, if there is one. Raises as ``take`` does."""
        failure: GlasslogError | None = None
        for state in self._in_turn():
            try:
                if _load(state):
                    return state
            except GlasslogError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return None

    def raise_if_stuck(self, partition: TopicPartition) -> None:
        """Raise why the partition can not be read, if so."""
        place = self.state(partition).place
        if isinstance(place, Stuck):
            raise GlasslogError(place.error.code, str(place.error))

    def positions(self, which: "PositionOf | None" = None) -> dict[TopicPartition, OffsetAndMetadata]:
        """Every known position (by default that of the next record to hand out), with its leader epoch."""
        offset_of = which or position_of
        return {
            partition: OffsetAndMetadata(offset_of(state), state.leader_epoch)
            for partition, state in self._states.items()
            if offset_of(state) >= 0
        }

    def _in_turn(self) -> list[PartitionState]:
        states = [state for state in self._states.values() if not state.paused]
        if states:
            self._turn = (self._turn + 1) % len(states)
        return states[self._turn :] + states[: self._turn]

    def _next_version(self) -> int:
        self._versions += 1
        return self._versions


PositionOf = Callable[[PartitionState], int]
"""Which of a partition's two positions."""


def position_of(state: PartitionState) -> int:
    """Behind what was handed out."""
    return state.position


def processed_of(state: PartitionState) -> int:
    """Behind what was dealt with."""
    return state.processed


def _take(state: PartitionState, max_records: int) -> FetchedRecords | None:
    return state.take(max_records) if _load(state) else None


def _load(state: PartitionState) -> bool:
    if isinstance(state.place, Stuck):
        raise GlasslogError(state.place.error.code, str(state.place.error))
    try:
        return state.load()
    except CorruptBatch as error:
        raise GlasslogError(
            error.code,
            f"{state.partition} can not be read at offset {state.position}: {error}; seek behind it to go on",
        ) from error
