"""Timers by group: nothing is late, and a heartbeat does not make anybody look at everybody."""

from glasslog.broker.group.timers import GroupTimers
from hypothesis import given
from hypothesis import strategies as st

NAMES = ["a", "b", "c"]
changes = st.tuples(st.sampled_from(NAMES), st.none() | st.integers(0, 50), st.integers(0, 10))


@given(st.lists(changes, max_size=60))
def test_what_is_due_is_found_in_time_and_once(steps: list[tuple[str, int | None, int]]) -> None:
    """Against a dictionary: earlier or gone is told, later is not."""
    due: dict[str, int] = {}
    timers = GroupTimers(due.get)
    now = 0
    for name, time, passed in steps:
        before = due.get(name)
        if time is None:
            due.pop(name, None)
        else:
            due[name] = now + time
        if before is None or time is None or now + time < before:
            timers.touch(name)
        now += passed
        bound = timers.next_ms()
        soonest = min(due.values(), default=None)
        assert soonest is None or (bound is not None and bound <= soonest)
        found = timers.take_due(now)
        assert sorted(found) == sorted(each for each in NAMES if each in due and due[each] <= now)
        assert timers.take_due(now) == []
        for each in found:
            due[each] = now + 7
            timers.touch(each)


def test_extended_sessions_are_looked_at_only_when_their_bound_is_reached() -> None:
    asked: list[str] = []
    due = {f"g{number}": 100 for number in range(1_000)}

    def due_of(name: str) -> int | None:
        asked.append(name)
        return due.get(name)

    timers = GroupTimers(due_of)
    for name in due:
        timers.touch(name)
    assert timers.next_ms() == 100
    asked.clear()
    for now in range(100):
        due[f"g{now}"] = 100 + now
        assert timers.take_due(now) == []
        assert timers.next_ms() == 100
    assert asked == []
    assert len(timers.take_due(100)) == 901


def test_it_does_not_grow_with_touches() -> None:
    due = {"a": 0}
    timers = GroupTimers(due.get)
    for number in range(10_000, 0, -1):
        due["a"] = number
        timers.touch("a")
        timers.next_ms()
    assert len(timers._heap) < 100
