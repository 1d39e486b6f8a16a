"""Real controllers and brokers together, on an in-memory network and virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest
from glasslog.broker.group.hashing import partition_of_group
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import OFFSETS_TOPIC
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.log.batch import iterate_batches
from glasslog.log.records import decode_records
from glasslog.simulator.cluster import MemoryCluster, broker_id
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2

Scenario = Callable[[MemoryCluster], Awaitable[None]]


def on_a_cluster(
    scenario: Scenario, *, seed: int = 0, brokers: int = 3, settings: Mapping[str, str] | None = None
) -> None:
    async def main() -> None:
        async with MemoryCluster(seed=seed, brokers=brokers, settings=settings) as cluster:
            await scenario(cluster)

    run_virtual(main, timeout_ms=300_000)


def values_in(answer: pb.FetchResponse.Partition) -> list[bytes]:
    assert answer.error_code == 0, ErrorCode(answer.error_code)
    return [
        record.value or b""
        for _, position in iterate_batches(answer.records)
        for record in decode_records(answer.records, position)
    ]


async def isr_is_whole(cluster: MemoryCluster, topic: str, *, partitions: int = 1) -> float:
    return await cluster.until(
        lambda: all(
            len(cluster.partition(topic, n).isr) == len(cluster.partition(topic, n).replicas)
            for n in range(partitions)
        ),
        what=f"whole ISR of {topic}",
    )


def test_a_cluster_is_healthy_within_a_second_or_two() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with MemoryCluster():
            assert loop.time() - started < 2

    run_virtual(main)


def test_acknowledged_records_are_read_back_from_the_leader() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t")
        leader = cluster.leader_of("t")
        answer = await cluster.produce(leader, "t", [b"one", b"two"])
        assert (answer.error_code, answer.base_offset) == (0, 0)
        fetched = await cluster.fetch(leader, "t")
        assert values_in(fetched) == [b"one", b"two"]
        assert fetched.high_watermark == 2

    on_a_cluster(scenario)


def test_replicas_stand_in_different_racks_and_leaders_are_spread() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t", partitions=6)
        assert {cluster.leader_of("t", n) for n in range(6)} == set(cluster.broker_names)
        assert all(len(set(cluster.partition("t", n).replicas)) == 3 for n in range(6))

    on_a_cluster(scenario)


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_leader_is_replaced_within_a_second_and_comes_back(seed: int) -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t", configs={"min.insync.replicas": "2"})
        old = cluster.leader_of("t")
        assert (await cluster.produce(old, "t", [b"before"])).error_code == 0
        await cluster.kill(old)
        took_ms = await cluster.until(
            lambda: cluster.leader_of("t") not in ("", old), within_ms=1_000, what="a new leader"
        )
        assert took_ms < 1_000
        new = cluster.leader_of("t")
        answer = await cluster.produce(new, "t", [b"after"])
        assert (answer.error_code, answer.base_offset) == (0, 1)
        assert broker_id(old) not in cluster.partition("t").isr

        await cluster.restart(old)
        await cluster.healthy()
        assert await isr_is_whole(cluster, "t") < 5_000
        assert values_in(await cluster.fetch(new, "t")) == [b"before", b"after"]
        await cluster.kill(new)
        await cluster.until(lambda: cluster.leader_of("t") not in ("", new), within_ms=1_000)
        last = cluster.leader_of("t")
        assert values_in(await cluster.fetch(last, "t")) == [b"before", b"after"]

    on_a_cluster(scenario, seed=seed)


def test_who_is_not_the_leader_names_the_leader() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t")
        leader = cluster.leader_of("t")
        other = next(name for name in cluster.broker_names if name != leader)
        answer = await cluster.produce(other, "t", [b"x"])
        assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert answer.current_leader_id == broker_id(leader)

    on_a_cluster(scenario)


def test_the_active_controller_may_die_while_records_flow() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t")
        leader, active = cluster.leader_of("t"), cluster.active_controller()
        await cluster.kill(active)
        assert (await cluster.produce(leader, "t", [b"meanwhile"])).error_code == 0
        await cluster.until(lambda: cluster.active_controller() not in ("", active), within_ms=5_000)
        await cluster.create_topic("afterwards")
        await asyncio.sleep(12)
        assert all(not broker.fenced for broker in cluster.image.brokers.values()), "nobody was fenced for it"
        await cluster.kill(cluster.leader_of("t"))
        await cluster.until(lambda: cluster.leader_of("t") not in ("", leader), within_ms=1_000)

    on_a_cluster(scenario)


def test_a_stopped_leader_hands_over_first() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t")
        old = cluster.leader_of("t")
        await cluster.produce(old, "t", [b"kept"])
        await cluster.stop(old, within_ms=3_000)
        new = cluster.leader_of("t")
        assert new not in ("", old), "leadership moved before the process ended"
        assert values_in(await cluster.fetch(new, "t")) == [b"kept"]
        cluster.start(old)
        await cluster.healthy()
        await isr_is_whole(cluster, "t")

    on_a_cluster(scenario)


def test_a_paused_broker_is_fenced_and_returns() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t")
        paused = cluster.leader_of("t")
        cluster.pause(paused)
        await cluster.until(lambda: cluster.leader_of("t") not in ("", paused), within_ms=12_000)
        answer = await cluster.produce(cluster.leader_of("t"), "t", [b"meanwhile"])
        assert answer.error_code == 0
        cluster.resume(paused)
        await cluster.until(lambda: cluster.broker(paused).status().is_ready, within_ms=3_000)
        await isr_is_whole(cluster, "t")

    on_a_cluster(scenario, settings={"replica.lag.time.max.ms": "2000"})


def test_the_whole_cluster_may_lose_power_after_a_clean_start() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t", partitions=3)
        for partition in range(3):
            leader = cluster.leader_of("t", partition)
            assert (await cluster.produce(leader, "t", [b"kept"], partition=partition)).error_code == 0
        names = (*cluster.controller_names, *cluster.broker_names)
        for name in names:
            await cluster.kill(name)
        for name in names:
            cluster.start(name)
        assert await cluster.healthy() < 2_000, "nobody waits for the sessions of those who died"
        await cluster.until(lambda: all(cluster.leader_of("t", n) for n in range(3)), within_ms=5_000)
        for partition in range(3):
            leader = cluster.leader_of("t", partition)
            assert values_in(await cluster.fetch(leader, "t", partition=partition)) == [b"kept"]

    on_a_cluster(scenario)


def test_an_unknown_topic_is_created_by_asking_for_it() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        request = pb.MetadataRequest(topics=["new"], allow_auto_topic_creation=True)
        answer = await cluster.call("broker-2", "Metadata", request, pb.MetadataResponse)
        (topic,) = answer.topics
        assert (topic.error_code, len(topic.partitions)) == (0, 1)
        assert [broker.id for broker in answer.brokers] == [1, 2, 3]

    on_a_cluster(scenario)


def test_a_group_finds_its_coordinator_and_its_offsets_survive_its_death() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t")
        first = await find_coordinator(cluster, "broker-1")
        commit = pb.OffsetCommitRequest(group_id="g", generation_id=-1)
        commit.partitions.add(topic="t", partition=0, offset=42, leader_epoch=-1)
        await cluster.until_answered(first, "OffsetCommit", commit, pb.OffsetCommitResponse)
        await cluster.kill(first)
        survivor = next(name for name in cluster.broker_names if name != first)
        partition = partition_of_group("g", 50)
        await cluster.until(lambda: cluster.leader_of(OFFSETS_TOPIC, partition) not in ("", first))
        second = await find_coordinator(cluster, survivor)
        ask = pb.OffsetFetchRequest(group_id="g", all_partitions=True)
        answer = await cluster.until_answered(second, "OffsetFetch", ask, pb.OffsetFetchResponse)
        assert [(p.topic, p.offset) for p in answer.partitions] == [("t", 42)]

    on_a_cluster(scenario)


async def find_coordinator(cluster: MemoryCluster, name: str) -> str:
    request = pb.FindCoordinatorRequest(key="g")
    answer = await cluster.until_answered(name, "FindCoordinator", request, pb.FindCoordinatorResponse)
    return f"broker-{answer.node_id}"


def test_a_member_joins_syncs_lives_and_leaves() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        name = await find_coordinator(cluster, "broker-1")
        join = pb.JoinGroupRequest(
            group_id="g",
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            protocol_type="consumer",
            client_id="me",
        )
        join.protocols.add(name="range", metadata=b"subscription")
        joined = await cluster.call(name, "JoinGroup", join, pb.JoinGroupResponse)
        if joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            join.member_id = joined.member_id
            joined = await cluster.call(name, "JoinGroup", join, pb.JoinGroupResponse)
        assert joined.error_code == 0
        assert joined.leader == joined.member_id
        assert joined.member_id.startswith("me-")
        assert [member.metadata for member in joined.members] == [b"subscription"]

        generation, member = joined.generation_id, joined.member_id
        sync = pb.SyncGroupRequest(
            group_id="g",
            generation_id=generation,
            member_id=member,
            protocol_type="consumer",
            protocol_name="range",
        )
        sync.assignments.add(member_id=joined.member_id, assignment=b"everything")
        synced = await cluster.call(name, "SyncGroup", sync, pb.SyncGroupResponse)
        assert (synced.error_code, synced.assignment) == (0, b"everything")
        alive = pb.HeartbeatRequest(group_id="g", generation_id=generation, member_id=member)
        beat = await cluster.call(name, "Heartbeat", alive, pb.HeartbeatResponse)
        assert beat.error_code == 0

        ask = pb.DescribeGroupsRequest(groups=["g"])
        described = await cluster.call(name, "DescribeGroups", ask, pb.DescribeGroupsResponse)
        (group,) = described.groups
        assert (group.state, group.protocol_name) == ("Stable", "range")
        assert [(m.client_id, m.client_host, m.assignment) for m in group.members] == [
            ("me", "/client", b"everything")
        ]
        leave = pb.LeaveGroupRequest(group_id="g")
        leave.members.add(member_id=joined.member_id)
        left = await cluster.call(name, "LeaveGroup", leave, pb.LeaveGroupResponse)
        assert (left.error_code, left.members[0].error_code) == (0, 0)
        listed = await cluster.call(name, "ListGroups", pb.ListGroupsRequest(), pb.ListGroupsResponse)
        assert [(each.group_id, each.state) for each in listed.groups] in ([], [("g", "Empty")])

    on_a_cluster(scenario)


def test_deleting_a_topic_ends_its_replicas_everywhere() -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t")
        leader = cluster.leader_of("t")
        await cluster.produce(leader, "t", [b"x"])
        request = controller_pb2.DeleteTopicsRequest(names=["t"], timeout_ms=5_000)
        answer = await cluster.call("broker-1", "DeleteTopics", request, controller_pb2.DeleteTopicsResponse)
        assert answer.topics[0].error_code == 0
        await cluster.until(
            lambda: all(
                not [each for each in cluster.world.disk(name).list("data") if each.startswith("t-")]
                for name in cluster.broker_names
            ),
            what="files of the topic gone",
        )
        refused = await cluster.produce(leader, "t", [b"x"])
        assert refused.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        await cluster.create_topic("t")
        fresh = await cluster.fetch(cluster.leader_of("t"), "t")
        assert (values_in(fresh), fresh.high_watermark) == ([], 0)

    on_a_cluster(scenario)


def test_brokers_that_missed_much_begin_with_a_snapshot() -> None:
    """The controllers' log is cut again and again; a broker that was away still gets everything."""

    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("kept", partitions=3)
        await cluster.create_topic("removed")
        await cluster.kill("broker-3")
        await cluster.create_topic("new", replication_factor=2)
        request = controller_pb2.DeleteTopicsRequest(names=["removed"], timeout_ms=5_000)
        await cluster.call("broker-1", "DeleteTopics", request, controller_pb2.DeleteTopicsResponse)
        for number in range(20):
            await cluster.create_topic(f"t{number}", replication_factor=2)
        await asyncio.sleep(2)
        for name in cluster.controller_names:
            core = cluster.controller(name).raft.core
            assert core is not None
            assert core.log.start_offset > 20
        cluster.start("broker-3")
        await cluster.healthy()
        await isr_is_whole(cluster, "kept", partitions=3)
        await cluster.until(
            lambda: cluster.broker("broker-3").observer.image.topics == cluster.image.topics,
            what="the same topics on broker-3",
        )
        await cluster.kill(cluster.active_controller())
        await cluster.create_topic("after", replication_factor=2)

    on_a_cluster(
        scenario,
        settings={
            "metadata.log.max.record.bytes.between.snapshots": "2000",
            "metadata.max.retention.bytes": "0",
        },
    )


@pytest.mark.parametrize("enabled", [True, False])
def test_a_broker_that_was_away_gets_its_leaderships_back_if_that_is_wanted(enabled: bool) -> None:
    async def scenario(cluster: MemoryCluster) -> None:
        await cluster.create_topic("t", partitions=3)
        old = cluster.leader_of("t")
        await cluster.kill(old)
        await cluster.until(lambda: cluster.leader_of("t") not in ("", old))
        await cluster.restart(old)
        await cluster.healthy()
        await isr_is_whole(cluster, "t", partitions=3)
        assert cluster.leader_of("t") != old
        await asyncio.sleep(6)
        assert (cluster.leader_of("t") == old) is enabled

    settings = {
        "leader.imbalance.check.interval.seconds": "5",
        "auto.leader.rebalance.enable": str(enabled).lower(),
    }
    on_a_cluster(scenario, settings=settings)
