"""Three brokers replicate, lose their leader, cut what diverged, and keep what was acknowledged."""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable

import pytest
from glasslog.broker.partition.partition import Following, Offline
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.broker.requests import (
    ACKS_ALL,
    ACKS_LEADER,
    ACKS_NONE,
    EARLIEST_LOCAL_TIMESTAMP,
    EARLIEST_TIMESTAMP,
    LATEST_TIERED_TIMESTAMP,
    LATEST_TIMESTAMP,
    MAX_TIMESTAMP,
    Follower,
    IsolationLevel,
    ListOffsetsPartition,
    ProducePartition,
    ProduceRequest,
)
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation
from glasslog.common.ids import NO_NODE, BrokerEpoch, NodeId, Offset, TopicId, TopicPartition
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.metadata.records import ConfigChange, PartitionChange, ResourceType

from tests.unit.replication.replica_cluster import PARTITION, TOPIC_ID, ReplicaCluster, batch, until

Story = Callable[[ReplicaCluster], Awaitable[None]]


def play(story: Story, *, brokers: tuple[int, ...] = (1, 2, 3), **settings: str) -> None:
    """Run ``story`` on a cluster of running brokers, and stop them in order at the end."""

    async def main() -> None:
        cluster = ReplicaCluster(MemoryWorld(seed=7), **settings)
        for node_id in brokers:
            await cluster.start(node_id)
        await story(cluster)
        await cluster.stop_all()
        assert cluster.fatal == []

    run_virtual(main, timeout_ms=120_000)


def test_acks_all_is_acknowledged_when_every_replica_has_it() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        result = await cluster.produced(1, batch("a", "b"))
        assert (result.error, result.base_offset, result.log_start_offset) == (ErrorCode.NONE, 0, 0)
        assert cluster.partition(1).high_watermark == 2
        assert cluster.values(2) == cluster.values(3) == ["a", "b"]
        assert cluster.log_bytes(1) == cluster.log_bytes(2) == cluster.log_bytes(3)

    play(story)


def test_a_topic_of_the_brokers_is_refused_without_holding_back_others() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        offsets = TopicPartition("__consumer_offsets", 0)
        request = ProduceRequest(
            acks=ACKS_ALL,
            timeout_ms=1_000,
            partitions=tuple(
                ProducePartition(partition=name, records=batch("a")) for name in (offsets, PARTITION)
            ),
        )
        results = await cluster.nodes[1].manager.produce(request)
        assert [each.error for each in results] == [ErrorCode.INVALID_TOPIC_EXCEPTION, ErrorCode.NONE]
        assert cluster.values(1) == ["a"]

    play(story)


def test_a_consumer_waits_for_the_high_watermark() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        waiting = asyncio.ensure_future(cluster.fetched(1, 0, max_wait_ms=5_000))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await cluster.produced(1, batch("a"))
        result = await waiting
        assert result.high_watermark == result.last_stable_offset == 1
        assert len(result.records) == len(batch("a"))

    play(story)


def test_nothing_above_the_high_watermark_is_shown() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        cluster.world.network.partition("b1", "b3")
        assert (await cluster.produced(1, batch("b"), acks=ACKS_LEADER)).base_offset == 1
        await asyncio.sleep(0.05)
        result = await cluster.fetched(1, 1)
        assert (result.error, result.high_watermark, len(result.records)) == (ErrorCode.NONE, 1, 0)
        assert (await cluster.fetched(1, 3)).error is ErrorCode.OFFSET_OUT_OF_RANGE
        cluster.world.network.heal()

    play(story)


def test_a_killed_leader_loses_nothing_that_was_acknowledged() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        for number in range(10):
            await cluster.produced(1, batch(f"v{number}"))
        await cluster.kill(1)
        cluster.fence(1)
        cluster.elect(2, (2, 3))
        result = await cluster.produced(2, batch("after"))
        assert (result.error, result.base_offset) == (ErrorCode.NONE, 10)
        assert cluster.values(2) == cluster.values(3) == [f"v{number}" for number in range(10)] + ["after"]
        assert (await cluster.fetched(2, 0)).high_watermark == 11

    play(story)


