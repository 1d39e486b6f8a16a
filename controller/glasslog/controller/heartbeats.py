"""Which brokers are alive, as far as the active controller can tell: heartbeats and session streams.

Volatile: a new active controller starts over with ``begin``. A sans-I/O core; it refuses to know what
fencing a broker does to partitions. It never fences by itself, ``expired`` tells whom to fence.

Theory of operation. A broker is given up for one of two reasons:

- It was *silent*: no heartbeat for the session timeout. A slow, paused or unreachable broker goes this way
  only.
- Its *session stream broke* (its process is gone) and it opened no other within the grace. A stream that
  comes back within the grace changes nothing, so that a flapping connection does not move leaderships; one
  that stays away longer moves them once, and they come back minutes later, with the next look at the balance
  of leaders (``preferred_leaders``). A broker whose stream is known to be broken is not unfenced.

A broker that has not opened a stream yet, after its registration or after a new controller took over, has a
*window* for it: this finds brokers that died together with the old controller.

Streams judge only while another active broker holds one: if none does, nobody could take over the
leaderships, and the fault is likelier on this side of the connections. When the first stream is back, the
others get a new window. Source for the session timeout: Kafka's ``BrokerHeartbeatManager``; the streams are
our own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from glasslog.common.ids import BrokerEpoch, NodeId
from glasslog.controller.requests import LostBroker
from glasslog.metadata.image import BrokerImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """No stream yet; there should be one by ``deadline_ms``."""

    since_ms: int
    deadline_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """``count`` streams are open; overlapping ones are usual while a broker reconnects."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The last stream broke, and by ``deadline_ms`` there should be another one."""

    since_ms: int
    deadline_ms: int


Stream = Awaited | Open | Broken


@dataclass(slots=True, kw_only=True)
class _Broker:
    broker_epoch: BrokerEpoch
    active: bool
    last_contact_ms: int
    stream: Stream

    @property
    def holds_stream(self) -> bool:
        return isinstance(self.stream, Open)


