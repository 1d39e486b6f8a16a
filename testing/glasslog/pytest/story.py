"""What a story is: a coroutine that uses a cluster and breaks it, the same in memory and with processes.

Refuses to know which cluster it is given, and what counts as wrong (the checker).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from glasslog.checker.verdict import Verdict
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime
from glasslog.simulator.clients import Clients

_SHOWN_ANOMALIES = 20


class StoryFailed(AssertionError):  # noqa: N818 - the name of the situation
    """A story ended badly: the cluster did not recover, or its clients saw what they never should."""


class Cluster(Protocol):
    """What every cluster can do. Nodes are ``broker-1``, ``controller-2`` and so on; times are in ms.

    ``clients`` makes producers and consumers whose every act is recorded and judged in the end. A program of
    your own takes ``bootstrap`` and a ``runtime``.
    """

    @property
    def clients(self) -> Clients: ...

    @property
    def bootstrap(self) -> Sequence[str]:
        """``host:port`` of every broker's GRPC listener."""
        ...

    @property
    def brokers(self) -> Sequence[str]:
        """Their names."""
        ...

    @property
    def controllers(self) -> Sequence[str]:
        """Their names."""
        ...

    def runtime(self, host: str) -> Runtime:
        """What a client on a host of this name runs on: the ``runtime`` argument of the library's clients."""
        ...

    async def create_topic(
        self,
        name: str,
        *,
        partitions: int = 1,
        replication_factor: int = 3,
        configs: Mapping[str, str] | None = None,
    ) -> Sequence[TopicPartition]:
        """A topic that is read and judged in the end; returns its partitions, led and in sync.

        Only clients that ``clients`` makes may write to it: a record that nobody recorded was never sent.
        """
        ...

    async def leader(self, partition: TopicPartition) -> str:
        """Who leads; empty while nobody does."""
        ...

    async def in_sync(self, partition: TopicPartition) -> Sequence[str]:
        """The ISR."""
        ...

    async def active_controller(self) -> str:
        """Who leads the quorum; empty while nobody is known to."""
        ...

    async def kill(self, name: str) -> None:
        """As by SIGKILL."""
        ...

    async def stop(self, name: str) -> None:
        """As by SIGTERM; returns when it has ended."""
        ...

    async def start(self, name: str) -> None:
        """A new process for a node that has none; does not wait until it is ready."""
        ...

    async def restart(self, name: str) -> None:
        """Stop it, start it, wait until every node is ready and every replica in sync."""
        ...

    async def pause(self, name: str) -> None:
        """As by SIGSTOP: its connections stay open, and nobody answers."""
        ...

    async def resume(self, name: str) -> None: ...

    async def recover(self) -> None:
        """End all faults, start whoever is dead, wait until every replica is in sync."""
        ...

    async def wait(self, ms: float) -> None:
        """Let time pass: virtual time costs nothing."""
        ...


AnyCluster = TypeVar("AnyCluster", bound=Cluster, contravariant=True)
Story = Callable[[AnyCluster], Awaitable[None]]


def explain(verdict: Verdict) -> str:
    """What is wrong, one line each; empty for a good verdict."""
    told = [*verdict.missing, *map(str, verdict.anomalies[:_SHOWN_ANOMALIES])]
    if len(verdict.anomalies) > _SHOWN_ANOMALIES:
        told.append(f"and {len(verdict.anomalies) - _SHOWN_ANOMALIES} anomalies more")
    return "\n".join(told)
