"""Levels of features changed through any broker act on the controllers' decisions."""

import pytest
from glasslog.client.admin import Admin, NewTopic
from glasslog.client.features import UpgradeType
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"
ELR = "eligible.leader.replicas.version"


def test_eligible_leaders_are_kept_while_the_level_says_so() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=8) as cluster:
            runtime = cluster.world.runtime("client")
            async with Admin(BOOTSTRAP, runtime=runtime) as admin:
                new = NewTopic(
                    name="t", partitions=1, replication_factor=2, configs={"min.insync.replicas": "2"}
                )
                await admin.create_topics([new])
                leader = cluster.leader_of("t", 0)
                placed = cluster.partition("t", 0)
                other = next(f"broker-{node}" for node in placed.replicas if f"broker-{node}" != leader)
                await cluster.kill(other)
                await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 1, what="the ISR shrinks")
                (topic,) = await admin.describe_topics(["t"])
                assert [f"broker-{node}" for node in topic.partitions[0].elr] == [other]
                with pytest.raises(GlasslogError, match="must be asked for as a downgrade") as refused:
                    await admin.update_features({ELR: 0})
                assert refused.value.code is ErrorCode.INVALID_UPDATE_VERSION
                await admin.update_features({ELR: 0}, upgrade_type=UpgradeType.SAFE_DOWNGRADE)
                assert cluster.partition("t", 0).elr == ()
                await cluster.until(
                    lambda: all(
                        cluster.broker(name).observer.image.feature_level(ELR) == 0
                        for name in cluster.broker_names
                        if cluster.is_alive(name)
                    ),
                    what="every broker knows",
                )
                levels = {each.name: each.level for each in await admin.describe_features()}
                assert levels[ELR] == 0

    run_virtual(main, timeout_ms=300_000)
