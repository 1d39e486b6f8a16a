"""Voters come, go and are replaced, as a client asks a broker for it; whole clusters on virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from glasslog.client.admin import Admin
from glasslog.client.quorum import QuorumStatus
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.simulator.cluster import MemoryCluster


def run_with(
    cluster: Callable[[], MemoryCluster], story: Callable[[MemoryCluster, Admin], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with cluster() as running:
            brokers = ",".join(f"{name}:9192" for name in running.broker_names)
            async with Admin(brokers, runtime=running.world.runtime("admin")) as admin:
                await story(running, admin)

    run_virtual(main, timeout_ms=300_000)


def voters(status: QuorumStatus) -> list[int]:
    return [voter.node_id for voter in status.voters]


def controllers(status: QuorumStatus) -> list[int]:
    """Those that follow without a vote; brokers do so as well."""
    return [each.node_id for each in status.observers if each.node_id > 100]


def test_a_single_controller_grows_to_three_and_may_die_then() -> None:
    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        await admin.add_voter(102)
        await admin.add_voter(103)
        status = await admin.describe_quorum()
        assert (status.leader_id, voters(status), controllers(status)) == (101, [101, 102, 103], [])
        assert len({voter.directory_id for voter in status.voters} - {""}) == 3
        assert [voter.address for voter in status.voters] == [f"controller-{n}:9093" for n in (1, 2, 3)]
        await cluster.kill("controller-1")
        await cluster.create_topic("t", replication_factor=1)
        status = await admin.describe_quorum()
        assert status.leader_id in (102, 103)
        assert voters(status) == [101, 102, 103]

    run_with(lambda: MemoryCluster(controllers=3, first_voters=1, brokers=1), story)


def test_a_controller_that_lost_its_disk_comes_back_without_a_vote() -> None:
    """It has forgotten whom it voted for, so the voter that it was is another; it may become one anew."""

    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        before = (await admin.describe_quorum()).voters[2]
        await cluster.kill("controller-3")
        cluster.world.disk("controller-3").wipe()
        cluster.start("controller-3")
        await cluster.healthy()
        await cluster.create_topic("t", replication_factor=1)
        status = await admin.describe_quorum()
        assert voters(status) == [101, 102, 103]
        assert status.voters[2].directory_id == before.directory_id
        new = next(each for each in status.observers if each.node_id == 103)
        assert new.directory_id not in ("", before.directory_id)
        with pytest.raises(GlasslogError, match="node 103 is a voter already"):
            await admin.add_voter(103)
        with pytest.raises(GlasslogError, match="node 103 with that directory is not among"):
            await admin.remove_voter(103, directory_id=new.directory_id)
        await admin.remove_voter(103, directory_id=before.directory_id)
        await admin.add_voter(103, directory_id=new.directory_id)
        status = await admin.describe_quorum()
        assert [voter.directory_id for voter in status.voters][2] == new.directory_id
        await cluster.kill("controller-1")
        await cluster.create_topic("u", replication_factor=1)

    run_with(lambda: MemoryCluster(controllers=3, brokers=1), story)


def test_a_leader_that_is_removed_makes_way() -> None:
    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        leader = (await admin.describe_quorum()).leader_id
        await admin.remove_voter(leader)
        await cluster.create_topic("t", replication_factor=1)
        status = await admin.describe_quorum()
        assert status.leader_id != leader
        assert leader not in voters(status)
        # It looks for its successor, follows, and may come back.
        await admin.add_voter(leader)
        assert leader in voters(await admin.describe_quorum())

    run_with(lambda: MemoryCluster(controllers=3, brokers=1), story)


def test_leadership_is_handed_over() -> None:
    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        for node_id in (103, 101, 101, 102):
            assert await admin.transfer_leadership(node_id) == node_id
            assert (await admin.describe_quorum()).leader_id == node_id

    run_with(lambda: MemoryCluster(controllers=3, brokers=1), story)


def test_refusals_say_why() -> None:
    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        async def refused(change: Awaitable[object], code: ErrorCode, reason: str) -> None:
            with pytest.raises(GlasslogError, match=reason) as caught:
                await change
            assert caught.value.code is code

        await refused(admin.remove_voter(101), ErrorCode.INVALID_REQUEST, "node 101 is the only voter")
        await refused(
            admin.add_voter(7), ErrorCode.VOTER_NOT_FOUND, "no controller 7 fetches from the leader"
        )
        # Brokers follow the log as well, and are no controllers.
        await refused(admin.add_voter(1), ErrorCode.VOTER_NOT_FOUND, "no controller 1 fetches")
        await refused(admin.transfer_leadership(102), ErrorCode.VOTER_NOT_FOUND, "not among the voters 101")
        await refused(admin.add_voter(102, directory_id="x"), ErrorCode.INVALID_REQUEST, "no directory id")

    run_with(lambda: MemoryCluster(controllers=2, first_voters=1, brokers=1), story)


def test_controllers_that_all_moved_find_each_other_by_their_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log had the old addresses only, and nobody could be asked for the new ones."""

    async def story(cluster: MemoryCluster, admin: Admin) -> None:
        assert {each.address for each in (await admin.describe_quorum()).voters} == {
            f"controller-{n}:9093" for n in (1, 2, 3)
        }
        for name in (*cluster.controller_names, "broker-1"):
            await cluster.kill(name)
        monkeypatch.setattr("glasslog.simulator.cluster._CONTROLLER_PORT", 9094)
        for name in (*cluster.controller_names, "broker-1"):
            cluster.start(name)
        await cluster.healthy()

        async def addresses() -> set[str]:
            return {each.address for each in (await admin.describe_quorum()).voters}

        for _ in range(200):
            if await addresses() == {f"controller-{n}:9094" for n in (1, 2, 3)}:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the log still has {await addresses()}")

    run_with(lambda: MemoryCluster(controllers=3, brokers=1), story)
