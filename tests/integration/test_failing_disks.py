"""Disks that refuse, in a whole cluster on virtual time."""

import asyncio
import errno

from glasslog.common.errors import StorageError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster


def test_a_leader_whose_only_disk_failed_makes_way_for_another() -> None:
    """Its replicas went offline, but the process lived on and sent its heartbeats.

    So the controller saw no reason to elect anybody else, and every partition that the broker led was
    unavailable until somebody restarted it.
    """

    async def main() -> None:
        async with MemoryCluster() as cluster:
            await cluster.create_topic("t", configs={"min.insync.replicas": "2"})
            leader = cluster.leader_of("t")
            assert (await cluster.produce(leader, "t", [b"before"])).error_code == 0
            ending = asyncio.create_task(cluster.ended(leader))
            await asyncio.sleep(0)
            cluster.world.disk(leader).fail_next("pwrite", "*/t-0/*", OSError(errno.EIO, "bad disk"))
            assert (await cluster.produce(leader, "t", [b"refused"])).error_code != 0
            assert isinstance(await ending, StorageError)
            await cluster.until(lambda: cluster.leader_of("t") not in ("", leader), within_ms=1_000)
            answer = await cluster.produce(cluster.leader_of("t"), "t", [b"after"])
            assert (answer.error_code, answer.base_offset) == (0, 1)

    run_virtual(main, timeout_ms=120_000)
