"""The checker on histories made up by hand: silent on a clean one, and it names each kind of corruption."""

from collections.abc import Callable, Sequence

import pytest
from glasslog.common.ids import TopicPartition
from glasslog.simulator.checker.history import History, Polled, Sent, check

PARTITION = TopicPartition("t", 0)
ALL = [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
Records = Sequence[tuple[int, str]]


def polled(consumer: str, records: Records) -> Polled:
    return Polled(consumer=consumer, partition=PARTITION, records=tuple(records))


def clean() -> History:
    """One producer sent a to d, all acknowledged; two consumers and a last one read everything."""
    history = History(assigned=["alone"], groups={"g": ["member"]})
    for offset, value in ALL:
        history.sent[value] = Sent(
            value=value,
            producer="p",
            number=offset,
            partition=PARTITION,
            validated=True,
            offset=offset,
            is_acknowledged=True,
        )
    history.polled = [polled("alone", ALL[:2]), polled("alone", ALL[2:]), polled("member", ALL)]
    history.final = [polled("last", ALL)]
    return history


def kinds(history: History) -> set[str]:
    return {anomaly.kind for anomaly in check(history)}


def test_a_clean_history_has_no_anomaly() -> None:
    assert check(clean()) == []


def test_an_unknown_outcome_may_be_in_the_log_or_not() -> None:
    history = clean()
    history.sent["d"].is_acknowledged, history.sent["d"].offset = False, -1
    assert check(history) == []
    for polls in (history.polled, history.final):
        polls[:] = [polled(each.consumer, [r for r in each.records if r[1] != "d"]) for each in polls]
    assert check(history) == []


def lose_in_the_end(history: History) -> None:
    history.final = [polled("last", [ALL[0], ALL[1], ALL[3]])]


def lose_everywhere(history: History) -> None:
    history.polled = [polled("alone", [ALL[0], ALL[1], ALL[3]]), polled("member", [ALL[0], ALL[1], ALL[3]])]
    lose_in_the_end(history)


def overwrite(history: History) -> None:
    history.final = [polled("last", [ALL[0], (1, "c"), ALL[2], ALL[3]])]


def double(history: History) -> None:
    history.final = [polled("last", [*ALL, (4, "b")])]


def invent(history: History) -> None:
    history.final = [polled("last", [*ALL, (4, "nobody sent this")])]


def swap(history: History) -> None:
    history.sent["a"].number, history.sent["b"].number = 1, 0


def skip_between_polls(history: History) -> None:
    history.polled[0] = polled("alone", ALL[:1])


def skip_within_a_poll(history: History) -> None:
    history.polled[2] = polled("member", [ALL[0], *ALL[2:]])


def go_back_between_polls(history: History) -> None:
    history.polled[1] = polled("alone", ALL[1:])


def go_back_within_a_poll(history: History) -> None:
    history.polled[2] = polled("member", [*ALL, ALL[0]])


def hide_from_the_group(history: History) -> None:
    del history.polled[2]


@pytest.mark.parametrize(
    ("corrupt", "kind"),
    [
        (lose_in_the_end, "unseen"),
        (lose_in_the_end, "vanished"),
        (lose_everywhere, "lost-write"),
        (overwrite, "inconsistent-offsets"),
        (overwrite, "vanished"),
        (double, "duplicate"),
        (invent, "never-sent"),
        (swap, "nonmonotonic-send"),
        (skip_between_polls, "poll-skip of alone"),
        (skip_within_a_poll, "int-poll-skip of member"),
        (go_back_between_polls, "nonmonotonic-poll of alone"),
        (go_back_within_a_poll, "int-nonmonotonic-poll of member"),
        (hide_from_the_group, "unseen by group g"),
    ],
)
def test_a_corrupted_history_is_named(corrupt: Callable[[History], None], kind: str) -> None:
    history = clean()
    corrupt(history)
    assert kind in kinds(history)


def test_what_a_careless_producer_lost_is_no_anomaly_until_somebody_saw_it() -> None:
    history = clean()
    history.sent["e"] = Sent(
        value="e",
        producer="careless",
        number=0,
        partition=PARTITION,
        validated=False,
        offset=2,
        is_acknowledged=True,
    )
    assert check(history) == []
    history.polled.append(polled("member", [(4, "e")]))
    assert "vanished" in kinds(history)
