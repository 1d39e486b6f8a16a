"""Somebody who runs the cluster: moves partitions, elects leaders, changes settings, voters and features.

All through ``Admin``, while faults and clients go on.  A refusal is noted and borne; whether what was begun
also ends is for ``convergence`` to see.  Refuses to know faults, and what is right (``invariants``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from glasslog.client.admin import Admin, MorePartitions
from glasslog.client.configs import ConfigEdit, ConfigOperation, ConfigResource, ResourceType
from glasslog.client.elections import ElectionType
from glasslog.client.features import UpgradeType
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.metadata.features import ELIGIBLE_LEADER_REPLICAS
from glasslog.simulator.cluster import broker_id, controller_id
from glasslog.simulator.trace import Trace

_SEGMENT_BYTES = (2_048, 4_096, 16_384)
_BROKER_SETTINGS: Mapping[str, Sequence[str | None]] = {
    "log.segment.bytes": ("2048", "65536", None),
    "log.index.interval.bytes": ("64", "4096", None),
    "log.flush.interval.messages": ("1", "10", None),
    "log.cleaner.min.cleanable.ratio": ("0.01", "0.9", None),
}
"""What they may be set to; None: back to what the node was started with."""

_MOST_PARTITIONS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Estate:
    """What there is to run: nodes by name, the topic that is kept, and those that come and go."""

    controllers: tuple[str, ...]
    brokers: tuple[str, ...]
    topic: str
    partitions: int
    replication_factor: int
    passing: tuple[str, ...]


class Operator:
    """Does one thing after the other, at ``pause_ms`` in the mean, with an ``admin`` that is open."""

    def __init__(
        self,
        admin: Admin,
        estate: Estate,
        random: Random,
        trace: Trace,
        *,
        name: str,
        pause_ms: int,
        voters_touched: asyncio.Lock,
    ) -> None:
        self._admin = admin
        self._voters_touched = voters_touched
        self._estate = estate
        self._random = random
        self._trace = trace
        self._name = name
        self._pause_ms = pause_ms
        self._actions: tuple[Callable[[], Awaitable[str]], ...] = (
            self._move,
            self._move,
            self._stop_moving,
            self._change_topic,
            self._change_brokers,
            self._forget_broker,
            self._try_feature,
            self._grow,
            self._change_voters,
            self._hand_over,
            self._elect,
        )

    async def run(self, is_wanted: Callable[[], bool]) -> None:
        """Until nobody wants more."""
        while True:
            await asyncio.sleep(self._random.uniform(0, 2 * self._pause_ms) / 1000)
            if not is_wanted():
                return
            action = self._random.choice(self._actions)
            try:
                self._trace.add("client", self._name, does=await action())
            except GlasslogError as error:
                does = action.__name__.strip("_").replace("_", " ")
                self._trace.add("failed", self._name, does=does, error=error.code.name)

    async def _move(self) -> str:
        estate = self._estate
        partition = TopicPartition(estate.topic, self._random.randrange(estate.partitions))
        targets = [broker_id(name) for name in self._random.sample(estate.brokers, estate.replication_factor)]
        await self._reassign(partition, targets)
        return f"move {partition} to {targets}"

    async def _stop_moving(self) -> str:
        partition = TopicPartition(self._estate.topic, self._random.randrange(self._estate.partitions))
        await self._reassign(partition, None)
        return f"move {partition} back"

    async def _reassign(self, partition: TopicPartition, targets: Sequence[int] | None) -> None:
        for error in (await self._admin.alter_partition_reassignments({partition: targets})).values():
            raise error

    async def _elect(self) -> str:
        partition = TopicPartition(self._estate.topic, self._random.randrange(self._estate.partitions))
        found = await self._admin.elect_leaders(ElectionType.PREFERRED, [partition])
        for error in filter(None, found.values()):
            raise error
        return f"elect the preferred leader of {partition}"

    async def _change_topic(self) -> str:
        least = str(self._random.randrange(1, self._estate.replication_factor + 1))
        key, value = self._random.choice(
            (
                ("min.insync.replicas", least),
                ("segment.bytes", str(self._random.choice(_SEGMENT_BYTES))),
            )
        )
        edit = ConfigEdit(key=key, value=value)
        await self._admin.alter_configs({ConfigResource(ResourceType.TOPIC, self._estate.topic): [edit]})
        return f"set {key} to {value}"

    async def _change_brokers(self) -> str:
        """Defaults of every topic that does not say otherwise, on one broker or on all."""
        key = self._random.choice([*_BROKER_SETTINGS])
        value = self._random.choice(_BROKER_SETTINGS[key])
        name = self._random.choice(("", *self._estate.brokers))
        resource = ConfigResource(ResourceType.BROKER, str(broker_id(name)) if name else "")
        operation = ConfigOperation.DELETE if value is None else ConfigOperation.SET
        edit = ConfigEdit(key=key, operation=operation, value=value or "")
        await self._admin.alter_configs({resource: [edit]})
        return f"set {key} of {name or 'every broker'} to {value or 'what it was'}"

    async def _forget_broker(self) -> str:
        """Refused for one that lives or holds replicas: forced, it could take the last copy of a record."""
        name = self._random.choice(self._estate.brokers)
        await self._admin.unregister_broker(broker_id(name))
        return f"forget {name}"

    async def _try_feature(self) -> str:
        """Below level 1 a power loss may take what was acknowledged: nobody should, but one may ask."""
        level = self._random.randrange(2)
        await self._admin.update_features(
            {ELIGIBLE_LEADER_REPLICAS: level},
            upgrade_type=UpgradeType.UPGRADE if level else UpgradeType.SAFE_DOWNGRADE,
            validate_only=not level,
        )
        return f"set {ELIGIBLE_LEADER_REPLICAS} to {level}" if level else "see whether it could be set to 0"

    async def _grow(self) -> str:
        topic = self._random.choice(self._estate.passing)
        count = self._random.randrange(2, _MOST_PARTITIONS + 1)
        await self._admin.create_partitions({topic: MorePartitions(count=count)})
        return f"give {topic} {count} partitions"

    async def _change_voters(self) -> str:
        name = self._random.choice(self._estate.controllers)
        if self._voters_touched.locked():
            return "leave the voters alone, of which one has lost its disk"
        async with self._voters_touched:
            return await self._change_voter(name)

    async def _change_voter(self, name: str) -> str:
        node = controller_id(name)
        if node in {voter.node_id for voter in (await self._admin.describe_quorum()).voters}:
            await self._admin.remove_voter(node)
            return f"let {name} vote no more"
        await self._admin.add_voter(node)
        return f"let {name} vote"

    async def _hand_over(self) -> str:
        name = self._random.choice(self._estate.controllers)
        await self._admin.transfer_leadership(controller_id(name))
        return f"hand leadership to {name}"
