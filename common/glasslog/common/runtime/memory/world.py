"""A whole in-memory world from one seed: hosts with disks and clocks on one network.

Refuses to know what runs on the hosts; whoever starts a node's tasks also cancels them when the host dies.
"""

from glasslog.common.runtime.memory.basics import MemoryBlocking, MemoryClock, SeededRandom
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.common.runtime.memory.network import MemoryNetwork
from glasslog.common.runtime.memory.transport import MemoryTransport
from glasslog.common.runtime.protocols import Runtime


class MemoryWorld:
    """Hosts are made on first mention. Use it within one ``run_virtual``.

    ``blocking_delay_ms`` bounds what blocking work (a sync) takes, drawn for each.
    """

    def __init__(
        self, *, seed: int = 0, network: MemoryNetwork | None = None, blocking_delay_ms: float = 0.0
    ) -> None:
        self._random = SeededRandom(seed)
        self._blocking_delay_ms = blocking_delay_ms
        self._disks: dict[str, MemoryFileSystem] = {}
        self._clocks: dict[str, MemoryClock] = {}
        self._lives = 0
        self.network = network or MemoryNetwork(self._random.fork("network"))

    def disk(self, host: str) -> MemoryFileSystem:
        """The disk of a host, for faults and inspection; it outlives processes."""
        if host not in self._disks:
            self._disks[host] = MemoryFileSystem(random=self._random.fork(f"disk/{host}"))
        return self._disks[host]

    def clock(self, host: str) -> MemoryClock:
        """The clock of a host; change its ``wall_offset_ms`` to let wall time jump."""
        return self._clocks.setdefault(host, MemoryClock())

    def runtime(self, host: str) -> Runtime:
        """What a new process on ``host`` runs on; useless after ``kill(host)``."""
        self._lives += 1
        random = self._random.fork(f"process/{host}/{self._lives}")
        return Runtime(
            clock=self.clock(host),
            random=random,
            files=self.disk(host).process_view(),
            transport=MemoryTransport(self.network, host),
            blocking=MemoryBlocking(random.fork("blocking"), delay_ms=self._blocking_delay_ms),
        )

    def kill(self, host: str, *, power_loss: Keep | None = None) -> None:
        """The process on ``host`` dies; with ``power_loss`` the disk loses un-synced data too.

        Files, locks and connections of its runtime are dead from now on. The caller cancels its tasks.
        """
        self.network.kill_host(host)
        if power_loss is None:
            self.disk(host).process_kill()
        else:
            self.disk(host).crash(keep=power_loss)


def memory_runtime(host: str = "localhost", *, world: MemoryWorld | None = None, seed: int = 0) -> Runtime:
    """The runtime of one process, in ``world`` or in a new one made from ``seed``."""
    return (world or MemoryWorld(seed=seed)).runtime(host)
