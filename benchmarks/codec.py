"""Records to bytes and back: the cost of one 100-byte record in a full batch, ours beside other clients'.

Also what compaction does to a batch. Knows the codec alone.
"""

import importlib
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from glasslog.log.batch import HEADER_BYTES, MAGIC, NO_SEQUENCE, BatchHeader, parse_header
from glasslog.log.codec import COMPILED, DESCRIPTION, PURE, Codec
from glasslog.log.compression import DEFAULT_MAX_BYTES
from glasslog.log.record_types import NewRecord
from glasslog.log.records import encode_batch, open_body, seal_batch

from benchmarks.report import Figure, Line, Skipped

RECORD_BYTES = 100
RECORDS_PER_BATCH = 1_000
_ROUNDS, _QUICK_ROUNDS = 200, 20
_NOTE = f"batches of {RECORDS_PER_BATCH:,}, CRC included"
_CLIENTS = ("aiokafka", "kafka")
_AIMS = {"compiled": ("<= 60", "<= 110"), "pure Python": ("<= 400", "<= 700")}


def run(*, quick: bool) -> Sequence[Line]:
    """Batches of 1,000 records, without keys and with; the fastest of many rounds."""
    rounds = _QUICK_ROUNDS if quick else _ROUNDS
    value = bytes(range(RECORD_BYTES))
    records: list[NewRecord] = [(1_700_000_000_000, None, value, ())] * RECORDS_PER_BATCH
    lines: list[Line] = []
    for name, codec in (("compiled", COMPILED), ("pure Python", PURE)):
        if codec is None:
            lines.append(Skipped(what=name, reason=DESCRIPTION))
        else:
            lines += _ours(codec, records, rounds)
    for client in _CLIENTS:
        lines += _theirs(client, records, rounds)
    return lines


def _ours(codec: Codec, records: list[NewRecord], rounds: int) -> list[Line]:
    batch = bytes(encode_batch(records))
    encode_aim, decode_aim = _AIMS[codec.name]
    keyed = [(stamp, b"key-%d" % number, value, ()) for number, (stamp, _, value, _) in enumerate(records)]
    keyed_batch = encode_batch(keyed)
    header, body = parse_header(keyed_batch), bytes(keyed_batch[HEADER_BYTES:])
    half = bytes((1, 0)) * (RECORDS_PER_BATCH // 2)

    def compact() -> None:
        codec.read_keys(body, header)
        codec.select_records(body, header, half, header.base_timestamp)

    compacted_mb_s = len(keyed_batch) / _best_ns(compact, rounds) * 1_000
    return [
        _figure(f"encode, {codec.name}", lambda: _encode(codec, records), rounds, encode_aim),
        _figure(f"decode, {codec.name}", lambda: _decode(codec, batch), rounds, decode_aim),
        Figure(
            what=f"keys, then every second record, {codec.name}",
            value=compacted_mb_s,
            unit="MB/s",
            note="of keyed 100-byte records: what compaction does to a batch, without its map of keys",
        ),
    ]


def _encode(codec: Codec, records: list[NewRecord]) -> bytearray:
    """As ``encode_batch`` does it with the codec in use."""
    encoder = codec.encoder()
    encoder.extend_many(records)
    header = BatchHeader(
        base_offset=0,
        batch_length=0,
        partition_leader_epoch=-1,
        magic=MAGIC,
        crc=0,
        attributes=0,
        last_offset_delta=encoder.record_count - 1,
        base_timestamp=encoder.base_timestamp,
        max_timestamp=encoder.max_timestamp,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=NO_SEQUENCE,
        record_count=encoder.record_count,
    )
    return seal_batch(header, encoder.body())


def _decode(codec: Codec, batch: bytes) -> object:
    """As ``decode_fast`` does it with the codec in use."""
    header, body = open_body(batch, 0, max_bytes=DEFAULT_MAX_BYTES)
    return codec.decode_body(body, header)


def _theirs(client: str, records: list[NewRecord], rounds: int) -> list[Line]:
    name = {"kafka": "kafka-python"}.get(client, client)
    try:
        with warnings.catch_warnings():
            # Importing kafka-python uses a deprecated call of the standard library.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = importlib.import_module(f"{client}.record.default_records")
    except ImportError:
        return [Skipped(what=name, reason="not installed: a tool of development")]
    batch = bytes(encode_batch(records))
    return [
        _figure(f"encode, {name}", lambda: _encode_theirs(module, records), rounds),
        _figure(f"decode, {name}", lambda: _decode_theirs(module, batch), rounds),
    ]


def _encode_theirs(module: Any, records: list[NewRecord]) -> object:
    """``module`` has no types: it is another client's."""
    builder = module.DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for offset, (timestamp, key, value, _) in enumerate(records):
        builder.append(offset, timestamp, key, value, [])
    return builder.build()


def _decode_theirs(module: Any, batch: bytes) -> object:
    read = module.DefaultRecordBatch(batch)
    read.validate_crc()
    return list(read)


def _figure(what: str, work: Callable[[], object], rounds: int, aim: str = "") -> Figure:
    value = _best_ns(work, rounds) / RECORDS_PER_BATCH
    return Figure(what=what, value=value, unit="ns/record", aim=aim, note=_NOTE)


def _best_ns(work: Callable[[], object], rounds: int) -> int:
    return min(_duration_ns(work) for _ in range(rounds))


def _duration_ns(work: Callable[[], object]) -> int:
    started = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - started
