"""Sees what the nodes of a run do, as it happens: writes the trace, and tells what has to be checked again.

Production code knows nothing of it: for the length of a run some methods of its classes are wrapped, in this
process only, and what a call has changed is found by comparing before and after.  Refuses to know what must
hold (``invariants``) and which faults there are.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NamedTuple, Protocol, TypeVar

from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Following, Offline, Partition, Role
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.broker.replica_manager import ReplicaManager
from glasslog.broker.requests import Follower
from glasslog.common.runtime.memory.files import Operation
from glasslog.common.runtime.memory.loop import HOST
from glasslog.controller.driver import Controller
from glasslog.controller.raft.core import RaftCore
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import MetadataImage
from glasslog.simulator.cluster import MemoryCluster
from glasslog.simulator.switches.switch import patched
from glasslog.simulator.trace import Trace

Owner = TypeVar("Owner")

_PARTITION_METHODS = (
    "append",
    "append_from_leader",
    "advance_high_watermark",
    "become_leader",
    "become_follower",
    "truncate_to_leader",
    "restart_at",
    "go_offline",
)
_RAFT_METHODS = ("start", "step", "tick", "propose", "resign")


class Witness(Protocol):
    """Is told, at once, what has changed on a node."""

    def on_replica(self, node: str, partition: Partition) -> None: ...

    def on_metadata(self, node: str, image: MetadataImage) -> None: ...

    def on_quorum(self, node: str, core: RaftCore) -> None: ...


class _Replica(NamedTuple):
    """A replica as it was last seen."""

    role: str
    leader_epoch: int
    end_offset: int
    high_watermark: int
    isr: Sequence[int]


_State = tuple[Role, int, int, Sequence[int]]
"""A replica's role, log end offset, high watermark and, if it leads, ISR."""

_KINDS: Mapping[type[Role], str] = {LeaderState: "leader", Following: "follower", Offline: "offline"}


