"""Controllers that are cut off, lose power or a disk: KAFKA-15489, KIP-996, Redpanda on fsync, KIP-853."""

from glasslog.controller.raft.core import RaftCore
from glasslog.controller.raft.roles import Leader
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_LONGEST_OFFICE_MS = 8_000
"""A leader that hears no majority has given up by then."""


def _core(stage: Stage, name: str) -> RaftCore:
    core = stage.cluster.controller(name).raft.core
    assert core is not None, f"{name} has not started yet"
    return core


def _leads(stage: Stage, name: str) -> bool:
    return isinstance(_core(stage, name).role, Leader)


async def _isolated_leader(stage: Stage) -> None:
    """Brokers reach a leader that no other controller reaches; a voter that was cut off returns."""
    await stage.create_topic("kept")
    cluster = stage.cluster
    leader = cluster.active_controller()
    others = [name for name in cluster.controller_names if name != leader]
    stage.cut(leader, *others)
    await stage.until(lambda: any(_leads(stage, name) for name in others), "another controller leads")
    await stage.until(lambda: not _leads(stage, leader), f"{leader} gives up", within_ms=_LONGEST_OFFICE_MS)
    await stage.create_topic("later")
    await stage.wait(stage.random.uniform(1_000, 4_000))
    await _return_quietly(stage, leader)
    # The same for a voter that did not lead.
    returning = next(name for name in cluster.controller_names if not _leads(stage, name))
    stage.cut(returning, *(name for name in cluster.controller_names if name != returning))
    await stage.wait(stage.random.uniform(3_000, 6_000))
    await _return_quietly(stage, returning)


async def _return_quietly(stage: Stage, name: str) -> None:
    """Whoever leads goes on to lead, in the same epoch."""
    (leader,) = [each for each in stage.cluster.controller_names if each != name and _leads(stage, each)]
    epoch = _core(stage, leader).epoch
    stage.heal()
    await stage.wait(3_000)
    same = _leads(stage, leader) and _core(stage, leader).epoch == epoch
    stage.expect(same, f"{leader} still leads in epoch {epoch} after {name} has returned")


ISOLATED_LEADER = Scenario(
    name="isolated-controller",
    description="A leading controller that is cut off gives up, and returns without disturbing.",
    origin="KAFKA-15489, KIP-996",
    script=_isolated_leader,
)


async def _lost_vote(stage: Stage) -> None:
    """A voter loses power right after its vote, and is asked again in the same epoch."""
    await stage.create_topic("kept")
    cluster = stage.cluster
    first = cluster.active_controller()
    rest = [name for name in cluster.controller_names if name != first]
    epoch = _core(stage, first).epoch
    await stage.kill(first)
    await stage.until(lambda: any(_has_voted(stage, name, epoch) for name in rest), "a vote is given")
    voter = next(name for name in rest if _has_voted(stage, name, epoch))
    (second,) = [name for name in rest if name != voter]
    # Its answer arrives, but nothing of what follows from it.
    stage.cut(second, voter, one_way=True)
    await stage.until(lambda: _leads(stage, second), f"{second} leads")
    stage.cut(second, voter, first)
    await stage.kill(voter, power_loss="none")
    stage.start(voter)
    stage.start(first)
    await stage.wait(4_000)


def _has_voted(stage: Stage, name: str, after_epoch: int) -> bool:
    state = _core(stage, name).hard_state
    own = stage.cluster.config(name).node_id
    return state.epoch > after_epoch and state.voted_for not in (-1, own)


LOST_VOTE = Scenario(
    name="lost-vote",
    description="A controller loses power right after it voted, and is asked for its vote again.",
    origin="Redpanda on fsync",
    script=_lost_vote,
)


async def _lost_entries(stage: Stage) -> None:
    """The follower that made a majority loses power; it and the one that lagged are the next majority."""
    cluster = stage.cluster
    leader = cluster.active_controller()
    acknowledging, lagging = (name for name in cluster.controller_names if name != leader)
    stage.cut(lagging, leader, acknowledging)
    await stage.create_topic("kept")
    await stage.wait(stage.random.uniform(5, 50))
    await stage.kill(acknowledging, power_loss="none")
    await stage.kill(leader)
    stage.heal()
    stage.start(acknowledging)
    await stage.until(lambda: cluster.active_controller() != "", "a controller leads")
    # Whoever has seen what is no longer there finds out now.
    await stage.wait(500)
    await stage.create_topic("later")
    stage.start(leader)
    await stage.wait(1_000)


LOST_ENTRIES = Scenario(
    name="lost-entries",
    description="A controller loses power right after it acknowledged entries of the metadata log.",
    origin="Redpanda on fsync",
    script=_lost_entries,
)


async def _lost_disk(stage: Stage) -> None:
    """The follower that made a majority loses its disk, and the one that lagged wants its vote."""
    cluster = stage.cluster
    await stage.until(lambda: _all_named(stage), "the log names the voters")
    leader = cluster.active_controller()
    losing, lagging = (name for name in cluster.controller_names if name != leader)
    stage.cut(lagging, leader, losing)
    await stage.create_topic("kept")
    await stage.wait(stage.random.uniform(5, 50))
    await stage.kill(losing)
    await stage.kill(leader)
    stage.note(f"{losing} gets an empty disk")
    cluster.world.disk(losing).wipe()
    stage.invariants.forget(losing)
    stage.heal()
    stage.start(losing)
    await stage.wait(stage.random.uniform(2_000, 4_000))
    stage.start(leader)
    await stage.until(lambda: cluster.active_controller() != "", "a controller leads")
    await stage.create_topic("later")
    # It follows, without the vote of the one that it was.
    await stage.until(lambda: _core(stage, losing).voters.is_recorded, f"{losing} has the log again")
    stage.expect(not _core(stage, losing).is_voter, f"{losing} does not vote with an empty disk")


def _all_named(stage: Stage) -> bool:
    return all(_core(stage, name).voters.is_recorded for name in stage.cluster.controller_names)


LOST_DISK = Scenario(
    name="lost-disk",
    description="A controller comes back with an empty disk while another one needs its vote.",
    origin="KIP-853",
    script=_lost_disk,
)
