"""A log with everything in it, written by us: codecs, headers, nulls, producers, transactions, segments.

The folder ``ours`` beside this file holds one, and what Kafka said of it; see the README there.
"""

from glasslog.common.runtime.protocols import FileSystem
from glasslog.log.batch import Compression
from glasslog.log.config import LogConfig
from glasslog.log.log import Log
from glasslog.log.records import Headers, NewRecord, encode_batch

START_MS = 1_700_000_000_000
_HEADERS: Headers = (("trace", b"abc"), ("none", None))
_ABORT, _COMMIT = b"\0\0\0\0", b"\0\0\0\1"
_MARKER_VALUE = b"\0\0\0\0\0\7"


def write_our_log(files: FileSystem, folder: str) -> Log:
    """Write the log, ended in order; it has three segments and four leader epochs."""
    config = LogConfig(segment_bytes=1200, index_interval_bytes=100)
    log = Log.open(files=files, directory=folder, config=config, clean_shutdown=True)
    for number, compression in enumerate(list(Compression) * 3):
        batch = encode_batch(
            _records(START_MS + number * 10),
            compression=compression,
            producer_id=5,
            producer_epoch=0,
            base_sequence=number * 4,
        )
        log.append_as_leader(batch, leader_epoch=number // 6, now_ms=START_MS)
    _transaction(log, sequence=0, ending=_COMMIT)
    _transaction(log, sequence=1, ending=_ABORT)
    log.close()
    return log


def _records(time_ms: int) -> list[NewRecord]:
    return [
        (time_ms, None, b"no key", ()),
        (time_ms + 1, b"k1", b"with headers", _HEADERS),
        (time_ms + 2, b"k2", None, ()),
        (time_ms + 3, b"k3", b"many words " * 6, ()),
    ]


def _transaction(log: Log, *, sequence: int, ending: bytes) -> None:
    """One record of producer 9, and the marker that ends its transaction."""
    written = encode_batch(
        [(START_MS + 500, b"in", b"a transaction", ())],
        producer_id=9,
        producer_epoch=1,
        base_sequence=sequence,
        transactional=True,
    )
    log.append_as_leader(written, leader_epoch=3, now_ms=START_MS)
    marker = encode_batch(
        [(START_MS + 501, ending, _MARKER_VALUE, ())],
        producer_id=9,
        producer_epoch=1,
        transactional=True,
        control=True,
    )
    log.append_as_leader(marker, leader_epoch=3, now_ms=START_MS, origin_is_client=False)
