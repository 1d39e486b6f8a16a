"""The checker on histories written by hand, clean and corrupted for each anomaly, and on made-up runs."""

from pathlib import Path
from random import Random

import pytest
from glasslog.checker.operations import End, Fault
from glasslog.checker.reading import read_history
from glasslog.checker.verdict import Verdict, check
from glasslog.checker.writing import write_history
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.checker.honest_log import honest_history
from tests.unit.checker.mutations import MUTATIONS, Mutation

HISTORIES = Path(__file__).parent / "histories"
NAMES = sorted(path.name.removesuffix(".clean.jsonl") for path in HISTORIES.glob("*.clean.jsonl"))
ALLOWED = {"G0", "int-send-skip"}
BY_THE_WAY = {
    "inconsistent-offsets": {"duplicate", "vanished", "nonmonotonic-send"},
    "int-nonmonotonic-poll": {"int-poll-skip"},
    "lost-write": {"unseen", "int-poll-skip"},
    "precommitted-read": {"G1c"},
}
"""What else is wrong where an anomaly can not come alone."""


def verdict_on(name: str) -> Verdict:
    return check(read_history((HISTORIES / f"{name}.jsonl").read_bytes().splitlines()))


def test_there_is_a_pair_for_every_anomaly() -> None:
    assert len(NAMES) == 18
    assert {path.name for path in HISTORIES.iterdir()} == {
        f"{name}.{state}.jsonl" for name in NAMES for state in ("clean", "corrupted")
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_history_is_good(name: str) -> None:
    verdict = verdict_on(f"{name}.clean")
    assert verdict.is_good, verdict
    assert not verdict.allowed


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALLOWED])
def test_a_corrupted_history_is_named(name: str) -> None:
    verdict = verdict_on(f"{name}.corrupted")
    assert not verdict.is_good
    assert verdict.counts().keys() == {name} | BY_THE_WAY.get(name, set())


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_what_kafka_does_not_promise_is_told_and_allowed(name: str) -> None:
    verdict = verdict_on(f"{name}.corrupted")
    assert verdict.is_good
    assert name in {str(anomaly.kind) for anomaly in verdict.allowed}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_an_honest_run_is_clean(seed: int) -> None:
    verdict = check(honest_history(Random(seed)))
    assert verdict.is_good, "\n".join(map(str, verdict.anomalies))


@pytest.mark.parametrize(("mutate", "kind"), MUTATIONS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_each_way_to_break_an_honest_run_is_named(mutate: Mutation, kind: str, seed: int) -> None:
    random = Random(seed)
    broken = mutate(honest_history(random), random)
    assume(broken is not None)
    assert broken is not None
    assert kind in check(broken).counts()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_history_comes_back_from_its_lines(seed: int) -> None:
    history = honest_history(Random(seed))
    history.replicas["t-0"] = ("broker-1", "broker-2")
    history.faults.append(Fault(name="kill broker-1", start_ms=3, end_ms=8.5))
    lines: list[str] = []
    write_history(history, lines.append)
    assert read_history(line.encode() for line in lines) == history


def test_a_verdict_names_replicas_and_the_fault_that_was_active() -> None:
    history = read_history((HISTORIES / "lost-write.corrupted.jsonl").read_bytes().splitlines())
    history.replicas["t-0"] = ("broker-1", "broker-2")
    history.faults = [
        Fault(name="kill broker-1", start_ms=0, end_ms=5),
        Fault(name="pause broker-2", start_ms=8, end_ms=10),
    ]
    lost = next(anomaly for anomaly in check(history).anomalies if anomaly.kind == "lost-write")
    assert lost.values == ("b",)
    assert lost.offsets == (1,)
    assert lost.replicas == ("broker-1", "broker-2")
    assert lost.faults == ("pause broker-2",)


def test_between_faults_the_last_one_is_named() -> None:
    history = read_history((HISTORIES / "unseen.corrupted.jsonl").read_bytes().splitlines())
    history.faults = [
        Fault(name="kill broker-1", start_ms=0, end_ms=1),
        Fault(name="pause broker-2", start_ms=2, end_ms=3),
        Fault(name="too late", start_ms=100, end_ms=200),
    ]
    assert check(history).anomalies[0].faults == ("pause broker-2",)


def test_without_its_end_a_clean_history_is_not_good() -> None:
    history = read_history((HISTORIES / "unseen.clean.jsonl").read_bytes().splitlines())
    history.end = None
    assert check(history).missing == ("it has no end: the recording broke off",)
    assert not check(history).is_good


def test_a_partition_that_was_not_drained_makes_a_history_incomplete() -> None:
    history = read_history((HISTORIES / "unseen.clean.jsonl").read_bytes().splitlines())
    history.end = End(operations=len(history.operations), drained=())
    assert check(history).missing == ("t-0 was written, and not drained in the end",)


def test_missing_operations_make_a_history_incomplete() -> None:
    history = read_history((HISTORIES / "unseen.clean.jsonl").read_bytes().splitlines())
    del history.operations[1]
    assert "1 of its 6 operations are not there: 1" in check(history).missing
    assert not check(history).is_good


def test_what_was_never_acknowledged_may_be_appended_later() -> None:
    """With acks=0 a send is over for its producer before it is in the log, perhaps behind what was read."""
    history = read_history(
        [
            b'{"type":"history","version":1}',
            b'{"type":"send","index":0,"process":"p","outcome":"ok","start_ms":0,"end_ms":1,"acks":"0",'
            b'"idempotent":false,"steps":[["send","t-0","late"]]}',
            b'{"type":"send","index":1,"process":"q","outcome":"ok","start_ms":2,"end_ms":3,'
            b'"steps":[["send","t-0","a",0]]}',
            b'{"type":"poll","index":2,"process":"c","outcome":"ok","start_ms":4,"end_ms":5,'
            b'"steps":[["poll",{"t-0":[[0,"a"]]}]]}',
            b'{"type":"poll","index":3,"process":"d","outcome":"ok","start_ms":6,"end_ms":7,"drain":true,'
            b'"steps":[["poll",{"t-0":[[0,"a"],[1,"late"]]}]]}',
            b'{"type":"end","operations":4,"drained":["t-0"]}',
        ]
    )
    assert check(history).is_good
    assert not check(history).allowed
