"""``/insyncz`` of a broker that comes back: it is ready before its replicas are in sync."""

import asyncio

from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.node.roles import BrokerRole
from glasslog.simulator.cluster import MemoryCluster, broker_id


def test_a_broker_is_ready_before_it_is_in_sync() -> None:
    async def main() -> None:
        async with MemoryCluster() as cluster:
            await cluster.create_topic("orders", partitions=2)
            await cluster.until(lambda: cluster.leader_of("orders", 1) != "")
            names = [name for name in cluster.broker_names if name != cluster.leader_of("orders")]
            victim, third = names
            await cluster.stop(victim)
            # A follower that hears nothing of its leaders stays behind, whatever the controllers say of it.
            for name in (cluster.leader_of("orders"), third):
                cluster.world.network.partition_one_way(victim, name)
            cluster.start(victim)
            role = BrokerRole(cluster.broker(victim), node_id=broker_id(victim))
            await cluster.until(lambda: role.missing() == "", what="ready")
            await asyncio.sleep(1)
            assert role.missing() == ""
            assert role.behind() == "2 of its replicas not in sync"
            cluster.world.network.heal()
            await cluster.until(lambda: role.behind() == "", what="in sync")
            assert all(broker_id(victim) in cluster.partition("orders", number).isr for number in (0, 1))

    run_virtual(main)
