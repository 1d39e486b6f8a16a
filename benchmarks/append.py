"""Appending to a log, against bare ``os.write`` of the same bytes to a file: what checks and indexes cost.

Into the page cache; nothing is synced. Processor time, all ways in turns: other work on the machine and the
disk's write-back would hide what is compared. Knows the log alone, no broker.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.common.runtime.protocols import Buffer
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.records import NewRecord, encode_batch

from benchmarks.measuring import scratch_folder
from benchmarks.report import Figure, Line

_RECORD_BYTES = 100
_SIZES = (("16 KB", 16_000, "<= 2"), ("1 MB", 1_000_000, "<= 1.3"))
_ROUND_BYTES = 24_000_000
_ROUNDS, _QUICK_ROUNDS = 15, 3


def run(*, quick: bool) -> Sequence[Line]:
    """Both ways in turns, for two sizes of batches; of several rounds each way's best.

    Processor time beyond the best is what a neighbour's work did to the caches, not what the way costs.
    """
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    return [line for name, size_bytes, aim in _SIZES for line in _compare(name, size_bytes, rounds, aim)]


def _compare(name: str, size_bytes: int, rounds: int, aim: str) -> list[Line]:
    batch = _batch_of(size_bytes)
    count = _ROUND_BYTES // len(batch)
    bare: list[float] = []
    owned: list[float] = []
    shared: list[float] = []
    for _ in range(rounds):
        with scratch_folder() as folder:
            bare.append(_write_bare(folder, bytes(batch), count))
        with scratch_folder() as folder:
            owned.append(_append(folder, batch, count))
        with scratch_folder() as folder:
            shared.append(_append(folder, bytes(batch), count))
    bare_us, owned_us, shared_us = (min(each) / count * 1e6 for each in (bare, owned, shared))
    return [
        Figure(what=f"append of {name}", value=shared_us, unit="us", note=f"os.write: {bare_us:.1f} us"),
        Figure(what=f"append of {name} / os.write", value=shared_us / bare_us, unit="times", aim=aim),
        Figure(
            what=f"append of {name} / os.write",
            value=owned_us / bare_us,
            unit="times",
            aim=aim,
            note="numbered in place",
        ),
    ]


def _batch_of(size_bytes: int) -> bytearray:
    value = bytes(_RECORD_BYTES)
    record: NewRecord = (1_700_000_000_000, None, value, ())
    per_record = len(encode_batch([record] * 1_000)) // 1_000
    return bytearray(encode_batch([record] * (size_bytes // per_record)))


def _write_bare(folder: Path, batch: bytes, count: int) -> float:
    descriptor = os.open(folder / "bare", os.O_CREAT | os.O_WRONLY)
    try:
        os.write(descriptor, batch)
        started = time.process_time()
        for _ in range(count):
            os.write(descriptor, batch)
        return time.process_time() - started
    finally:
        os.close(descriptor)


def _append(folder: Path, batch: Buffer, count: int) -> float:
    log = Log.open(
        files=OsFileSystem(), directory=str(folder / "bench-0"), config=LogConfig(), clean_shutdown=True
    )
    try:
        # The first append writes where the leader epoch begins; that is not what is measured.
        log.append_as_leader(batch, leader_epoch=0, now_ms=1_700_000_000_000)
        started = time.process_time()
        for _ in range(count):
            log.append_as_leader(batch, leader_epoch=0, now_ms=1_700_000_000_000)
        return time.process_time() - started
    finally:
        log.close()
