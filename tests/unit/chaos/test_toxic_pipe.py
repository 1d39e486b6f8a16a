"""The pipe of one proxied direction, on time that the test gives it."""

from collections.abc import Sequence
from random import Random

import pytest
from glasslog.chaos.toxiproxy.pipe import Close, Data, End, Event, Pipe
from glasslog.chaos.toxiproxy.toxics import (
    Attributes,
    Bandwidth,
    Direction,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)
from hypothesis import given
from hypothesis import strategies as st


def toxic(attributes: Attributes, *, name: str = "", toxicity: float = 1.0) -> Toxic:
    return Toxic(
        name=name or type(attributes).__name__,
        direction=Direction.UPSTREAM,
        toxicity=toxicity,
        attributes=attributes,
    )


def pipe(*attributes: Attributes) -> Pipe:
    return Pipe(toxics=[toxic(each) for each in attributes], random=Random(1), now_s=0.0)


def drain(subject: Pipe, *, until_s: float = 1e9) -> list[tuple[float, Event]]:
    """Everything that comes out, with its time."""
    out: list[tuple[float, Event]] = []
    while (due_s := subject.next_s()) is not None and due_s <= until_s:
        events = subject.take(now_s=due_s)
        out.extend((round(due_s, 6), event) for event in events)
        if any(isinstance(event, End | Close) for event in events):
            break
    return out


def data(events: Sequence[tuple[float, Event]]) -> bytes:
    return b"".join(event.data for _, event in events if isinstance(event, Data))


def test_without_toxics_bytes_pass_at_once() -> None:
    subject = pipe()
    subject.push(b"one", now_s=1.0)
    subject.end(now_s=2.0)
    assert drain(subject) == [(1.0, Data(b"one")), (2.0, End())]


def test_latency_counts_from_arrival_so_that_a_stream_is_late_but_not_slow() -> None:
    subject = pipe(Latency(latency=500))
    for second in range(3):
        subject.push(b"x", now_s=second / 10)
    assert [time for time, _ in drain(subject)] == [0.5, 0.6, 0.7]


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20), st.integers(0, 1000), st.integers(0, 1000))
def test_jitter_never_reorders(gaps: list[int], latency: int, jitter: int) -> None:
    subject = pipe(Latency(latency=latency, jitter=jitter))
    now_s, sent = 0.0, b""
    for number, gap in enumerate(gaps):
        now_s += gap / 1_000
        subject.push(bytes([number]), now_s=now_s)
        sent += bytes([number])
    assert data(drain(subject)) == sent
    assert subject.waiting_bytes == 0


def test_a_narrow_line_passes_its_rate_in_steady_steps() -> None:
    subject = pipe(Bandwidth(rate=10))
    subject.push(bytes(10_000), now_s=0.0)
    out = drain(subject)
    assert [time for time, _ in out] == [round(step / 10, 6) for step in range(1, 11)]
    subject.push(b"x" * 5_000, now_s=1.0)
    assert drain(subject)[-1][0] == 1.5


def test_a_line_without_rate_passes_nothing() -> None:
    subject = pipe(Bandwidth(rate=0))
    subject.push(b"x", now_s=0.0)
    assert subject.next_s() is None
    assert subject.waiting_bytes == 1


def test_slow_close_delays_only_the_end() -> None:
    subject = pipe(SlowClose(delay=2_000))
    subject.push(b"x", now_s=0.0)
    subject.end(now_s=1.0)
    assert drain(subject) == [(0.0, Data(b"x")), (3.0, End())]


def test_timeout_swallows_and_closes_after_silence() -> None:
    subject = pipe(Timeout(timeout=1_000))
    subject.push(b"x", now_s=0.4)
    assert subject.take(now_s=1.0) == []
    assert subject.next_s() == pytest.approx(1.4)
    assert subject.take(now_s=1.4) == [Close()]
    assert subject.waiting_bytes == 0


def test_timeout_of_zero_swallows_for_ever() -> None:
    subject = pipe(Timeout(timeout=0))
    subject.push(b"x", now_s=0.0)
    assert subject.next_s() is None


