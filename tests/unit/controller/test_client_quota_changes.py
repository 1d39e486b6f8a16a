"""Limits on clients: what is refused, what is written, and that it is the image's."""

import pytest
from glasslog.common.errors import ErrorCode
from glasslog.controller.admin_requests import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    QuotaEdits,
    QuotaOutcome,
)
from glasslog.metadata.quotas import QuotaEntity

from tests.unit.controller.controller_bench import Bench

RATE = "producer_byte_rate"
ANN: QuotaEntity = (("user", "ann"),)
EVERYBODY: QuotaEntity = (("user", None),)


@pytest.fixture
def bench() -> Bench:
    result = Bench()
    result.start(1)
    return result


def alter(
    bench: Bench, *entries: tuple[QuotaEntity, dict[str, float | None]], validate_only: bool = False
) -> tuple[QuotaOutcome, ...]:
    request = AlterClientQuotasRequest(
        entries=tuple(QuotaEdits(entity=entity, limits=tuple(limits.items())) for entity, limits in entries),
        validate_only=validate_only,
    )
    return bench.ask(request, AlterClientQuotasResponse).entries


def test_limits_are_set_changed_and_removed(bench: Bench) -> None:
    both: QuotaEntity = (("user", "ann"), ("client-id", "c"))
    assert alter(bench, (ANN, {RATE: 10.0, "request_percentage": 5.0}), (both, {RATE: 3.0})) == (
        QuotaOutcome(),
        QuotaOutcome(),
    )
    assert bench.image.quotas == {
        ANN: {RATE: 10.0, "request_percentage": 5.0},
        (("client-id", "c"), ("user", "ann")): {RATE: 3.0},
    }
    alter(bench, (ANN, {RATE: None, "request_percentage": 6.0}), (both, {RATE: None}))
    assert bench.image.quotas == {ANN: {"request_percentage": 6.0}}
    before = bench.image.offset
    assert alter(bench, (EVERYBODY, {RATE: None})) == (QuotaOutcome(),), "nothing to remove"
    assert bench.image.offset == before


def test_an_entity_is_changed_whole_or_not_at_all_whatever_becomes_of_the_others(bench: Bench) -> None:
    bad, good = alter(bench, (ANN, {RATE: 10.0, "nonsense": 1.0}), (EVERYBODY, {RATE: 1.0}))
    assert bad.error_code is ErrorCode.INVALID_REQUEST
    assert "unknown client quota 'nonsense'" in bad.error_message
    assert good == QuotaOutcome()
    assert bench.image.quotas == {EVERYBODY: {RATE: 1.0}}


def test_an_entity_named_twice_is_refused_both_times(bench: Bench) -> None:
    first: QuotaEntity = (("user", "ann"), ("client-id", None))
    second: QuotaEntity = (("client-id", None), ("user", "ann"))
    outcomes = alter(bench, (first, {RATE: 10.0}), (second, {RATE: 11.0}))
    assert [each.error_code for each in outcomes] == [ErrorCode.INVALID_REQUEST] * 2
    assert bench.image.quotas == {}


def test_what_is_only_validated_changes_nothing(bench: Bench) -> None:
    assert alter(bench, (ANN, {RATE: 10.0}), validate_only=True) == (QuotaOutcome(),)
    assert bench.image.quotas == {}