def test_failover_does_not_wait_for_a_long_poll() -> None:
    """A follower that fetches from the new leader for another partition already has a request parked there
    for up to ``replica.fetch.wait.max.ms``; the partitions it takes over must not wait for that."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(2, 3, 1), topic="other", topic_id=TopicId(b"other-topic-id-0"))
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        await cluster.produced(2, batch("x"), partition=TopicPartition("other", 0))
        await asyncio.sleep(0.05)
        await cluster.kill(1)
        cluster.fence(1)
        began = asyncio.get_running_loop().time()
        cluster.elect(2, (2, 3))
        result = await cluster.produced(2, batch("b"))
        assert result.error is ErrorCode.NONE
        assert asyncio.get_running_loop().time() - began < 0.02

    play(story, replica_fetch_wait_max_ms="30000")


def test_a_leader_that_hears_late_of_its_election_is_asked_again_soon() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        await cluster.kill(1)
        cluster.behind.add(2)
        cluster.fence(1)
        cluster.elect(2, (2, 3))
        await asyncio.sleep(0.1)
        node = cluster.nodes[2]
        cluster.behind.clear()
        cluster.catch_up(2)
        result = await cluster.produced(2, batch("b"))
        assert (result.error, result.base_offset) == (ErrorCode.NONE, 1)
        assert node.manager.counters.failed_fetches > 0

    play(story)


def test_a_failover_of_many_partitions_is_told_in_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """A killed broker led 3,333 partitions: each of its followers wrote as many lines, several times over."""
    caplog.set_level(logging.DEBUG, logger="glasslog.broker.fetcher")

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3), partitions=200)
        await cluster.produced(1, batch("a"))
        await cluster.kill(1)
        cluster.behind.add(2)
        cluster.fence(1)
        survivors = (NodeId(2), NodeId(3))
        cluster.write(
            *(
                PartitionChange(topic_id=TOPIC_ID, partition=number, leader=NodeId(2), isr=survivors)
                for number in range(200)
            )
        )
        await asyncio.sleep(0.1)
        cluster.behind.clear()
        cluster.catch_up(2)
        await cluster.produced(2, batch("b"))

    play(story)
    told = [each for each in caplog.records if "UNKNOWN_LEADER_EPOCH" in each.getMessage()]
    loud = [each.getMessage() for each in told if each.levelno >= logging.INFO]
    assert loud[0] == "broker 2 answers UNKNOWN_LEADER_EPOCH for t-0 and 199 more"
    assert len(loud) < 20
    assert len([each for each in told if each.levelno == logging.DEBUG]) >= 199


def test_a_diverged_tail_is_cut_when_the_old_leader_returns() -> None:
    """KIP-101: an isolated leader takes a write with acks=1 that nobody else has; the next leader writes
    other records at the same offsets."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        cluster.world.network.partition("b1", "b2")
        cluster.world.network.partition("b1", "b3")
        cluster.behind.add(1)
        assert (await cluster.produced(1, batch("lost", "lost too"), acks=ACKS_LEADER)).base_offset == 1
        cluster.elect(2, (2, 3))
        assert (await cluster.produced(2, batch("b"))).base_offset == 1
        cluster.world.network.heal()
        cluster.behind.clear()
        cluster.catch_up(1)
        await until(lambda: cluster.values(1) == ["a", "b"])
        assert (await cluster.produced(2, batch("c"))).error is ErrorCode.NONE
        await until(lambda: cluster.values(1) == ["a", "b", "c"])
        assert cluster.log_bytes(1) == cluster.log_bytes(2) == cluster.log_bytes(3)
        await until(lambda: len(cluster.leader_state(2).isr) == 3)

    play(story)


def test_two_fast_elections_leave_identical_logs() -> None:
    """KIP-279: the log of a leader that wrote nothing in its epoch knows an epoch that nobody else has."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        cluster.elect(2, (1, 2, 3))
        cluster.elect(3, (1, 2, 3))
        cluster.elect(1, (1, 2, 3))
        cluster.elect(2, (1, 2, 3))
        result = await cluster.produced(2, batch("b"))
        assert (result.error, result.base_offset) == (ErrorCode.NONE, 1)
        await until(lambda: cluster.log_bytes(1) == cluster.log_bytes(2) == cluster.log_bytes(3))

    play(story)


def test_a_reader_of_removed_records_goes_on_where_the_log_begins() -> None:
    """Its last epoch is none that the leader still knows, and yet there is nothing to take back."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a", "b"))
        cluster.elect(2, (1, 2, 3))
        await cluster.produced(2, batch("c", "d"))
        leader = cluster.partition(2)
        epoch = int(leader.leader_epoch)
        leader.log.advance_start(2)

        def ask(offset: int) -> PartitionAsk:
            return PartitionAsk(offset, 1_000, epoch, epoch - 1, 0)

        assert leader.check_fetch(ask(2)) is None
        diverging = leader.check_fetch(ask(3))
        assert diverging is not None
        assert diverging.end_offset == 2

    play(story)


