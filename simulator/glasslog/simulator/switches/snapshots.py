"""Bugs of whoever reads a snapshot of the metadata."""

from contextlib import AbstractContextManager

from glasslog.controller.raft.snapshot_files import SnapshotFiles
from glasslog.metadata.snapshot import CorruptSnapshot, Snapshot, SnapshotId
from glasslog.simulator.switches.switch import Switch, instead_of, patched


def _empty_for_corrupt() -> AbstractContextManager[None]:
    @instead_of(SnapshotFiles.load_or_discard)
    def load_or_discard(self: SnapshotFiles, snapshot_id: SnapshotId) -> Snapshot | None:
        try:
            return self.load(snapshot_id)
        except CorruptSnapshot:
            return Snapshot(id=snapshot_id, timestamp_ms=0, voters=None, batches=())

    return patched(SnapshotFiles, "load_or_discard", load_or_discard)


EMPTY_FOR_CORRUPT = Switch(
    name="empty-for-corrupt",
    description="A controller takes a damaged snapshot for one that says nothing: no topics, no brokers.",
    origin="nats 7556",
    bug=_empty_for_corrupt,
    scenario="corrupt-snapshot",
    seeds=2,
)
