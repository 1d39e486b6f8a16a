"""The trace is what docs/simulator.md says it is, and what is read off it is what happened."""

import json
import re
from pathlib import Path

import pytest
from glasslog.broker.partition.partition import Partition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.request import Request
from glasslog.simulator.run import run
from glasslog.simulator.scenarios.catalog import SCENARIOS
from glasslog.simulator.trace import TELLING, Trace

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "simulator.md"
_SOURCE = _ROOT / "simulator" / "glasslog" / "simulator"
_ALWAYS = frozenset({"at", "event", "node"})
_NAMES = re.compile(r"`([a-z_]+)`")

Event = dict[str, object]


def told(seed: int, scenario: str) -> list[Event]:
    """The trace of a story."""
    return traced(Request(seed=seed, scenario=SCENARIOS[scenario]))


def traced(request: Request) -> list[Event]:
    lines: list[str] = []
    assert not run(request, sink=lines.append).failure
    return [json.loads(line) for line in lines]


def documented() -> dict[str, frozenset[str]]:
    """Kinds of events with all fields that their row of the page names."""
    rows = [line.split("|") for line in _PAGE.read_text().splitlines() if line.startswith("| `")]
    found: dict[str, frozenset[str]] = {}
    for _, kinds, _, fields, _ in rows:
        found |= dict.fromkeys(_NAMES.findall(kinds), frozenset(_NAMES.findall(fields)))
    return found


@pytest.fixture(scope="module")
def events() -> list[Event]:
    stories = [*told(0, "kill-leader-5"), *told(0, "long-pause"), *told(0, "truncated-consumer")]
    return [*stories, *traced(Request(seed=3, faulty_ms=4_000))]


def test_every_event_and_field_is_in_the_page_and_the_other_way_round(events: list[Event]) -> None:
    page = documented()
    seen: dict[str, set[str]] = {}
    for event in events:
        seen.setdefault(str(event["event"]), set()).update(event.keys() - _ALWAYS)
    assert not [f"{kind}: {fields - page.get(kind, frozenset())}" for kind, fields in seen.items()
                if fields - page.get(kind, frozenset())]  # fmt: skip
    # Which of the rest a run has depends on what goes wrong in it.
    source = "".join(path.read_text() for path in _SOURCE.glob("*.py"))
    assert [kind for kind in page if f'"{kind}"' not in source] == []
    assert page.keys() >= TELLING


def test_a_killed_leader_is_followed_by_another_in_the_trace(events: list[Event]) -> None:
    """Brokers took metadata in by another method one day, and no trace said any more who leads."""
    partitions = [event for event in events if event["event"] == "partition"]
    assert {event["leader_epoch"] for event in partitions} >= {0, 1, 2}


def test_time_never_goes_back_and_begins_at_zero() -> None:
    times = [event["at"] for event in told(1, "stop-leader-1")]
    assert times == sorted(times, key=lambda at: float(str(at)))
    assert times[0] == 0


def test_appends_and_truncations_of_a_replica_join(events: list[Event]) -> None:
    """Where a replica's log ends follows from its events alone: a timeline can be drawn from them."""
    joined = 0
    ends: dict[tuple[object, object], object] = {}
    for event in told(0, "truncated-consumer"):
        replica = (event.get("node"), event.get("partition"))
        if event["event"] in ("append", "replicate"):
            assert event["base_offset"] == ends.get(replica, 0), event
            ends[replica] = event["end_offset"]
            joined += 1
        elif event["event"] == "truncate":
            assert event["from_offset"] == ends[replica], event
            ends[replica] = event["to_offset"]
    assert joined > 10


def test_a_paused_process_does_nothing_until_it_is_resumed(events: list[Event]) -> None:
    """Nothing that a stopped process would do shows up: no append, no vote, no sync."""
    paused: set[object] = set()
    pauses = 0
    for event in told(0, "long-pause"):
        if event["event"] == "process" and event["state"] == "paused":
            paused.add(event["node"])
            pauses += 1
        elif event["event"] == "process":
            paused.discard(event["node"])
        elif event["event"] != "fault":
            assert event.get("node") not in paused, event
    assert pauses


def test_who_wants_no_lines_gets_the_same_hash() -> None:
    lines: list[str] = []
    asked = Request(seed=2, scenario=SCENARIOS["no-faults"])
    assert run(asked, sink=lines.append).trace_hash == run(asked).trace_hash
    assert lines


def test_events_of_equal_text_are_told_apart_by_the_hash() -> None:
    """Time, kind, node and fields all count."""

    def hash_of(event: str, node: str, **fields: str) -> str:
        async def main() -> str:
            trace = Trace()
            trace.add(event, node, **fields)
            return trace.hash

        return run_virtual(main)

    hashes = {
        hash_of("client", "a", does="x"),
        hash_of("client", "b", does="x"),
        hash_of("failed", "a", does="x"),
        hash_of("client", "a", does="y"),
        hash_of("client", "a", error="x"),
        hash_of("client", "a"),
    }
    assert len(hashes) == 6


def test_watching_ends_with_the_run() -> None:
    """Production classes are as they were: a run in a test's process leaves nothing behind."""
    before = dict(vars(Partition))
    run(Request(seed=0, scenario=SCENARIOS["no-faults"]))
    assert dict(vars(Partition)) == before
