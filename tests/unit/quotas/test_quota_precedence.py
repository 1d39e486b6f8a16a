"""Which limit holds for whom, what may be asked for, and how much may be used by when."""

import pytest
from glasslog.broker.partition.rate_quota import RateQuota
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.metadata.quotas import (
    CONSUMER_BYTE_RATE,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    Match,
    Quota,
    QuotaEntity,
    QuotaFilter,
    check_limit,
    entity_of,
    matching,
    quota_for,
)
from hypothesis import example, given
from hypothesis import strategies as st

RATE = PRODUCER_BYTE_RATE
BY_PRECEDENCE: list[tuple[QuotaEntity, tuple[str, str]]] = [
    ((("client-id", "c"), ("user", "u")), ("u", "c")),
    ((("client-id", None), ("user", "u")), ("u", "c")),
    ((("user", "u"),), ("u", "")),
    ((("client-id", "c"), ("user", None)), ("u", "c")),
    ((("client-id", None), ("user", None)), ("u", "c")),
    ((("user", None),), ("u", "")),
    ((("client-id", "c"),), ("", "c")),
    ((("client-id", None),), ("", "c")),
]
"""As Kafka's documentation has it, and who share the limit."""


@pytest.mark.parametrize("rank", range(len(BY_PRECEDENCE)))
def test_the_most_specific_limit_holds(rank: int) -> None:
    limits = {entity: {RATE: float(place + 1)} for place, (entity, _) in enumerate(BY_PRECEDENCE)}
    kept = {entity: limits[entity] for entity, _ in BY_PRECEDENCE[rank:]}
    shared_by = BY_PRECEDENCE[rank][1]
    assert quota_for(kept, RATE, user="u", client_id="c") == Quota(*shared_by, limit=rank + 1)


def test_each_kind_of_limit_is_looked_up_by_itself() -> None:
    limits = {
        (("client-id", "c"), ("user", "u")): {PRODUCER_BYTE_RATE: 1.0},
        (("client-id", None),): {CONSUMER_BYTE_RATE: 2.0},
    }
    assert quota_for(limits, CONSUMER_BYTE_RATE, user="u", client_id="c") == Quota("", "c", 2.0)
    assert quota_for(limits, REQUEST_PERCENTAGE, user="u", client_id="c") is None


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([], "names nobody"),
        ([("ip", "1.2.3.4")], "not for a 'ip'"),
        ([("user", "")], "an empty user"),
        ([("user", "a"), ("user", None)], "names a type twice"),
    ],
)
def test_entities_that_are_none_are_refused(parts: list[tuple[str, str | None]], why: str) -> None:
    with pytest.raises(GlasslogError, match=why) as caught:
        entity_of(parts)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("key", "limit", "why"),
    [
        ("producer_bytes", 1.0, "unknown client quota 'producer_bytes'"),
        (RATE, 0.0, "greater than 0"),
        (RATE, float("nan"), "greater than 0"),
        (RATE, float("inf"), "greater than 0"),
        (RATE, 1.5, "whole number"),
    ],
)
def test_limits_that_are_none_are_refused(key: str, limit: float, why: str) -> None:
    with pytest.raises(GlasslogError, match=why):
        check_limit(key, limit)
    check_limit(REQUEST_PERCENTAGE, 12.5)


USER_A: QuotaEntity = (("user", "a"),)
USER_DEFAULT: QuotaEntity = (("user", None),)
BOTH: QuotaEntity = (("client-id", "c"), ("user", "a"))


@pytest.mark.parametrize(
    ("filters", "strict", "expected"),
    [
        ([], False, [USER_A, USER_DEFAULT, BOTH]),
        ([], True, []),
        ([QuotaFilter(kind="user", match=Match.EXACT, name="a")], False, [USER_A, BOTH]),
        ([QuotaFilter(kind="user", match=Match.EXACT, name="a")], True, [USER_A]),
        ([QuotaFilter(kind="user", match=Match.DEFAULT)], False, [USER_DEFAULT]),
        ([QuotaFilter(kind="user", match=Match.ANY)], True, [USER_A, USER_DEFAULT]),
        ([QuotaFilter(kind="client-id", match=Match.ANY)], False, [BOTH]),
        ([QuotaFilter(kind="client-id", match=Match.EXACT, name="d")], False, []),
    ],
)
def test_what_is_looked_for_is_found(
    filters: list[QuotaFilter], strict: bool, expected: list[QuotaEntity]
) -> None:
    quotas = {entity: {RATE: 1.0} for entity in (USER_A, USER_DEFAULT, BOTH)}
    assert list(matching(quotas, filters, strict=strict)) == expected


def test_filters_that_make_no_sense_are_refused() -> None:
    for filters in (
        [QuotaFilter(kind="group", match=Match.ANY)],
        [QuotaFilter(kind="user", match=Match.ANY), QuotaFilter(kind="user", match=Match.DEFAULT)],
    ):
        with pytest.raises(GlasslogError):
            matching({}, filters, strict=False)


@given(
    uses=st.lists(st.tuples(st.integers(1, 50_000), st.integers(0, 3_000)), min_size=1, max_size=30),
    rate=st.integers(1, 100_000),
    burst_ms=st.integers(0, 10_000),
)
@example(uses=[(8390, 0), (1, 398)], rate=1, burst_ms=26)
def test_who_waits_as_told_uses_the_rate_and_one_burst(
    uses: list[tuple[int, int]], rate: int, burst_ms: int
) -> None:
    """Once what was left of a debt by rounding, a billionth of a byte, made it a millisecond more."""
    quota, now_ms, used = RateQuota(burst_ms=burst_ms), 1_000, 0
    for amount, idle_ms in uses:
        now_ms += idle_ms + quota.delay_ms(per_second=rate, now_ms=now_ms + idle_ms)
        assert quota.delay_ms(per_second=rate, now_ms=now_ms) == 0
        assert used <= rate * (now_ms - 1_000 + burst_ms) / 1_000 + 1e-6
        quota.record(amount, per_second=rate, now_ms=now_ms)
        used += amount


def test_credit_is_for_the_burst_and_no_longer() -> None:
    quota = RateQuota(burst_ms=10_000)
    assert quota.is_rested(per_second=100, now_ms=5_000)
    quota.record(1_000, per_second=100, now_ms=5_000)
    assert (quota.delay_ms(per_second=100, now_ms=5_000), quota.is_rested(per_second=100, now_ms=5_000)) == (
        0,
        False,
    )
    quota.record(100, per_second=100, now_ms=5_000)
    assert quota.delay_ms(per_second=100, now_ms=5_000) == 1_000
    quota.record(-100, per_second=100, now_ms=5_000)
    assert quota.delay_ms(per_second=100, now_ms=5_000) == 0
    assert quota.is_rested(per_second=100, now_ms=1_000_000)
    quota.record(1_001, per_second=100, now_ms=1_000_000)
    assert quota.delay_ms(per_second=100, now_ms=1_000_000) == 10
