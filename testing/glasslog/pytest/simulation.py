"""Stories in memory: the simulator's cluster, on virtual time and from a seed.

Refuses to know how a run is made and checked: the simulator does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from glasslog.checker.operations import History
from glasslog.checker.verdict import Verdict, check
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.pytest.story import Story, StoryFailed
from glasslog.simulator.clients import Clients
from glasslog.simulator.convergence import recover
from glasslog.simulator.request import Request
from glasslog.simulator.run import run
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

_FEWER_PARTITIONS = {"offsets.topic.num.partitions": "8"}
"""Kafka's 50 of the groups' topic only cost time, as in a local cluster."""


class SimulatedCluster:
    """A ``Cluster`` in memory. ``stage`` can do more to it: power losses, damaged files, one-way cuts."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @property
    def clients(self) -> Clients:
        return self.stage.clients

    @property
    def bootstrap(self) -> Sequence[str]:
        return self.stage.clients.bootstrap

    @property
    def brokers(self) -> Sequence[str]:
        return self.stage.cluster.broker_names

    @property
    def controllers(self) -> Sequence[str]:
        return self.stage.cluster.controller_names

    def runtime(self, host: str) -> Runtime:
        return self.stage.cluster.world.runtime(host)

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = 1,
        replication_factor: int = 3,
        configs: Mapping[str, str] | None = None,
    ) -> Sequence[TopicPartition]:
        return await self.stage.create_topic(
            name, partitions=partitions, replication_factor=replication_factor, configs=configs
        )

    async def leader(self, partition: TopicPartition) -> str:
        return self.stage.leader(partition)

    async def in_sync(self, partition: TopicPartition) -> Sequence[str]:
        return self.stage.in_sync(partition)

    async def active_controller(self) -> str:
        return self.stage.cluster.active_controller()

    async def kill(self, name: str) -> None:
        await self.stage.kill(name)

    async def stop(self, name: str) -> None:
        await self.stage.stop(name)

    async def start(self, name: str) -> None:
        self.stage.start(name)

    async def restart(self, name: str) -> None:
        await self.stage.stop(name)
        self.stage.start(name)
        await recover(self.stage.cluster)

    async def pause(self, name: str) -> None:
        self.stage.pause(name)

    async def resume(self, name: str) -> None:
        self.stage.resume(name)

    async def partition(self, name: str, *others: str) -> None:
        """Nothing passes between ``name`` and each of ``others``: without any, every other node."""
        everybody = (*self.controllers, *self.brokers)
        self.stage.cut(name, *(others or (each for each in everybody if each != name)))

    async def heal(self) -> None:
        """End every partition."""
        self.stage.heal()

    async def recover(self) -> None:
        self.stage.make_whole()
        await recover(self.stage.cluster)

    async def wait(self, ms: float) -> None:
        await self.stage.wait(ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Runs stories. ``seeds`` are those of every story; ``settings`` are for every node."""

    name: str
    controllers: int = 3
    brokers: int = 3
    settings: Mapping[str, str] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)

    def __call__(self, story: Story[SimulatedCluster]) -> Verdict:
        """Run it once for every seed; returns the verdict on the last run, all of them good.

        After the story all faults end, the cluster must recover, everything is read back and checked.  Raises
        ``StoryFailed``, or what the story itself raised, with a note of the seed.
        """
        *_, verdict = (self._once(story, seed) for seed in self.seeds)
        return verdict

    def _once(self, story: Story[SimulatedCluster], seed: int) -> Verdict:
        raised: list[Exception] = []
        recorded: list[History] = []
        request = Request(seed=seed, scenario=self._scenario(story, raised))
        outcome = run(request, on_history=recorded.append)
        note = f"{self.name}, seed {seed}; again: --glasslog-seed {seed} --glasslog-seeds 1"
        for error in raised:
            error.add_note(note)
            raise error
        if outcome.failure:
            story_so_far = "\n".join(outcome.last_events)
            raise StoryFailed(f"{note}\n{outcome.failure}\nwhat happened last:\n{story_so_far}")
        return check(recorded[-1])

    def _scenario(self, story: Story[SimulatedCluster], raised: list[Exception]) -> Scenario:
        return Scenario(
            name=self.name,
            description="told by a test",
            origin="",
            script=partial(_tell, story, raised),
            controllers=self.controllers,
            brokers=self.brokers,
            settings={**_FEWER_PARTITIONS, **self.settings},
        )


async def _tell(story: Story[SimulatedCluster], raised: list[Exception], stage: Stage) -> None:
    """The run makes a text of whatever ends it: a test wants its own exception back."""
    try:
        await story(SimulatedCluster(stage))
    except Exception as error:
        raised.append(error)
        raise
