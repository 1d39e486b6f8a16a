"""Records to bytes and back: the cost of one 100-byte record in a full batch. Knows the codec alone."""

import time
from collections.abc import Callable, Sequence

from glasslog.log.records import NewRecord, decode_fast, encode_batch

from benchmarks.report import Figure, Line

RECORD_BYTES = 100
RECORDS_PER_BATCH = 1_000
_ROUNDS, _QUICK_ROUNDS = 200, 20


def run(*, quick: bool) -> Sequence[Line]:
    """Encode and decode batches of 1,000 records without keys; the fastest of many rounds."""
    value = bytes(range(RECORD_BYTES))
    records: list[NewRecord] = [(1_700_000_000_000, None, value, ())] * RECORDS_PER_BATCH
    batch = bytes(encode_batch(records))
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    note = f"batches of {RECORDS_PER_BATCH:,}, CRC included"
    return [
        _figure("encode", lambda: encode_batch(records), rounds, note),
        _figure("decode", lambda: decode_fast(batch), rounds, note),
    ]


def _figure(what: str, work: Callable[[], object], rounds: int, note: str) -> Figure:
    best_ns = min(_duration_ns(work) for _ in range(rounds))
    return Figure(what=what, value=best_ns / RECORDS_PER_BATCH, unit="ns/record", note=note)


def _duration_ns(work: Callable[[], object]) -> int:
    started = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - started
