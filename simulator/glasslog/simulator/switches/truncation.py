"""Bugs in where a follower cuts its log."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.broker.requests import DivergingEpoch
from glasslog.common.ids import LeaderEpoch, NodeId, PartitionEpoch
from glasslog.simulator.switches.switch import Switch, instead_of, patched


def _truncate_to_high_watermark() -> AbstractContextManager[None]:
    follow = Partition.become_follower

    @instead_of(Partition.become_follower)
    def become_follower(
        self: Partition, *, leader_id: NodeId, leader_epoch: LeaderEpoch, partition_epoch: PartitionEpoch
    ) -> None:
        is_new = leader_epoch > self.leader_epoch
        follow(self, leader_id=leader_id, leader_epoch=leader_epoch, partition_epoch=partition_epoch)
        if is_new:
            self.log.truncate_to(self.high_watermark)

    return patched(Partition, "become_follower", become_follower)


TRUNCATE_TO_HIGH_WATERMARK = Switch(
    name="truncate-to-high-watermark",
    description="A follower of a new leader cuts its log to its own high watermark.",
    origin="KIP-101",
    bug=_truncate_to_high_watermark,
    scenario="stale-high-watermark",
    seeds=5,
)


@contextmanager
def _offsets_without_epochs() -> Iterator[None]:
    check = Partition.check_fetch

    @instead_of(Partition.check_fetch)
    def check_fetch(self: Partition, ask: PartitionAsk) -> DivergingEpoch | None:
        found = check(self, ask)
        return None if found is None or found.end_offset >= ask.fetch_offset else found

    @instead_of(Partition.truncate_to_leader)
    def truncate_to_leader(self: Partition, diverging: DivergingEpoch) -> None:
        before = self.log_end_offset
        self.log.truncate_to(min(diverging.end_offset, before))
        self._after_truncation(before)

    with (
        patched(Partition, "check_fetch", check_fetch),
        patched(Partition, "truncate_to_leader", truncate_to_leader),
    ):
        yield


OFFSETS_WITHOUT_EPOCHS = Switch(
    name="offsets-without-epochs",
    description="A leader says where an epoch ends for it, but not which: a follower keeps what only it has.",
    origin="KIP-279",
    bug=_offsets_without_epochs,
    scenario="diverged-epochs",
    seeds=3,
)
