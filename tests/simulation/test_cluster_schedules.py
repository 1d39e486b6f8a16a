"""Random schedules of faults for whole clusters, each from a seed, checked all along and in the end.

GLASSLOG_SEEDS in the environment says how many seeds are tried.  A failing one is told by its number:
``glasslog simulate --seed N`` runs it again.
"""

import os
import subprocess
import sys

import pytest
from glasslog.broker.partition.leader_state import LeaderState
from glasslog.common.ids import Offset
from glasslog.simulator.outcome import Outcome
from glasslog.simulator.request import Request
from glasslog.simulator.run import run

from tests.source_tree import ROOT

SEEDS = int(os.environ.get("GLASSLOG_SEEDS", "10"))
FAULTY_MS = 12_000
SHORT_MS = 5_000


def assert_good(outcome: Outcome) -> None:
    assert not outcome.failure, f"seed {outcome.seed}: {outcome.failure}"
    assert outcome.acknowledged > 50, f"seed {outcome.seed}: only {outcome.acknowledged} acknowledged"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_cluster_keeps_its_promises_under_faults_and_recovers(seed: int) -> None:
    assert_good(run(Request(seed=seed, faulty_ms=FAULTY_MS)))


def trace_hash(seed: int, hash_seed: str) -> str:
    """The trace of a run in a process of its own."""
    code = (
        "from glasslog.simulator.request import Request; from glasslog.simulator.run import run; "
        f"print(run(Request(seed={seed}, faulty_ms={SHORT_MS})).trace_hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout.strip()


def test_a_seed_gives_the_same_run_whatever_the_hash_seed() -> None:
    first, second = trace_hash(3, "1"), trace_hash(3, "2")
    assert len(first) == 64
    assert first == second


def test_the_simulation_catches_a_leader_that_commits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that one replica has must not be acknowledged, let alone be shown to consumers."""

    def commit_at_once(
        state: LeaderState, *, leader_end_offset: Offset, counted_end_offset: Offset, now_ms: int
    ) -> bool:
        has_moved = leader_end_offset > state.high_watermark
        state.high_watermark = max(leader_end_offset, state.high_watermark)
        return has_moved

    monkeypatch.setattr(LeaderState, "advance_high_watermark", commit_at_once)
    checks = {run(Request(seed=seed, faulty_ms=SHORT_MS)).check for seed in range(1, 4)}
    assert "invariant" in checks
