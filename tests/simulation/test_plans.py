"""Plans: drawn from the seed alone, for every kind of fault that there is."""

import asyncio
from random import Random

from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.episodes import Disturbance, Ground
from glasslog.simulator.invariants import Invariants
from glasslog.simulator.plan import FAULT_WEIGHTS, draw_plan
from glasslog.simulator.power import PowerGuard
from glasslog.simulator.trace import Trace


def test_every_kind_of_fault_that_is_drawn_exists() -> None:
    async def kinds() -> set[str]:
        cluster = MemoryCluster()
        ground = Ground(
            cluster=cluster,
            invariants=Invariants(cluster),
            trace=Trace(),
            power=PowerGuard(cluster),
            clients=(),
            delay_ms=(0.2, 0.5),
        )
        return set(Disturbance(ground, Random(1), 0).kinds)

    assert run_virtual(kinds) == set(FAULT_WEIGHTS)


def test_a_seed_draws_the_same_plan_again_and_another_seed_another() -> None:
    assert draw_plan(7, faulty_ms=5_000) == draw_plan(7, faulty_ms=5_000)
    assert draw_plan(7, faulty_ms=5_000) != draw_plan(8, faulty_ms=5_000)


def test_a_shorter_plan_is_the_beginning_of_a_longer_one() -> None:
    shorter, longer = draw_plan(7, faulty_ms=5_000), draw_plan(7, faulty_ms=20_000)
    assert 0 < len(shorter.episodes) < len(longer.episodes)
    assert longer.episodes[: len(shorter.episodes)] == shorter.episodes


def test_plans_differ_in_what_matters() -> None:
    plans = [draw_plan(seed, faulty_ms=20_000) for seed in range(200)]
    quorums = {(plan.controllers, plan.first_voters) for plan in plans}
    assert quorums == {(1, 1), (3, 3), (4, 3), (5, 5)}
    assert {plan.load.operator_ms for plan in plans} == {0, 500, 2_000}
    assert {plan.brokers for plan in plans} == {1, 2, 3, 4, 5}
    assert {plan.load.replication_factor for plan in plans} == {1, 2, 3, 5}
    assert {episode.kind for plan in plans for episode in plan.episodes} == set(FAULT_WEIGHTS)
    assert all(plan.load.min_insync_replicas <= plan.load.replication_factor for plan in plans)
    assert all(plan.load.replication_factor <= plan.brokers for plan in plans)
    kinds = [{episode.kind for episode in plan.episodes} for plan in plans]
    assert all(len(each) < len(FAULT_WEIGHTS) for each in kinds)


def test_the_same_events_have_the_same_hash_and_others_another() -> None:
    def hash_of(*kinds: str) -> str:
        async def tell() -> str:
            trace = Trace()
            for kind in kinds:
                trace.add(kind, "broker-1", offset=1)
                await asyncio.sleep(0.1)
            return trace.hash

        return run_virtual(tell)

    assert hash_of("append", "fetch") == hash_of("append", "fetch")
    assert hash_of("append", "fetch") != hash_of("fetch", "append")