def test_a_retry_at_the_new_leader_is_not_doubled() -> None:
    """The leader dies after replicating and before answering; the producer sends the same batch again."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        first = batch("a", "b", producer_id=5, producer_epoch=0, base_sequence=0)
        assert (await cluster.produced(1, first)).base_offset == 0
        second = batch("c", producer_id=5, producer_epoch=0, base_sequence=2)
        unanswered = cluster.produce(1, second)
        await until(lambda: cluster.partition(2).log_end_offset == 3 == cluster.partition(3).log_end_offset)
        del unanswered
        await cluster.kill(1)
        cluster.fence(1)
        cluster.elect(2, (2, 3))
        again = await cluster.produced(2, batch("c", producer_id=5, producer_epoch=0, base_sequence=2))
        assert (again.error, again.base_offset) == (ErrorCode.NONE, 2)
        assert cluster.values(2) == cluster.values(3) == ["a", "b", "c"]
        gap = await cluster.produced(2, batch("d", producer_id=5, producer_epoch=0, base_sequence=9))
        assert gap.error is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    play(story)


def test_a_repeated_batch_is_acknowledged_only_when_replicated() -> None:
    """A retry finds its batch in the leader's log; that alone must not be taken for success."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        cluster.world.network.partition("b1", "b3")
        record = batch("b", producer_id=5, producer_epoch=0, base_sequence=0)
        first = await cluster.produced(1, bytearray(record), timeout_ms=50)
        assert first.error is ErrorCode.REQUEST_TIMED_OUT
        again = asyncio.ensure_future(cluster.produced(1, bytearray(record)))
        await asyncio.sleep(0.05)
        assert not again.done()
        cluster.world.network.heal()
        result = await again
        assert (result.error, result.base_offset) == (ErrorCode.NONE, 1)
        assert cluster.values(1) == ["a", "b"]

    play(story)


def test_a_broken_invariant_in_an_isr_change_stops_the_broker() -> None:
    """It died with its task: the broker limped on, and the partition never changed its ISR again."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        await cluster.produced(1, batch("a"))
        cluster.isr_violation = InvariantViolation("an ISR that can not be")
        cluster.world.network.partition("b1", "b2")
        await cluster.produced(1, batch("b"), acks=1)
        await until(lambda: bool(cluster.fatal))
        assert cluster.fatal == [cluster.isr_violation]
        cluster.fatal.clear()

    play(story, replica_lag_time_max_ms="500")


def test_a_silent_follower_leaves_the_isr_and_returns() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        cluster.world.network.partition("b1", "b3")
        result = await cluster.produced(1, batch("b"))
        assert result.error is ErrorCode.NONE
        assert cluster.leader_state(1).isr == (1, 2)
        manager = cluster.nodes[1].manager
        assert (manager.counters.isr_shrinks, manager.count_under_replicated()) == (1, 1)
        cluster.world.network.heal()
        await until(lambda: len(cluster.leader_state(1).isr) == 3)
        assert (manager.counters.isr_expands, manager.count_under_replicated()) == (1, 0)
        assert cluster.values(3) == ["a", "b"]

    play(story, replica_lag_time_max_ms="500")


def test_a_fenced_follower_is_out_at_once() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        await cluster.kill(3)
        waiting = asyncio.ensure_future(cluster.produced(1, batch("b")))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        cluster.fence(3)
        cluster.set_isr((1, 2))
        assert (await waiting).error is ErrorCode.NONE

    play(story)


def test_too_few_in_sync() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3), min_insync_replicas="2")
        await cluster.produced(1, batch("a"))
        await cluster.kill(2)
        await cluster.kill(3)
        appended = asyncio.ensure_future(cluster.produced(1, batch("b")))
        await asyncio.sleep(0.01)
        cluster.fence(2)
        cluster.fence(3)
        cluster.set_isr((1,))
        result = await appended
        assert (result.error, result.base_offset) == (ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, -1)
        assert (await cluster.produced(1, batch("c"))).error is ErrorCode.NOT_ENOUGH_REPLICAS
        assert (await cluster.produced(1, batch("d"), acks=ACKS_LEADER)).error is ErrorCode.NONE
        assert cluster.partition(1).high_watermark == 1
        assert cluster.nodes[1].manager.count_under_min_isr() == 1
        cluster.write(
            ConfigChange(
                resource_type=ResourceType.TOPIC,
                resource_name="t",
                key="min.insync.replicas",
                value="1",
            )
        )
        assert cluster.partition(1).high_watermark == 3

    play(story)


def test_a_follower_that_lost_its_disk_starts_over() -> None:
    """KIP-903: its new incarnation joins the ISR under its new broker epoch only, after copying all."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a", "b"))
        await cluster.kill(3)
        cluster.fence(3)
        cluster.set_isr((1, 2))
        files = cluster.world.runtime("b3").files
        files.remove_tree("/data")
        await cluster.start(3)
        await until(lambda: len(cluster.leader_state(1).isr) == 3)
        assert cluster.values(3) == ["a", "b"]

    play(story)