def test_what_a_removed_timeout_swallowed_is_missing_so_the_connection_has_to_go() -> None:
    subject = pipe(Timeout(timeout=0), Latency(latency=1))
    assert subject.drops_connection_without([toxic(Latency(latency=1))])
    assert not subject.drops_connection_without([toxic(Timeout(timeout=0))])


def test_reset_peer_resets_after_the_first_bytes() -> None:
    subject = pipe(ResetPeer(timeout=300))
    assert subject.next_s() is None
    subject.push(b"x", now_s=1.0)
    assert drain(subject) == [(1.3, Close(reset=True))]


def test_limit_data_closes_after_its_bytes() -> None:
    subject = pipe(LimitData(bytes=5))
    subject.push(b"abc", now_s=0.0)
    subject.push(b"defg", now_s=1.0)
    assert drain(subject) == [(0.0, Data(b"abc")), (1.0, Data(b"de")), (1.0, Close())]


@given(st.binary(max_size=200), st.integers(1, 30), st.data())
def test_slices_are_near_their_size_and_make_up_the_whole(
    sent: bytes, average: int, draw: st.DataObject
) -> None:
    variation = draw.draw(st.integers(0, average - 1))
    subject = pipe(Slicer(average_size=average, size_variation=variation, delay=1_000))
    subject.push(sent, now_s=0.0)
    out = drain(subject)
    assert data(out) == sent
    pieces = [len(event.data) for _, event in out if isinstance(event, Data)]
    assert all(average - variation <= size <= average + variation for size in pieces[:-1])
    assert [time for time, _ in out] == [round(number / 1_000, 6) for number in range(len(out))]


def test_a_new_toxic_acts_on_what_waits_and_drops_nothing() -> None:
    subject = pipe(Latency(latency=10_000))
    subject.push(b"ab", now_s=0.0)
    subject.push(b"cd", now_s=1.0)
    assert subject.next_s() == 10.0
    subject.set_toxics([], now_s=2.0)
    assert data([(2.0, event) for event in subject.take(now_s=2.0)]) == b"abcd"


def test_a_toxic_that_stays_keeps_its_count() -> None:
    subject = pipe(LimitData(bytes=5))
    subject.push(b"abc", now_s=0.0)
    subject.take(now_s=0.0)
    subject.set_toxics([toxic(LimitData(bytes=5)), toxic(Latency(latency=1_000))], now_s=1.0)
    subject.push(b"defg", now_s=1.0)
    assert drain(subject) == [(2.0, Data(b"de")), (2.0, Close())]


def test_toxicity_is_the_share_of_connections() -> None:
    random = Random(7)
    late = 0
    for _ in range(1_000):
        subject = Pipe(toxics=[toxic(Latency(latency=1_000), toxicity=0.25)], random=random, now_s=0.0)
        subject.push(b"x", now_s=0.0)
        late += subject.next_s() == 1.0
    assert 200 < late < 300


@given(
    st.lists(
        st.sampled_from(
            [
                Latency(latency=5, jitter=3),
                Bandwidth(rate=1),
                Slicer(average_size=3, size_variation=2),
                SlowClose(delay=9),
            ]
        ),
        max_size=4,
    ),
    st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    st.lists(st.integers(0, 3), max_size=4),
)
def test_no_mix_of_harmless_toxics_loses_or_reorders(
    mix: list[Attributes], chunks: list[bytes], cuts: list[int]
) -> None:
    toxics = [toxic(each, name=f"{number}") for number, each in enumerate(mix)]
    subject = Pipe(toxics=toxics, random=Random(3), now_s=0.0)
    out = b""
    for number, chunk in enumerate(chunks):
        subject.push(chunk, now_s=number / 100)
        if number < len(cuts):
            subject.set_toxics(toxics[: cuts[number]], now_s=number / 100)
        out += data([(0.0, event) for event in subject.take(now_s=number / 100)])
    subject.end(now_s=1.0)
    events = drain(subject)
    assert out + data(events) == b"".join(chunks)
    assert events[-1][1] == End()
    assert subject.waiting_bytes == 0
