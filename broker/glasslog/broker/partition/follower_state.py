"""What a leader remembers of one follower: how far it is, and when it last had everything.

This module knows Kafka's rule of being caught up; it refuses to know the ISR. Offsets are exclusive, times
are milliseconds of the monotonic clock.  Source: Kafka's ``Replica.scala``.
"""

from glasslog.common.ids import NO_BROKER_EPOCH, NO_OFFSET, BrokerEpoch, NodeId, Offset

_NEVER_MS = -(1 << 62)


class FollowerState:
    """One follower under one leader epoch. ``log_end_offset`` is -1 until it has fetched once."""

    __slots__ = (
        "_last_fetch_leader_end",
        "_last_fetch_ms",
        "broker_epoch",
        "last_caught_up_ms",
        "log_end_offset",
        "log_start_offset",
        "node_id",
    )

    def __init__(self, node_id: NodeId, *, in_sync: bool, now_ms: int) -> None:
        self.node_id = node_id
        self.broker_epoch = NO_BROKER_EPOCH
        self.log_end_offset: int = NO_OFFSET
        self.log_start_offset: int = NO_OFFSET
        # A member of the ISR has the whole lag time to show up at its new leader.
        self.last_caught_up_ms = now_ms if in_sync else _NEVER_MS
        self._last_fetch_ms = _NEVER_MS
        self._last_fetch_leader_end: int = NO_OFFSET

    def on_fetch(
        self,
        *,
        fetch_offset: Offset,
        log_start_offset: Offset,
        leader_end_offset: Offset,
        broker_epoch: BrokerEpoch,
        now_ms: int,
    ) -> None:
        """The follower asked from ``fetch_offset``: it has everything below.

        It is caught up now if that is all there is, and was at its previous fetch if it has since taken all
        that was there then: a follower under steady load is never exactly at the leader's end.
        """
        if fetch_offset >= leader_end_offset:
            self.last_caught_up_ms = max(self.last_caught_up_ms, now_ms)
        elif fetch_offset >= self._last_fetch_leader_end:
            self.last_caught_up_ms = max(self.last_caught_up_ms, self._last_fetch_ms)
        self._last_fetch_ms = now_ms
        self._last_fetch_leader_end = leader_end_offset
        self.log_end_offset = fetch_offset
        self.log_start_offset = log_start_offset
        self.broker_epoch = broker_epoch

    def fetched_ms_ago(self, now_ms: int) -> int | None:
        """``None``: never."""
        return None if self._last_fetch_ms == _NEVER_MS else now_ms - self._last_fetch_ms

    def caught_up_ms_ago(self, now_ms: int) -> int | None:
        """``None``: never, as far as this leader knows."""
        return None if self.last_caught_up_ms == _NEVER_MS else now_ms - self.last_caught_up_ms

    def was_current(self, at_ms: int) -> None:
        """It had everything when it asked last, at ``at_ms``, though nobody looked then."""
        self.last_caught_up_ms = max(self.last_caught_up_ms, at_ms)
        self._last_fetch_ms = max(self._last_fetch_ms, at_ms)

    def is_caught_up(self, *, leader_end_offset: Offset, now_ms: int, lag_time_max_ms: int) -> bool:
        """Whether it has everything, or had it within ``lag_time_max_ms``."""
        if self.log_end_offset == leader_end_offset:
            return True
        return now_ms - self.last_caught_up_ms <= lag_time_max_ms
