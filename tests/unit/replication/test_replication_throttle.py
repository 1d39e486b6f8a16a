"""Copies at a limited rate: those of replicas that are not in sync, and no others."""

import pytest
from glasslog.broker.partition.rate_quota import RateQuota
from glasslog.common.errors import ConfigError, ErrorCode
from glasslog.common.ids import NodeId
from glasslog.common.throttled_replicas import is_throttled
from glasslog.common.topic_config import check_topic_overrides
from glasslog.metadata.records import ConfigChange, PartitionChange, ResourceType
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.replication.replica_cluster import TOPIC_ID, ReplicaCluster, batch, until
from tests.unit.replication.test_replication import Story, play

BATCHES = 40
VALUE = "x" * 1_000
RATE = 5_000
LONG_AGO_MS = 6_000
"""40 KB at 5 KB per second take 8 s; what is not held back takes a moment."""


@given(
    uses=st.lists(st.tuples(st.integers(1, 50_000), st.integers(0, 500)), min_size=1, max_size=30),
    rate=st.integers(1, 100_000),
)
def test_no_more_than_the_rate_is_used_by_who_waits_as_told(uses: list[tuple[int, int]], rate: int) -> None:
    quota, now_ms, used = RateQuota(), 1_000, 0
    for size_bytes, idle_ms in uses:
        now_ms += idle_ms + quota.delay_ms(per_second=rate, now_ms=now_ms + idle_ms)
        assert quota.delay_ms(per_second=rate, now_ms=now_ms) == 0
        assert used <= rate * (now_ms - 1_000) / 1_000 + 1e-6
        quota.record(size_bytes, per_second=rate, now_ms=now_ms)
        used += size_bytes


def test_another_rate_counts_for_old_debts_too() -> None:
    quota = RateQuota()
    quota.record(1_000_000, per_second=1, now_ms=0)
    assert quota.delay_ms(per_second=1, now_ms=0) == 1_000_000_000
    assert quota.delay_ms(per_second=1_000_000, now_ms=0) == 1_000


@pytest.mark.parametrize(
    ("entries", "expected"),
    [((), False), (("*",), True), (("0:3", "1:2"), True), (("0:2", "1:3"), False)],
)
def test_which_replicas_are_meant(entries: tuple[str, ...], expected: bool) -> None:
    assert is_throttled(entries, partition=0, broker_id=3) is expected


@pytest.mark.parametrize("text", ["1", "1:", "*,0:1", "a:1", "0:-1"])
def test_what_names_no_replicas_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="PARTITION:BROKER"):
        check_topic_overrides({"leader.replication.throttled.replicas": text})


async def filled(cluster: ReplicaCluster, *, side: str, throttled: str) -> None:
    cluster.create(replicas=(1, 2))
    throttle(cluster, side, throttled)
    for _ in range(BATCHES):
        result = await cluster.produced(1, batch(VALUE))
        assert result.error is ErrorCode.NONE


def throttle(cluster: ReplicaCluster, side: str, throttled: str | None) -> None:
    key = f"{side}.replication.throttled.replicas"
    cluster.write(ConfigChange(resource_type=ResourceType.TOPIC, resource_name="t", key=key, value=throttled))


def play_throttled(story: Story, *, rate: int) -> None:
    """Leaders and followers have ``rate``; which of them it holds back is the topic's affair."""
    play(
        story,
        replica_fetch_max_bytes="1000",
        leader_replication_throttled_rate=str(rate),
        follower_replication_throttled_rate=str(rate),
    )


async def copied_ms(cluster: ReplicaCluster) -> int:
    """How long it takes until broker 3, which is added now, has everything."""
    clock = cluster.nodes[1].runtime.clock
    began_ms = clock.now_ms()
    replicas = tuple(map(NodeId, (1, 2, 3)))
    cluster.write(PartitionChange(topic_id=TOPIC_ID, partition=0, replicas=replicas))
    await until(lambda: 3 in cluster.leader_state(1).isr, within_ms=60_000)
    assert cluster.values(3) == cluster.values(1)
    return clock.now_ms() - began_ms


@pytest.mark.parametrize("side", ["leader", "follower"])
@pytest.mark.parametrize(("brokers", "is_slow"), [("{broker}", True), ("9", False)])
def test_a_new_replica_is_copied_at_the_rate_that_is_set(side: str, brokers: str, is_slow: bool) -> None:
    async def story(cluster: ReplicaCluster) -> None:
        broker = brokers.format(broker=1 if side == "leader" else 3)
        await filled(cluster, side=side, throttled=f"0:{broker}")
        took_ms = await copied_ms(cluster)
        assert (took_ms > LONG_AGO_MS) is is_slow

    play_throttled(story, rate=RATE)


@pytest.mark.parametrize("side", ["leader", "follower"])
def test_who_is_in_sync_is_never_held_back(side: str) -> None:
    """Else the throttle would push it out of the ISR, and every acks=all would wait for it."""

    async def story(cluster: ReplicaCluster) -> None:
        clock = cluster.nodes[1].runtime.clock
        began_ms = clock.now_ms()
        await filled(cluster, side=side, throttled="*")
        assert clock.now_ms() - began_ms < LONG_AGO_MS
        assert cluster.leader_state(1).isr == (1, 2)

    play_throttled(story, rate=100)


@pytest.mark.parametrize("side", ["leader", "follower"])
def test_a_throttle_that_is_lifted_holds_nothing_back_any_more(side: str) -> None:
    async def story(cluster: ReplicaCluster) -> None:
        await filled(cluster, side=side, throttled="*")
        replicas = tuple(map(NodeId, (1, 2, 3)))
        cluster.write(PartitionChange(topic_id=TOPIC_ID, partition=0, replicas=replicas))
        await until(lambda: cluster.partition(3).log_end_offset > 0, within_ms=60_000)
        assert cluster.partition(3).log_end_offset < BATCHES
        throttle(cluster, side, None)
        await until(lambda: 3 in cluster.leader_state(1).isr, within_ms=3_000)

    play_throttled(story, rate=10)
