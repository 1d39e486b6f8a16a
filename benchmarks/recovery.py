"""What a broker's logs cost when it starts and while nobody uses them: recovery, opening, idling.

In this process and from the page cache; knows logs and partitions, no cluster.
"""

import asyncio
import gc
import os
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition_logs import PartitionLogs
from glasslog.broker.stored_logs import StoredLog
from glasslog.common.config import parse
from glasslog.common.ids import TopicId, TopicPartition
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.common.runtime.production.start import production_runtime
from glasslog.common.runtime.protocols import Runtime
from glasslog.common.topic_config import topic_config
from glasslog.log.config import LogConfig
from glasslog.log.directories import OpenedDirectories, open_directories
from glasslog.log.log import Log
from glasslog.log.records import encode_batch

from benchmarks.measuring import scratch_folder
from benchmarks.report import Figure, Line

_GIBIBYTE = 1 << 30
_PLAIN, _IDEMPOTENT, _TRANSACTIONAL = "", ", idempotent", ", in transactions"
_BATCHES = (
    ("16 KB", 16_000, _PLAIN),
    ("1 KB", 1_000, _PLAIN),
    ("1 KB", 1_000, _IDEMPOTENT),
    ("1 KB", 1_000, _TRANSACTIONAL),
)
_PRODUCERS = 20
_PARTITIONS, _QUICK_PARTITIONS = 2_000, 200
_TOPIC_ID = TopicId(b"bench-topic-0001")


def run(*, quick: bool) -> Sequence[Line]:
    """Recovery of 1 GiB of several kinds of batches; opening 2,000 closed partitions, their memory."""
    size_bytes = _GIBIBYTE // 16 if quick else _GIBIBYTE
    recovered = [_recover(*each, size_bytes) for each in _BATCHES]
    return [*recovered, *asyncio.run(_open(_QUICK_PARTITIONS if quick else _PARTITIONS))]


def _recover(name: str, batch_bytes: int, kind: str, size_bytes: int) -> Line:
    with scratch_folder() as folder:
        log = _open_log(folder)
        while log.size_bytes < size_bytes:
            first_sequence = log.log_end_offset // _PRODUCERS
            log.append_as_follower(_batches(batch_bytes, kind, log.log_end_offset, first_sequence))
        log.abandon()
        started = time.process_time()
        log = _open_log(folder)
        took_s = time.process_time() - started
        log.abandon()
        return Figure(
            what=f"recovery, batches of {name}{kind}",
            value=log.size_bytes / _GIBIBYTE / took_s,
            unit="GiB/s",
            aim=">= 1",
            note="of one core, every checksum read",
        )


def _batches(batch_bytes: int, kind: str, offset: int, first_sequence: int) -> bytes:
    """A megabyte of batches of one record each, of all producers in turn unless they are plain."""
    value, data = os.urandom(batch_bytes), bytearray()
    for number in range(max(1, 1_000_000 // batch_bytes // _PRODUCERS) * _PRODUCERS):
        if kind == _PLAIN:
            data += encode_batch([(0, None, value, ())], base_offset=offset + number)
            continue
        round_number, producer = divmod(number, _PRODUCERS)
        data += encode_batch(
            [(0, None, value, ())],
            base_offset=offset + number,
            producer_id=producer,
            producer_epoch=0,
            base_sequence=first_sequence + round_number,
            transactional=kind == _TRANSACTIONAL,
        )
    return bytes(data)


def _open_log(folder: Path) -> Log:
    return Log.open(
        files=OsFileSystem(),
        directory=str(folder / "bench-0"),
        config=LogConfig(segment_bytes=_GIBIBYTE // 4),
        clean_shutdown=False,
    )


async def _open(count: int) -> list[Line]:
    runtime = production_runtime()
    with scratch_folder() as folder:
        settings = {"node.id": "1", "process.roles": "broker", "log.dirs": str(folder / "data")}
        config = parse(NodeConfig, settings)
        await _fill(runtime, config, count)
        started = time.perf_counter()
        logs = await _recovered(runtime, config)
        opened_s = time.perf_counter() - started
        logs.abandon()
        idle_bytes, open_files = await _idle(runtime, config, count)
    return [
        Figure(what=f"opening {count:,} clean partitions", value=opened_s, unit="s", aim="< 2"),
        Figure(
            what="memory of an idle partition",
            value=idle_bytes / count / 1000,
            unit="KB",
            aim="< 20",
            note=f"log and replica; {open_files} files open for {count:,}",
        ),
    ]


def _directories(runtime: Runtime, config: NodeConfig) -> OpenedDirectories:
    return open_directories(
        files=runtime.files,
        paths=config.log_dirs,
        cluster_id="bench",
        node_id=config.node_id,
        new_directory_id=runtime.random.uuid,
    )


async def _recovered(runtime: Runtime, config: NodeConfig) -> PartitionLogs:
    directories = _directories(runtime, config)
    logs = PartitionLogs(runtime=runtime, config=config, directories=directories.usable)
    await logs.recover()
    return logs


async def _fill(runtime: Runtime, config: NodeConfig, count: int) -> None:
    """Partitions with some records each, stopped in order."""
    logs = await _recovered(runtime, config)
    for name in _names(count):
        stored = logs.adopt(name, _TOPIC_ID, topic_config(config, {}))
        assert isinstance(stored, StoredLog), stored
        data = bytearray(encode_batch([(0, None, bytes(100), ())] * 10))
        stored.log.append_as_leader(data, leader_epoch=0, now_ms=0)
    await logs.close(high_watermarks={})
    # Without it the next opening would have to recover: the marker is taken each time.
    for path in config.log_dirs:
        marker = Path(path) / ".kafka_cleanshutdown"
        assert marker.exists()


async def _idle(runtime: Runtime, config: NodeConfig, count: int) -> tuple[int, int]:
    """Bytes that so many replicas keep, and how many descriptors."""
    logs = await _recovered(runtime, config)
    await logs.close(high_watermarks={})
    del logs
    gc.collect()
    files_before = _open_files()
    tracemalloc.start()
    logs = await _recovered(runtime, config)
    partitions = []
    for name in _names(count):
        stored = logs.adopt(name, _TOPIC_ID, topic_config(config, {}))
        assert isinstance(stored, StoredLog), stored
        partitions.append(
            Partition(name=name, topic_id=_TOPIC_ID, log=stored.log, high_watermark=stored.high_watermark)
        )
    gc.collect()
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    open_files = _open_files() - files_before
    logs.abandon()
    return kept_bytes, open_files


def _names(count: int) -> list[TopicPartition]:
    return [TopicPartition("bench", number) for number in range(count)]


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0