class Heartbeats:
    """All times are on the caller's monotonic clock, in milliseconds."""

    def __init__(self, *, session_timeout_ms: int, failure_grace_ms: int, stream_window_ms: int) -> None:
        self._session_timeout_ms = session_timeout_ms
        self._failure_grace_ms = failure_grace_ms
        self._stream_window_ms = max(stream_window_ms, failure_grace_ms)
        self._brokers: dict[NodeId, _Broker] = {}
        self._streams_judge = False

    # --- what happened ---

    def begin(self, brokers: Iterable[BrokerImage], now_ms: int) -> None:
        """This controller takes over: every broker gets a fresh session and a window for its stream."""
        for broker in brokers:
            self.follow(broker, now_ms)

    def follow(self, broker: BrokerImage, now_ms: int) -> None:
        """Its registration is new or has changed."""
        known = self._brokers.get(broker.broker_id)
        if known is None or known.broker_epoch != broker.broker_epoch:
            self._brokers[broker.broker_id] = _Broker(
                broker_epoch=broker.broker_epoch,
                active=not broker.fenced,
                last_contact_ms=now_ms,
                stream=self._awaited(now_ms),
            )
        else:
            known.active = not broker.fenced
        self._update_judgement(now_ms)

    def forget(self, broker_id: NodeId, now_ms: int) -> None:
        """It is registered no more."""
        self._brokers.pop(broker_id, None)
        self._update_judgement(now_ms)

    def contact(self, broker_id: NodeId, broker_epoch: BrokerEpoch, now_ms: int) -> None:
        """A heartbeat; one of another incarnation counts for nothing."""
        broker = self._find(broker_id, broker_epoch)
        if broker is not None:
            broker.last_contact_ms = now_ms

    def session_opened(self, broker_id: NodeId, broker_epoch: BrokerEpoch, now_ms: int) -> bool:
        """Whether the stream counts: false when it is not of the current incarnation."""
        broker = self._find(broker_id, broker_epoch)
        if broker is None:
            return False
        count = broker.stream.count if isinstance(broker.stream, Open) else 0
        broker.stream = Open(count=count + 1)
        self._update_judgement(now_ms)
        return True

    def session_lost(self, broker_id: NodeId, broker_epoch: BrokerEpoch, now_ms: int) -> None:
        """One of the streams that ``session_opened`` counted is gone."""
        broker = self._find(broker_id, broker_epoch)
        if broker is None or not isinstance(broker.stream, Open):
            return
        if broker.stream.count > 1:
            broker.stream = Open(count=broker.stream.count - 1)
        else:
            broker.stream = Broken(since_ms=now_ms, deadline_ms=now_ms + self._failure_grace_ms)
        self._update_judgement(now_ms)

    def postpone(self, by_ms: int) -> None:
        """This process itself stood still for ``by_ms``: what it did not hear meanwhile is no evidence."""
        for broker in self._brokers.values():
            broker.last_contact_ms += by_ms
            if not isinstance(broker.stream, Open):
                broker.stream = replace(broker.stream, deadline_ms=broker.stream.deadline_ms + by_ms)

    # --- what follows from it ---

    def next_deadline_ms(self) -> int | None:
        """When ``expired`` may name the next broker if nothing happens before."""
        return min(
            (self._deadline_ms(broker) for broker in self._brokers.values() if broker.active), default=None
        )

    def expired(self, now_ms: int) -> tuple[LostBroker, ...]:
        """Whom to fence now, and why; the same again until ``follow`` shows them fenced."""
        return tuple(
            LostBroker(
                broker_id=broker_id,
                broker_epoch=broker.broker_epoch,
                reason=self._reason(broker, now_ms),
            )
            for broker_id, broker in self._brokers.items()
            if broker.active and now_ms >= self._deadline_ms(broker)
        )

    def may_unfence(self, broker_id: NodeId, now_ms: int) -> bool:
        """Whether its session stream is there, or not overdue."""
        broker = self._brokers.get(broker_id)
        if broker is None:
            return False
        match broker.stream:
            case Open():
                return True
            case Awaited(deadline_ms=deadline_ms):
                return now_ms < deadline_ms
            case Broken():
                return False

    def is_alive(self, broker_id: NodeId, now_ms: int) -> bool:
        """Whether another process with this id is likelier a mistake than its successor."""
        broker = self._brokers.get(broker_id)
        if broker is None or now_ms >= broker.last_contact_ms + self._session_timeout_ms:
            return False
        match broker.stream:
            case Open():
                return True
            case Awaited(since_ms=since_ms):
                # Unheard, it is known from the metadata only: after an outage of everything, a ghost.
                return broker.active and broker.last_contact_ms > since_ms
            case Broken():
                return False

    # --- inside ---

    def _find(self, broker_id: NodeId, broker_epoch: BrokerEpoch) -> _Broker | None:
        broker = self._brokers.get(broker_id)
        return broker if broker is not None and broker.broker_epoch == broker_epoch else None

    def _awaited(self, now_ms: int) -> Awaited:
        return Awaited(since_ms=now_ms, deadline_ms=now_ms + self._stream_window_ms)

    def _deadline_ms(self, broker: _Broker) -> int:
        silent_ms = broker.last_contact_ms + self._session_timeout_ms
        if isinstance(broker.stream, Open) or not self._streams_judge:
            return silent_ms
        return min(silent_ms, broker.stream.deadline_ms)

    def _reason(self, broker: _Broker, now_ms: int) -> str:
        if now_ms >= broker.last_contact_ms + self._session_timeout_ms:
            return f"silent for {now_ms - broker.last_contact_ms} ms"
        match broker.stream:
            case Awaited(since_ms=since_ms):
                return f"opened no session stream within {now_ms - since_ms} ms"
            case Broken(since_ms=since_ms):
                return f"its session stream has been broken for {now_ms - since_ms} ms"
            case Open():
                return "lost"

    def _update_judgement(self, now_ms: int) -> None:
        judged, self._streams_judge = self._streams_judge, self._anyone_could_take_over()
        if self._streams_judge and not judged:
            for broker in self._brokers.values():
                if broker.active and not broker.holds_stream:
                    broker.stream = self._awaited(now_ms)

    def _anyone_could_take_over(self) -> bool:
        return any(broker.active and broker.holds_stream for broker in self._brokers.values())