def test_an_unclean_restart_recovers_and_catches_up() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a", "b"))
        await cluster.kill(1)
        cluster.fence(1)
        cluster.elect(2, (2, 3))
        await cluster.produced(2, batch("c"))
        await cluster.start(1)
        await until(lambda: len(cluster.leader_state(2).isr) == 3)
        assert cluster.log_bytes(1) == cluster.log_bytes(2)
        assert isinstance(cluster.partition(1).role, Following)

    play(story)


def test_a_clean_restart_keeps_log_and_high_watermark() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1,))
        await cluster.produced(1, batch("a", "b"))
        await cluster.stop(1)
        cluster.elect(-1, (1,))
        node = await cluster.start(1)
        assert cluster.partition(1).high_watermark == 2
        assert cluster.partition(1).role == Following(
            leader_id=NO_NODE,
            leader_epoch=cluster.image_of().leader_epoch,
            partition_epoch=cluster.image_of().partition_epoch,
        )
        cluster.elect(1, (1,))
        assert cluster.values(1) == ["a", "b"]
        assert (await cluster.produced(1, batch("c"))).base_offset == 2
        assert node.manager.log_end_offset(PARTITION) == 3

    play(story, brokers=(1,))


def test_metadata_from_before_its_registration_makes_no_leader() -> None:
    """A restarted broker replays metadata in which it still leads. After a power loss its log may be shorter
    than its followers': leading in the same epoch would write other records at the same offsets."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        await cluster.stop(1)
        cluster.behind.add(1)
        node = await cluster.start(1)
        assert node.manager.find(PARTITION) is None
        cluster.elect(2, (2, 3))
        cluster.behind.clear()
        cluster.catch_up(1)
        assert cluster.partition(1).leader_id == 2

    play(story)


def test_a_topic_of_many_partitions_lets_others_have_their_turn() -> None:
    """A thousand new partitions held up the event loop for seconds: brokers were fenced meanwhile."""

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1,))
        cluster.behind.add(1)
        manager = cluster.nodes[1].manager
        for number in range(100):
            cluster.create(
                replicas=(1,),
                topic=f"many-{number}",
                topic_id=TopicId(b"many-id-" + number.to_bytes(8, "big")),
            )
        following = asyncio.ensure_future(cluster.follow(1))
        turns = 0
        while not following.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 5
        assert len(manager.partitions()) == 101
        last = manager.find(TopicPartition("many-99", 0))
        assert last is not None
        assert last.leader_id == 1

    play(story, brokers=(1,))


def test_a_deleted_topic_leaves_and_its_namesake_starts_empty() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        waiting = asyncio.ensure_future(cluster.fetched(1, 1, max_wait_ms=60_000))
        await asyncio.sleep(0.01)
        cluster.delete()
        assert (await waiting).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert (await cluster.fetched(1, 0)).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        cluster.create(replicas=(2, 1, 3), topic_id=TopicId(b"topic-id-0000002"))
        assert (await cluster.produced(2, batch("b"))).base_offset == 0
        assert cluster.values(1) == cluster.values(3) == ["b"]
        files = cluster.nodes[1].runtime.files
        await until(lambda: not [name for name in files.list("/data") if name.endswith("-delete")])

    play(story)


def test_the_folder_of_a_topic_deleted_meanwhile_is_removed_at_the_start() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        cluster.create(replicas=(1, 2), topic="gone", topic_id=TopicId(b"gone-topic-id-00"))
        await cluster.produced(1, batch("a"))
        await cluster.produced(1, batch("x"), partition=TopicPartition("gone", 0))
        await cluster.stop(2)
        cluster.delete(TopicId(b"gone-topic-id-00"))
        cluster.delete()
        cluster.create(replicas=(1, 2), topic_id=TopicId(b"topic-id-0000002"))
        await cluster.start(2)
        assert (await cluster.produced(1, batch("b"))).error is ErrorCode.NONE
        assert cluster.values(2) == ["b"]
        files = cluster.nodes[2].runtime.files
        await until(lambda: not files.exists("/data/gone-0"))

    play(story, brokers=(1, 2))


def test_partitions_spread_over_log_dirs_and_a_failed_disk_takes_only_its_own() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1,), partitions=4)
        names = [TopicPartition("t", number) for number in range(4)]
        for name in names:
            assert (await cluster.produced(1, batch("a"), partition=name)).error is ErrorCode.NONE
        folders = [cluster.partition(1, name).log.directory.rsplit("/", 1)[0] for name in names]
        assert sorted(folders) == ["/data1", "/data1", "/data2", "/data2"]
        cluster.world.disk("b1").fail_next("pwrite", "/data1/*", OSError(errno.EIO, "bad disk"), times=None)
        for name, folder in zip(names, folders, strict=True):
            result = await cluster.produced(1, batch("b"), partition=name)
            expected = ErrorCode.KAFKA_STORAGE_ERROR if folder == "/data1" else ErrorCode.NONE
            assert result.error is expected
            assert isinstance(cluster.partition(1, name).role, Offline) == (folder == "/data1")
        assert cluster.nodes[1].manager.count_offline() == 2

    play(story, brokers=(1,), log_dirs="/data1,/data2")


def test_a_disk_that_fails_in_the_middle_of_a_request_answers_all_of_it() -> None:
    """The second partition's write took the disk and the first partition offline, and only then did the
    request begin to wait for the first one's replicas: nobody was left to answer before its deadline.
    """

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2), partitions=4)
        first, second = TopicPartition("t", 0), TopicPartition("t", 2)
        assert cluster.partition(1, first).log.directory == "/data1/t-0"
        await cluster.kill(2)
        cluster.world.disk("b1").fail_next("pwrite", "/data1/t-2/*", OSError(errno.EIO, "bad disk"))
        request = ProduceRequest(
            acks=ACKS_ALL,
            timeout_ms=60_000,
            partitions=tuple(
                ProducePartition(partition=name, records=batch("a")) for name in (first, second)
            ),
        )
        async with asyncio.timeout(1):
            results = await cluster.nodes[1].manager.produce(request)
        assert [result.error for result in results] == [ErrorCode.KAFKA_STORAGE_ERROR] * 2

    play(story, brokers=(1, 2), log_dirs="/data1,/data2")


def test_a_fetch_of_a_former_incarnation_says_nothing() -> None:
    """While the leader had not yet heard of a follower's new registration, a request of the old one that was
    still on its way undid what the new one had said: a follower that had lost its tail in a power loss
    counted as having it again, and the high watermark went beyond what it holds (KIP-903).
    """

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        await cluster.produced(1, batch("a"))
        epoch = cluster.nodes[2].broker_epoch
        await cluster.kill(2)
        await cluster.produced(1, batch("b"), acks=ACKS_LEADER)
        leader, now_ms = cluster.partition(1), cluster.nodes[1].runtime.clock.now_ms()

        def fetch(offset: int, broker_epoch: int) -> bool:
            follower = Follower(replica_id=NodeId(2), broker_epoch=BrokerEpoch(broker_epoch))
            return leader.on_follower_fetch(follower, PartitionAsk(offset, 1, -1, -1, 0), now_ms=now_ms)

        assert not fetch(0, epoch + 5)
        with pytest.raises(GlasslogError) as refused:
            fetch(2, epoch)
        assert refused.value.code is ErrorCode.STALE_BROKER_EPOCH
        assert leader.high_watermark == 1
        assert fetch(2, epoch + 5)

    play(story, brokers=(1, 2))


def test_a_consumer_at_a_new_leader_gets_inherited_records_when_they_are_committed() -> None:
    """Waiting fetches counted only what the new leader appended itself: a consumer that came between the
    election and the first fetch of a follower waited out its whole long poll for records that were there.
    """

    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        await cluster.produced(1, batch("a"))
        await cluster.kill(1)
        cluster.elect(2, (2, 3))
        assert cluster.partition(2).high_watermark == 0
        async with asyncio.timeout(1):
            result = await cluster.fetched(2, 0, max_wait_ms=60_000)
        assert len(result.records) == len(batch("a"))

    play(story)


def test_bad_requests_leave_no_trace() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        broken = batch("a")
        broken[-1] ^= 1
        unknown = TopicPartition("t", 7)
        assert (await cluster.produced(1, broken)).error is ErrorCode.CORRUPT_MESSAGE
        assert (await cluster.produced(1, batch("a"), acks=2)).error is ErrorCode.INVALID_REQUIRED_ACKS
        assert (
            await cluster.produced(1, batch("a"), partition=unknown)
        ).error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        wrong = await cluster.produced(2, batch("a"))
        assert (wrong.error, wrong.current_leader_id) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, 1)
        assert (await cluster.fetched(2, 0)).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
        assert (await cluster.fetched(1, 0, leader_epoch=7)).error is ErrorCode.UNKNOWN_LEADER_EPOCH
        cluster.elect(1, (1, 2, 3))
        assert (await cluster.fetched(1, 0, leader_epoch=0)).error is ErrorCode.FENCED_LEADER_EPOCH
        assert cluster.partition(1).log_end_offset == 0

    play(story)


def test_fetch_limits_give_at_least_one_whole_batch() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1,))
        one = len(batch("a" * 500))
        for _ in range(4):
            await cluster.produced(1, batch("a" * 500), acks=ACKS_NONE)
        assert len((await cluster.fetched(1, 0, max_bytes=1)).records) == one
        assert len((await cluster.fetched(1, 1, max_bytes=2 * one + 10)).records) == 2 * one

    play(story, brokers=(1,))


def test_a_fetch_waits_for_its_minimum_of_bytes() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        size = len(batch("a"))
        waiting = asyncio.ensure_future(cluster.fetched(1, 0, max_wait_ms=60_000, min_bytes=3 * size))
        for _ in range(2):
            await cluster.produced(1, batch("a"))
            await asyncio.sleep(0.01)
            assert not waiting.done()
        await cluster.produced(1, batch("a"))
        assert len((await waiting).records) == 3 * size
        late = await cluster.fetched(1, 0, max_wait_ms=100, min_bytes=100 * size)
        assert len(late.records) == 3 * size

    play(story, brokers=(1, 2))


def test_offsets_by_time() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1,))
        await cluster.produced(1, batch("a", "b"))
        manager = cluster.nodes[1].manager

        def asked(timestamp: int) -> tuple[ErrorCode, int]:
            each = ListOffsetsPartition(partition=PARTITION, timestamp=timestamp)
            (result,) = manager.list_offsets((each,), IsolationLevel.READ_UNCOMMITTED)
            return result.error, result.offset

        assert asked(EARLIEST_TIMESTAMP) == (ErrorCode.NONE, 0)
        assert asked(LATEST_TIMESTAMP) == (ErrorCode.NONE, 2)
        assert asked(1_000) == (ErrorCode.NONE, 0)
        assert asked(1_001) == (ErrorCode.NONE, -1)
        assert asked(MAX_TIMESTAMP) == (ErrorCode.NONE, 0)
        assert asked(EARLIEST_LOCAL_TIMESTAMP) == (ErrorCode.NONE, 0)
        assert asked(LATEST_TIERED_TIMESTAMP) == (ErrorCode.NONE, -1)
        assert asked(-9)[0] is ErrorCode.INVALID_TIMESTAMP

    play(story, brokers=(1,))


def test_a_coordinator_appends_and_reads_locally() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2, 3))
        manager = cluster.nodes[1].manager
        result = await manager.append_local(PARTITION, batch("a"), timeout_ms=1_000)
        assert result.base_offset == 0
        assert bytes(manager.read_local(PARTITION, Offset(0), max_bytes=1_000)) == cluster.log_bytes(1)
        assert (manager.log_start_offset(PARTITION), manager.high_watermark(PARTITION)) == (0, 1)
        with pytest.raises(GlasslogError) as refused:
            await cluster.nodes[2].manager.append_local(PARTITION, batch("b"), timeout_ms=1_000)
        assert refused.value.code is ErrorCode.NOT_LEADER_OR_FOLLOWER

    play(story)


def test_a_moved_replica_is_dropped() -> None:
    async def story(cluster: ReplicaCluster) -> None:
        cluster.create(replicas=(1, 2))
        await cluster.produced(1, batch("a"))
        cluster.reassign((1, 3), isr=(1,))
        await until(lambda: cluster.leader_state(1).isr == (1, 3))
        assert cluster.nodes[2].manager.find(PARTITION) is None
        assert cluster.values(3) == ["a"]
        assert cluster.image.topic_ids["t"] == TOPIC_ID

    play(story)
