"""Which partitions of a fetch session have to be looked at again.

A follower of ten thousand partitions asks twice a second, and of most there is nothing to tell: those are not
touched at all, neither when it asks nor when it is answered.  A partition is *quiet* when the fetcher has all
that there is of it and was told so; it is watched, and the first thing that happens to it makes it *pending*:
it is looked at with the next answer.

What a look would have noted of a quiet partition is noted then: up to the last request before its news the
follower had everything.  This module refuses to know what is read.
"""

from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.purgatory import DelayedFetch, FetchWatchers, Watchers
from glasslog.broker.partition.reads import PartitionKey
from glasslog.common.ids import NO_NODE, NodeId


class SessionNews:
    """Of one session. ``waiting`` is its request that has not been answered, if there is one."""

    def __init__(self) -> None:
        self.pending: dict[PartitionKey, None] = {}
        self.waiting: DelayedFetch | None = None
        self._replica_id = NO_NODE
        self._last_fetch_ms = 0
        self._watched: dict[Partition, tuple[PartitionKey, Watchers[Partition]]] = {}

    def on_fetch(self, replica_id: NodeId, now_ms: int) -> None:
        """The session goes on with another request."""
        self._replica_id = replica_id
        self._last_fetch_ms = now_ms

    def watch(
        self, watchers: FetchWatchers[Partition], partition: Partition, key: PartitionKey, *, total_bytes: int
    ) -> None:
        """Hear of whatever becomes readable of ``partition`` beyond ``total_bytes``."""
        self._watched[partition] = key, watchers.watch(partition, self, total_bytes=total_bytes)

    def settle(self, key: PartitionKey, *, is_quiet: bool, is_served: bool) -> None:
        """``key`` was looked at. Who was served goes to the end of the line, so that all are in turn."""
        if is_quiet or is_served:
            self.pending.pop(key, None)
        if not is_quiet:
            self.pending[key] = None

    def forget(self, key: PartitionKey) -> None:
        """The fetcher does not ask for ``key`` any more. Should it still be watched, its news is ignored."""
        self.pending.pop(key, None)

    def close(self) -> None:
        """Nobody asks any more."""
        for _, watchers in self._watched.values():
            watchers.pop(self, None)
        self._watched.clear()

    # --- what happens to partitions ---

    def on_readable(self, partition: Partition, size_bytes: int) -> None:
        """See ``FetchWatcher``."""
        key, watchers = self._watched[partition]
        self.on_look(partition)
        self.pending[key] = None
        if self.waiting is None:
            # The next request looks at it in any case, and a session that was left behind costs nothing more.
            watchers.pop(self, None)
            del self._watched[partition]
        else:
            self.waiting.on_readable(partition, size_bytes)

    def on_news(self, partition: Partition) -> None:
        """See ``FetchWatcher``."""
        self.on_look(partition)
        self.pending[self._watched[partition][0]] = None

    @property
    def is_waiting(self) -> bool:
        """See ``FetchWatcher``."""
        return self.waiting is not None

    def on_look(self, partition: Partition) -> None:
        """See ``FetchWatcher``."""
        key, _ = self._watched[partition]
        if self._replica_id != NO_NODE and key not in self.pending:
            partition.follower_was_current(self._replica_id, at_ms=self._last_fetch_ms)

    def on_changed(self, partition: Partition) -> None:
        """See ``FetchWatcher``."""
        key, _ = self._watched.pop(partition)
        self.pending[key] = None
        if self.waiting is not None:
            self.waiting.complete()
