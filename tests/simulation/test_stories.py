"""Stories of the pytest plugin: what a good and a bad one end with, and what a test hears of it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from glasslog.pytest.simulation import SimulatedCluster, Simulation
from glasslog.pytest.story import StoryFailed
from glasslog.simulator.scenarios.catalog import SCENARIOS
from glasslog.simulator.switches.catalog import SWITCHES


async def write_around_a_kill(cluster: SimulatedCluster) -> None:
    (orders,) = await cluster.create_topic("orders", configs={"min.insync.replicas": "2"})
    async with cluster.clients.producer("shop") as shop:
        await shop.put(orders)
        await cluster.kill(await cluster.leader(orders))
        await shop.put(orders)


def test_a_good_story_has_a_verdict(glasslog_simulation: Simulation) -> None:
    verdict = glasslog_simulation(write_around_a_kill)
    assert verdict.is_good
    assert (verdict.sent, verdict.read) == (2, 2)


def test_every_way_to_break_a_node_is_undone(glasslog_simulation: Simulation) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        (orders,) = await cluster.create_topic("orders", configs={"min.insync.replicas": "2"})
        async with cluster.clients.producer("shop") as shop:
            leader = await cluster.leader(orders)
            await cluster.pause(leader)
            await shop.put(orders)
            assert await cluster.leader(orders) != leader
            await cluster.resume(leader)
            await cluster.restart(await cluster.active_controller())
            await cluster.stop(await cluster.leader(orders))
            await shop.put(orders)
            await cluster.recover()
            assert len(await cluster.in_sync(orders)) == 3
            await cluster.partition(await cluster.leader(orders))
            await shop.put(orders)
            await cluster.heal()
            await cluster.kill(cluster.brokers[0])
            await cluster.start(cluster.brokers[0])
            await cluster.wait(100)

    assert glasslog_simulation(story).sent == 3


def test_only_some_can_be_cut_off(glasslog_simulation: Simulation) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        (orders,) = await cluster.create_topic("orders")
        leader = await cluster.leader(orders)
        first, second = (name for name in cluster.brokers if name != leader)
        await cluster.partition(leader, first)
        async with cluster.clients.producer("shop") as shop:
            await shop.put(orders)
        assert await cluster.in_sync(orders) == [leader, second]

    glasslog_simulation(story)


def test_a_story_that_raises_is_raised_as_it_is(glasslog_simulation: Simulation) -> None:
    async def story(cluster: SimulatedCluster) -> None:
        raise LookupError("no such order")

    with pytest.raises(LookupError, match="no such order") as caught:
        replace(glasslog_simulation, seeds=(7,))(story)
    assert "--glasslog-seed 7" in caught.value.__notes__[0]


def test_a_bad_verdict_fails_the_story(glasslog_simulation: Simulation) -> None:
    """With a bug of the past put back: sequences are forgotten, and a retry is stored twice."""
    switch = SWITCHES["forgotten-producers"]

    async def story(cluster: SimulatedCluster) -> None:
        await SCENARIOS[switch.scenario].script(cluster.stage)

    simulation = replace(glasslog_simulation, seeds=range(switch.seeds))
    simulation(story)
    with switch.bug(), pytest.raises(StoryFailed, match="duplicate"):
        simulation(story)


def run_pytest(folder: Path, source: str, *arguments: str) -> str:
    (folder / "test_told.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("source", "arguments", "said"),
    [
        (
            "def test(glasslog_simulation):\n    pass\n",
            ("--glasslog-seeds", "0"),
            "--glasslog-seeds: at least 1",
        ),
        (
            "import pytest\n@pytest.mark.glasslog(cats=3)\ndef test(glasslog_simulation):\n    pass\n",
            (),
            "unexpected keyword argument 'cats'",
        ),
        (
            "def test(glasslog_simulation):\n    assert list(glasslog_simulation.seeds) == [5, 6]\n",
            ("--glasslog-seed", "5", "--glasslog-seeds", "2"),
            "1 passed",
        ),
        (
            "def test():\n    import sys\n    assert 'glasslog.simulator.run' not in sys.modules\n",
            (),
            "1 passed",
        ),
    ],
    ids=["no seed", "unknown word", "seeds", "costs nothing unasked"],
)
def test_options_and_marker(tmp_path: Path, source: str, arguments: tuple[str, ...], said: str) -> None:
    assert said in run_pytest(tmp_path, source, *arguments)
