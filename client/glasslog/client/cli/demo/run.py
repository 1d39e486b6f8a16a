"""One run of the demo against a running local cluster: write, break, read, compare.

Everything goes on at once in one event loop: a producer, a group of consumers, somebody who kills and
restart nodes, somebody who watches. It refuses to know how the cluster was started and how the screen looks.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.demo.ledger import Comparison, FetchedRecord, Ledger
from glasslog.client.cli.demo.narrator import Narrator, PartitionView, Snapshot
from glasslog.client.cli.demo.plan import RESTART_AFTER_S, Kill, Victims, choose
from glasslog.client.cli.demo.screen import Progress, Rate, Screen
from glasslog.client.cli.demo.source import Source
from glasslog.client.cli.errors import Interrupted
from glasslog.client.cli.local.cluster import LocalCluster
from glasslog.client.consumer import Consumer
from glasslog.client.producer import Producer
from glasslog.client.sender import ProducerStats
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime

TOPIC = "demo"
GROUP = "demo-readers"
PARTITIONS = 6
CONSUMERS = 3
_WATCH_INTERVAL_S = 0.02
_POLL_TIMEOUT_MS = 100
_MAX_POLL_RECORDS = 20_000
_GIVE_UP_READING_AFTER_S = 60.0
_GIVE_UP_HEALING_AFTER_S = 60.0
_BUFFER_MEMORY_BYTES = 4 << 20
"""Small, so that half-way through the input is half-way through the cluster too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlan:
    """What to do. ``corrupt`` falsifies one consumed record, to prove that the verdict notices."""

    source: Source
    kill: Kill
    corrupt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it. ``data_phase_s`` is from the first record sent to the last one read."""

    comparison: Comparison
    stats: ProducerStats
    data_phase_s: float
    healed: bool
    leader_changes_s: tuple[float, ...]

    @property
    def passed(self) -> bool:
        return self.comparison.clean and self.healed


async def run_demo(
    runtime: Runtime, cluster: LocalCluster, plan: DemoPlan, screen: Screen, ending: Callable[[], bool]
) -> Outcome:
    """Run it to the verdict. Raises ``Interrupted`` when asked to end, ``GlasslogError`` when it fails."""
    async with Admin(cluster.bootstrap, runtime=runtime) as admin:
        brokers = len(cluster.state().brokers)
        await admin.create_topics(
            [NewTopic(name=TOPIC, partitions=PARTITIONS, replication_factor=min(3, brokers))]
        )
        return await _Run(runtime, cluster, plan, screen, ending, admin).run()


class _Run:
    """The tasks of one run and what they share."""

    def __init__(
        self,
        runtime: Runtime,
        cluster: LocalCluster,
        plan: DemoPlan,
        screen: Screen,
        ending: Callable[[], bool],
        admin: Admin,
    ) -> None:
        self._runtime = runtime
        self._cluster = cluster
        self._plan = plan
        self._screen = screen
        self._ending = ending
        self._admin = admin
        state = cluster.state()
        self._names = {node.node_id: node.name for node in state.nodes}
        self._controllers = {node.node_id: node.name for node in state.controllers}
        self._narrator = Narrator(self._names)
        self._ledger = Ledger()
        self._corrupt = plan.corrupt
        self._producer: Producer | None = None
        self._snapshot: Snapshot | None = None
        self._rate = Rate()
        self._started = time.monotonic()
        self._last_read = self._started
        self._half_way = asyncio.Event()
        self._all_read = asyncio.Event()
        self._end_offsets: dict[TopicPartition, int] | None = None
        self._healed = False

    async def run(self) -> Outcome:
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch(), name="watch")
                readers = [group.create_task(self._read(), name=f"read-{n}") for n in range(CONSUMERS)]
                breaking = group.create_task(self._break(), name="break")
                stats = await self._write()
                self._screen.event(f"everything is written: {stats.records_acked:,} records acknowledged")
                await self._await_all_read()
                self._screen.event(f"everything is read: {self._ledger.received_records:,} records")
                data_phase_s = self._last_read - self._started
                await breaking
                await self._await_healed()
                for task in (watching, *readers):
                    task.cancel()
        except* Interrupted:
            raise Interrupted from None
        except* GlasslogError as errors:
            raise _first(errors) from errors
        return Outcome(
            comparison=self._ledger.compare(self._plan.source.read_again),
            stats=stats,
            data_phase_s=data_phase_s,
            healed=self._healed,
            leader_changes_s=tuple(self._narrator.leader_changes_s),
        )

    # --- writing ---

    async def _write(self) -> ProducerStats:
        half = self._plan.source.total_bytes / 2
        self._started = time.monotonic()
        async with Producer(
            self._cluster.bootstrap, buffer_memory=_BUFFER_MEMORY_BYTES, runtime=self._runtime
        ) as producer:
            self._producer = producer
            for file in self._plan.source.files():
                if file.lines:
                    await producer.send_many(TOPIC, file.lines, key=file.key)
                self._ledger.sent(file)
                if self._ledger.sent_bytes >= half:
                    self._half_way.set()
            self._half_way.set()
            await producer.flush()
            self._end_offsets = await self._admin.end_offsets(TOPIC)
            return producer.stats

    # --- reading ---

    async def _read(self) -> None:
        async with Consumer(
            TOPIC,
            bootstrap_servers=self._cluster.bootstrap,
            group_id=GROUP,
            auto_offset_reset="earliest",
            auto_commit_interval_ms=1000,
            runtime=self._runtime,
        ) as consumer:
            while True:
                batches = await consumer.poll_batches(_MAX_POLL_RECORDS, timeout_ms=_POLL_TIMEOUT_MS)
                for batch in batches:
                    self._take(batch.partition.partition, batch.records)

    def _take(self, partition: int, records: list[FetchedRecord]) -> None:
        if self._corrupt and (index := _first_with_value(records)) is not None:
            self._corrupt = False
            records = _falsified(records, index)
            self._screen.event(f"falsified the record at offset {records[index][0]} of partition {partition}")
        self._ledger.received(partition, records)
        self._last_read = time.monotonic()

    async def _await_all_read(self) -> None:
        while not self._everything_is_read():
            if time.monotonic() - self._last_read > _GIVE_UP_READING_AFTER_S:
                self._screen.event(f"nothing came for {_GIVE_UP_READING_AFTER_S:.0f} s: giving up")
                return
            await asyncio.sleep(_WATCH_INTERVAL_S)

    def _everything_is_read(self) -> bool:
        ends = self._end_offsets
        return ends is not None and all(
            self._ledger.next_offset(partition.partition) >= end for partition, end in ends.items()
        )

    # --- breaking ---

    async def _break(self) -> None:
        await self._half_way.wait()
        victims = await self._choose()
        if not victims.node_ids:
            return
        for node_id in victims.node_ids:
            # The sentence is made first: once the node is dead, snapshots change under it.
            sentence = self._narrator.killed(node_id, time.monotonic())
            self._cluster.kill(self._names[node_id])
            self._screen.event(f"{sentence} ({victims.why})")
        await asyncio.sleep(RESTART_AFTER_S)
        for node_id in victims.node_ids:
            await asyncio.to_thread(self._cluster.start, self._names[node_id])
            self._screen.event(self._narrator.restarted(node_id, time.monotonic()))

    async def _choose(self) -> Victims:
        deadline = time.monotonic() + _GIVE_UP_HEALING_AFTER_S
        while time.monotonic() < deadline:
            if self._snapshot is not None:
                chosen = choose(self._plan.kill, self._snapshot, self._controllers)
                if chosen is not None:
                    return chosen
            await asyncio.sleep(_WATCH_INTERVAL_S)
        raise GlasslogError(ErrorCode.REQUEST_TIMED_OUT, f"there is no {self._plan.kill.value} to kill")

    async def _await_healed(self) -> None:
        deadline = time.monotonic() + _GIVE_UP_HEALING_AFTER_S
        while time.monotonic() < deadline:
            ready = await asyncio.to_thread(self._all_nodes_ready)
            if ready and self._narrator.in_sync():
                self._healed = True
                return
            await asyncio.sleep(_WATCH_INTERVAL_S)
        self._screen.event(f"the cluster did not heal within {_GIVE_UP_HEALING_AFTER_S:.0f} s")

    def _all_nodes_ready(self) -> bool:
        return all(self._cluster.is_ready(name) for name in self._names.values())

    # --- watching ---

    async def _watch(self) -> None:
        while True:
            if self._ending():
                raise Interrupted
            await self._look()
            self._show()
            await asyncio.sleep(_WATCH_INTERVAL_S)

    async def _look(self) -> None:
        try:
            cluster = await self._admin.describe_cluster()
            (topic,) = await self._admin.describe_topics([TOPIC])
        except GlasslogError as error:
            if not error.retriable:
                raise
            return
        partitions = {
            p.partition: PartitionView(
                p.leader, p.leader_epoch, tuple(p.isr), tuple(p.replicas), p.partition_epoch
            )
            for p in topic.partitions
        }
        self._snapshot = Snapshot(partitions=partitions, controller=cluster.controller_id)
        for sentence in self._narrator.observe(self._snapshot, time.monotonic()):
            self._screen.event(sentence)

    def _placed(self) -> list[tuple[int, PartitionView]]:
        return [] if self._snapshot is None else sorted(self._snapshot.partitions.items())

    def _show(self) -> None:
        now, ledger = time.monotonic(), self._ledger
        records_per_s, mb_per_s = self._rate.update(now, ledger.received_records, ledger.received_bytes)
        self._screen.progress(
            Progress(
                elapsed_s=now - self._started,
                fraction=min(1.0, ledger.received_bytes / max(1, self._plan.source.total_bytes)),
                written=0 if self._producer is None else self._producer.stats.records_acked,
                read=ledger.received_records,
                records_per_s=records_per_s,
                mb_per_s=mb_per_s,
                partitions=[(str(number), view) for number, view in self._placed()],
            )
        )


def _first(errors: BaseExceptionGroup[GlasslogError]) -> GlasslogError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _first_with_value(records: list[FetchedRecord]) -> int | None:
    return next((index for index, record in enumerate(records) if record[3]), None)


def _falsified(records: list[FetchedRecord], index: int) -> list[FetchedRecord]:
    offset, timestamp, key, value, headers = records[index]
    assert value
    wrong = bytes([value[0] ^ 1]) + value[1:]
    return [*records[:index], (offset, timestamp, key, wrong, headers), *records[index + 1 :]]