class Observation:
    """Wraps for as long as the context ``watching`` lasts."""

    def __init__(self, trace: Trace, cluster: MemoryCluster, witness: Witness) -> None:
        self._trace = trace
        self._cluster = cluster
        self._witness = witness
        self._replicas: dict[tuple[str, bytes, int], _Replica] = {}
        self._states: dict[Partition, _State] = {}
        self._fetched: dict[tuple[Partition, int], int] = {}
        self._voters: dict[str, tuple[str, int]] = {}
        self._partition_epochs: dict[tuple[bytes, int], int] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in _PARTITION_METHODS:
                stack.enter_context(_after(Partition, name, self._on_partition))
            for name in _RAFT_METHODS:
                stack.enter_context(_after(RaftCore, name, self._on_raft))
            stack.enter_context(patched(Partition, "on_follower_fetch", self._fetching()))
            stack.enter_context(patched(ReplicaManager, "follow_metadata", self._applying()))
            stack.enter_context(_after(Controller, "on_committed", self._on_committed))
            for name in (*self._cluster.controller_names, *self._cluster.broker_names):
                self._cluster.world.disk(name).on_operation = self._syncing(name)
            self._cluster.on_process = lambda name, state: self._trace.add("process", name, state=state)
            stack.enter_context(_warnings(self._trace))
            yield

    # --- replicas ---------------------------------------------------------------------------------------

    def _on_partition(self, partition: Partition) -> None:
        role = partition.role
        isr = role.isr if isinstance(role, LeaderState) else ()
        end = partition.log_end_offset if partition.is_online else -1
        state = (role, end, partition.high_watermark, isr)
        # Most calls change nothing: that is found without making anything of it.
        if self._states.get(partition) != state:
            self._states[partition] = state
            self._on_state(partition, state)

    def _on_state(self, partition: Partition, state: _State) -> None:
        node = HOST.get()
        role, end, mark, isr = state
        now = _Replica(_KINDS[type(role)], role.leader_epoch, end, mark, isr)
        key = (node, *partition.key)
        seen = self._replicas.get(key)
        if seen != now:
            self._replicas[key] = now
            self._tell(node, str(partition.name), seen or _Replica("", -1, 0, 0, ()), now)
        # Also when it is as another life left it: checks remember what ran then.
        self._witness.on_replica(node, partition)

    def _tell(self, node: str, name: str, seen: _Replica, now: _Replica) -> None:
        add = self._trace.add
        epoch = now.leader_epoch
        if (now.role, epoch) != (seen.role, seen.leader_epoch):
            add("role", node, partition=name, role=now.role, leader_epoch=epoch, end_offset=now.end_offset)
        if now.end_offset > seen.end_offset:
            kind = "append" if now.role == "leader" else "replicate"
            add(kind, node, partition=name, base_offset=seen.end_offset, end_offset=now.end_offset)
        elif now.end_offset < seen.end_offset and now.role != "offline":
            add("truncate", node, partition=name, from_offset=seen.end_offset, to_offset=now.end_offset)
        if now.isr != seen.isr and now.role == "leader":
            add("isr", node, partition=name, leader_epoch=epoch, isr=now.isr)
        if now.high_watermark != seen.high_watermark:
            add("high_watermark", node, partition=name, offset=now.high_watermark, was=seen.high_watermark)

    def _fetching(self) -> Callable[..., bool]:
        original: Callable[..., bool] = Partition.on_follower_fetch

        def on_follower_fetch(
            partition: Partition, follower: Follower, ask: PartitionAsk, *, now_ms: int
        ) -> bool:
            key = (partition, follower.replica_id)
            if self._fetched.get(key) != ask.fetch_offset:
                self._fetched[key] = ask.fetch_offset
                self._trace.add(
                    "fetch",
                    HOST.get(),
                    partition=str(partition.name),
                    follower=follower.replica_id,
                    offset=ask.fetch_offset,
                )
            try:
                return original(partition, follower, ask, now_ms=now_ms)
            finally:
                self._on_partition(partition)

        return on_follower_fetch

    # --- metadata and the quorum ------------------------------------------------------------------------

    def _applying(self) -> Callable[..., Awaitable[None]]:
        original: Callable[..., Awaitable[None]] = ReplicaManager.follow_metadata

        async def follow_metadata(
            manager: ReplicaManager, delta: MetadataDelta, image: MetadataImage
        ) -> None:
            self._on_image(HOST.get(), delta, image)
            await original(manager, delta, image)

        return follow_metadata

    def _on_image(self, node: str, delta: MetadataDelta, image: MetadataImage) -> None:
        for changed in delta.changed_partitions:
            key = (changed.topic_id, int(changed.partition))
            if self._partition_epochs.get(key, -1) >= changed.partition_epoch:
                continue
            self._partition_epochs[key] = changed.partition_epoch
            self._trace.add(
                "partition",
                partition=f"{changed.topic}-{changed.partition}",
                leader=changed.leader,
                leader_epoch=changed.leader_epoch,
                partition_epoch=changed.partition_epoch,
                isr=changed.isr,
                replicas=changed.replicas,
                metadata_offset=image.offset,
            )
        self._witness.on_metadata(node, image)

    def _on_committed(self, controller: Controller) -> None:
        self._witness.on_metadata(HOST.get(), controller.committed)

    def _on_raft(self, core: RaftCore) -> None:
        node, role, epoch = HOST.get(), type(core.role).__name__.lower(), core.epoch
        if self._voters.get(node) != (role, epoch):
            self._voters[node] = (role, epoch)
            self._trace.add("quorum", node, role=role, epoch=epoch)
            self._witness.on_quorum(node, core)

    # --- disks ------------------------------------------------------------------------------------------

    def _syncing(self, node: str) -> Callable[[Operation, str], None]:
        def on_operation(operation: Operation, path: str) -> None:
            if operation == "sync":
                self._trace.add("fsync", node, path=path)

        return on_operation


def _after(owner: type[Owner], name: str, hook: Callable[[Owner], None]) -> AbstractContextManager[None]:
    """``owner.name`` as it is, and ``hook`` afterwards, whether it raised or not."""
    original: Callable[..., object] = vars(owner)[name]

    def wrapper(self: Owner, *arguments: object, **named: object) -> object:
        try:
            return original(self, *arguments, **named)
        finally:
            hook(self)

    return patched(owner, name, wrapper)


class _Handler(logging.Handler):
    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.WARNING)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name.removeprefix('glasslog.')}: {record.getMessage()}"
        self._trace.add("log", HOST.get(), level=record.levelname, text=text)


@contextmanager
def _warnings(trace: Trace) -> Iterator[None]:
    """What the nodes warn of goes into the trace; what they merely tell is not even made into text."""
    logger = logging.getLogger("glasslog")
    handler = _Handler(trace)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
