"""Keys land where every other Kafka client puts them."""

import warnings

import pytest
from glasslog.client.partitioner import CheckedPartitioner, DefaultPartitioner, murmur2
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.basics import SeededRandom
from hypothesis import given
from hypothesis import strategies as st

with warnings.catch_warnings():
    # Importing kafka-python uses a deprecated call of the standard library.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.partitioner.default import murmur2 as kafka_murmur2  # type: ignore[import-untyped]  # no types

# From Kafka's own UtilsTest.
GOLDEN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), GOLDEN.items())
def test_murmur2_gives_kafkas_values(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed % 2**32


@given(st.binary(max_size=64))
def test_murmur2_agrees_with_kafka_python(data: bytes) -> None:
    assert murmur2(data) == kafka_murmur2(data)


def test_a_key_stays_on_its_partition() -> None:
    partitioner = DefaultPartitioner(SeededRandom(1))
    first = [partitioner.choose("t", f"key-{n}".encode(), 6) for n in range(100)]
    assert first == [partitioner.choose("t", f"key-{n}".encode(), 6) for n in range(100)]
    assert first == [(kafka_murmur2(f"key-{n}".encode()) & 0x7FFFFFFF) % 6 for n in range(100)]


def test_without_a_key_the_partition_changes_with_the_batch_only() -> None:
    partitioner = DefaultPartitioner(SeededRandom(1))
    seen: list[int] = []
    for _ in range(200):
        chosen = {partitioner.choose("t", None, 6) for _ in range(10)}
        assert len(chosen) == 1
        seen += chosen
        partitioner.on_new_batch("t", seen[-1])
    assert set(seen) == set(range(6))


def test_a_users_partitioner_is_held_to_the_range() -> None:
    partitioner = CheckedPartitioner(lambda topic, key, count: count)
    with pytest.raises(GlasslogError, match="chose partition 3 of 't', which has 3") as caught:
        partitioner.choose("t", b"k", 3)
    assert caught.value.code is ErrorCode.INVALID_PARTITIONS
