"""Elections asked for through any broker: of the preferred leader, and an unclean one that loses records."""

import asyncio

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.elections import ElectionType
from glasslog.client.producer import Producer
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster

BOOTSTRAP = "broker-1:9192,broker-2:9192,broker-3:9192"
PLACE = TopicPartition("t", 0)


def test_a_leader_that_is_back_leads_again_when_asked() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=6) as cluster:
            runtime = cluster.world.runtime("client")
            async with (
                Admin(BOOTSTRAP, runtime=runtime) as admin,
                Producer(BOOTSTRAP, runtime=runtime) as producer,
            ):
                await admin.create_topics([NewTopic(name="t", partitions=1, replication_factor=3)])
                preferred = cluster.leader_of("t", 0)
                await cluster.kill(preferred)
                await (await producer.send("t", b"x"))
                cluster.start(preferred)
                early = (await admin.elect_leaders(ElectionType.PREFERRED, [PLACE]))[PLACE]
                assert early is not None
                assert early.code is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
                await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 3, what="all are in sync")
                assert await admin.elect_leaders(ElectionType.PREFERRED, [PLACE]) == {PLACE: None}
                assert cluster.leader_of("t", 0) == preferred
                again = (await admin.elect_leaders(ElectionType.PREFERRED, [PLACE]))[PLACE]
                assert again is not None
                assert again.code is ErrorCode.ELECTION_NOT_NEEDED
                assert await admin.elect_leaders(ElectionType.PREFERRED) == {}
                await (await producer.send("t", b"y"))

    run_virtual(main, timeout_ms=300_000)


def test_whoever_is_left_leads_when_asked_to_lose_records() -> None:
    async def main() -> None:
        async with MemoryCluster(seed=7) as cluster:
            runtime = cluster.world.runtime("client")
            async with Admin(BOOTSTRAP, runtime=runtime) as admin:
                await admin.create_topics([NewTopic(name="t", partitions=1, replication_factor=2)])
                first = cluster.leader_of("t", 0)
                await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 2, what="both are in sync")
                placed = cluster.partition("t", 0)
                second = next(f"broker-{node}" for node in placed.replicas if f"broker-{node}" != first)
                await cluster.kill(second)
                await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 1, what="the ISR shrinks")
                async with Producer(BOOTSTRAP, runtime=runtime) as producer:
                    for _ in range(3):
                        await (await producer.send("t", b"to be lost", partition=0))
                # A replica that was killed knows from its checkpoint what was committed.
                await asyncio.sleep(6)
                await cluster.kill(first)
                await cluster.until(lambda: not cluster.partition("t", 0).has_leader, what="nobody leads")
                cluster.start(second)
                await cluster.until(lambda: cluster.broker(second).status().is_ready, what="it is ready")
                assert not cluster.partition("t", 0).has_leader
                assert await admin.elect_leaders(ElectionType.UNCLEAN, [PLACE]) == {PLACE: None}
                assert cluster.leader_of("t", 0) == second
                controllers = map(cluster.controller, cluster.controller_names)
                assert sum(each.controller_status().unclean_elections for each in controllers) == 1

                cluster.start(first)
                await cluster.until(lambda: len(cluster.partition("t", 0).isr) == 2, what="both are in sync")
                replicas = cluster.broker(first).replicas
                assert replicas is not None
                assert replicas.counters.committed_offsets_cut == 3, "what was lost is counted where it was"

    run_virtual(main, timeout_ms=300_000)
