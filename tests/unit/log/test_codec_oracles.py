"""aiokafka and kafka-python on our batches, and we on theirs, with every compression; both codecs of ours.

Byte-for-byte equality with kafka-python is in ``test_log_codec``; here aiokafka's, and what each reads.
"""

import warnings
from collections.abc import Iterable

import pytest
from glasslog.log import records as records_module
from glasslog.log.batch import Compression, parse_header, set_base_offset_and_epoch
from glasslog.log.codec import Codec
from glasslog.log.record_types import NewRecord, RecordTuple
from glasslog.log.records import decode_fast, encode_batch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.log.codecs import BOTH

with warnings.catch_warnings():
    # Importing kafka-python uses a deprecated call of the standard library.
    warnings.simplefilter("ignore", DeprecationWarning)
    from aiokafka.record.default_records import (  # type: ignore[import-untyped]  # it ships no types
        DefaultRecordBatch as AioBatch,
    )
    from aiokafka.record.default_records import DefaultRecordBatchBuilder as AioBuilder
    from kafka.record.default_records import (  # type: ignore[import-untyped]  # it ships no types
        DefaultRecordBatch as KafkaPythonBatch,
    )
    from kafka.record.default_records import DefaultRecordBatchBuilder as KafkaPythonBuilder

blobs = st.binary(max_size=200)
records = st.tuples(
    st.integers(min_value=0, max_value=1 << 45),
    st.none() | blobs,
    st.none() | blobs,
    st.lists(st.tuples(st.text(max_size=10), st.none() | blobs), max_size=3).map(tuple),
)
record_lists = st.lists(records, min_size=1, max_size=30)
relaxed = settings(
    max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

READERS = [pytest.param(AioBatch, id="aiokafka"), pytest.param(KafkaPythonBatch, id="kafka-python")]
BUILDERS = [pytest.param(AioBuilder, id="aiokafka"), pytest.param(KafkaPythonBuilder, id="kafka-python")]

# kafka-python needs a package for each of these that it does not bring; aiokafka brings cramjam.
OF_KAFKA_PYTHON = (Compression.NONE, Compression.GZIP)


@pytest.fixture(params=BOTH)
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Codec:
    """Each codec of ours in turn, for what decodes whole batches."""
    chosen = request.param
    assert isinstance(chosen, Codec)
    monkeypatch.setattr(records_module, "CODEC", chosen)
    return chosen


def seen(batch: Iterable[object]) -> list[RecordTuple]:
    return [
        (r.offset, r.timestamp, r.key, r.value, tuple(r.headers))  # type: ignore[attr-defined]  # it ships no types
        for r in batch
    ]


def theirs(
    builder_class: type[AioBuilder], given_records: list[NewRecord], compression: Compression
) -> bytes:
    builder = builder_class(
        magic=2,
        compression_type=int(compression),
        is_transactional=1,
        producer_id=7,
        producer_epoch=1,
        base_sequence=3,
        batch_size=1 << 30,
    )
    for offset, (timestamp, key, value, headers) in enumerate(given_records):
        assert builder.append(offset, timestamp, key, value, list(headers)) is not None
    return bytes(builder.build())


@given(record_lists)
@relaxed
def test_encoding_is_byte_for_byte_what_aiokafka_writes(given_records: list[NewRecord]) -> None:
    expected = bytearray(theirs(AioBuilder, given_records, Compression.NONE))
    # aiokafka leaves the leader epoch at 0, which the leader overwrites anyway.
    set_base_offset_and_epoch(expected, 0, base_offset=0, leader_epoch=-1)
    ours = encode_batch(given_records, producer_id=7, producer_epoch=1, base_sequence=3, transactional=True)
    assert ours == expected


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("compression", Compression)
@given(record_lists)
@relaxed
def test_they_read_what_we_write(
    reader: type[AioBatch], compression: Compression, given_records: list[NewRecord]
) -> None:
    if reader is KafkaPythonBatch and compression not in OF_KAFKA_PYTHON:
        return
    batch = encode_batch(given_records, base_offset=40, compression=compression)
    read = reader(bytes(batch))
    assert read.validate_crc()
    assert seen(read) == [(40 + number, *record) for number, record in enumerate(given_records)]


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("compression", Compression)
@given(record_lists)
@relaxed
def test_we_read_what_they_write(
    codec: Codec, builder: type[AioBuilder], compression: Compression, given_records: list[NewRecord]
) -> None:
    if builder is KafkaPythonBuilder and compression not in OF_KAFKA_PYTHON:
        return
    batch = theirs(builder, given_records, compression)
    assert parse_header(batch).is_transactional
    assert decode_fast(batch) == [(number, *record) for number, record in enumerate(given_records)]
