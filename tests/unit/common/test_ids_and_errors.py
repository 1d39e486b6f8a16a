"""Identifiers print and parse as Kafka's; errors know whether trying again can help."""

import pytest
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError, InvariantViolation, require
from glasslog.common.ids import TopicPartition, format_uuid, parse_uuid
from hypothesis import given
from hypothesis import strategies as st


@given(value=st.binary(min_size=16, max_size=16))
def test_an_id_survives_its_text(value: bytes) -> None:
    assert len(format_uuid(value)) == 22
    assert parse_uuid(format_uuid(value)) == value


@pytest.mark.parametrize("text", ["", "short", "x" * 40, "AAAAAAAAAAAAAAAAAAAAA*"])
def test_other_texts_are_no_ids(text: str) -> None:
    with pytest.raises(ValueError, match="id"):
        parse_uuid(text)


def test_error_numbers_are_kafkas() -> None:
    assert ErrorCode(6) is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert ErrorCode(45) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert ErrorCode.NOT_ENOUGH_REPLICAS.retriable
    assert not ErrorCode.MESSAGE_TOO_LARGE.retriable
    assert GlasslogError(ErrorCode.NOT_CONTROLLER).retriable
    assert str(GlasslogError(ErrorCode.NOT_CONTROLLER)) == "NOT_CONTROLLER"
    assert ConfigError("x").code is ErrorCode.INVALID_CONFIG


def test_require() -> None:
    require(True, "never")
    with pytest.raises(InvariantViolation, match="why"):
        require(False, "why")


def test_a_partition_prints_as_its_folder() -> None:
    assert str(TopicPartition("a-b", 3)) == "a-b-3"
