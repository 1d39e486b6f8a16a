"""A bug of partitions that are moved."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from glasslog.controller import elections, isr, reassignment
from glasslog.metadata.image import PartitionImage
from glasslog.metadata.records import PartitionChange
from glasslog.simulator.switches.switch import Switch, instead_of, patched


@contextmanager
def _same_epoch() -> Iterator[None]:
    original = elections.difference

    @instead_of(elections.difference)
    def difference(before: PartitionImage, after: PartitionImage) -> PartitionChange | None:
        change = original(before, after)
        if change is None or before.leader != after.leader:
            return change
        return change._replace(leader=None)

    with ExitStack() as stack:
        for module in (elections, isr, reassignment):
            stack.enter_context(patched(module, "difference", difference))
        yield


SAME_EPOCH = Switch(
    name="same-epoch-after-move",
    description="A replica leaves and the leader epoch stays: what was known of it counts when it is back.",
    origin="a simulated run",
    bug=_same_epoch,
    scenario="moved-back",
    seeds=3,
)
