"""Bugs in where a follower cuts its log."""

from contextlib import AbstractContextManager

from glasslog.broker.partition.partition import Partition
from glasslog.common.ids import LeaderEpoch, NodeId, PartitionEpoch
from glasslog.simulator.switches.switch import Switch, patched


def _truncate_to_high_watermark() -> AbstractContextManager[None]:
    follow = Partition.become_follower

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
