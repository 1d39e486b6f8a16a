"""What each client uses of this broker, and how long it has to be held back for having used too much.

This module knows which limit holds for whom and measures against it; it refuses to know wires.  Whoever asks
answers the client at once, says for how long, and takes nothing from it meanwhile (KIP-219).  Every broker
counts for itself.  Nobody is authenticated here: all clients are one user, as in Kafka without SASL.
Source: Kafka's ``ClientQuotaManager`` and ``ClientRequestQuotaManager``.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from glasslog.broker.counters import ReplicationCounters
from glasslog.broker.partition.rate_quota import RateQuota
from glasslog.common.runtime.protocols import Clock
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.quotas import (
    CONSUMER_BYTE_RATE,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    Quota,
    quota_for,
)

ANONYMOUS = "ANONYMOUS"
"""The user whom Kafka takes clients for that do not say who they are."""

MAX_METERS = 10_000
"""So many clients are measured at a time; beyond, the one that was quiet longest begins anew."""

_NO_LIMIT = 0x7FFF_FFFF
_NS_PER_PERCENT = 10_000_000
"""Of one second of one processor."""


class Throttled(NamedTuple):
    """For how many ms a client is held back, and whether what it asked for is kept from it until then."""

    delay_ms: int
    is_withheld: bool


NOT_THROTTLED = Throttled(0, is_withheld=False)


class ClientQuotas:
    """One broker's, on its event loop. ``image`` gives the newest metadata.

    What is allowed in all ``windows`` but one may be used at once, as with Kafka's ``quota.window.num``.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        image: Callable[[], MetadataImage],
        counters: ReplicationCounters,
        windows: int = 11,
        window_ms: int = 1_000,
    ) -> None:
        self._clock = clock
        self._image = image
        self._counters = counters
        self._window_ms = window_ms
        self._burst_ms = max(1, windows - 1) * window_ms
        self._meters: OrderedDict[tuple[str, str, str], RateQuota] = OrderedDict()

    @property
    def is_active(self) -> bool:
        """Whether there is any limit, so that anything is worth measuring."""
        return bool(self._image().quotas)

    def produced(self, client_id: str, size_bytes: int) -> int:
        """A request with so many bytes was carried out; ms to hold the client back."""
        return self._used(PRODUCER_BYTE_RATE, client_id, size_bytes)

    def fetched(self, client_id: str, size_bytes: int) -> Throttled:
        """So many bytes of records are to be sent: whether they may be, and how long the client waits then.

        More than was ever allowed at once is sent to a client that has waited for it long enough.
        """
        quota = self._quota(CONSUMER_BYTE_RATE, client_id)
        if quota is None or not size_bytes:
            return NOT_THROTTLED
        meter, now_ms = self._meter(CONSUMER_BYTE_RATE, quota), self._clock.now_ms()
        is_rested = meter.is_rested(per_second=quota.limit, now_ms=now_ms)
        meter.record(size_bytes, per_second=quota.limit, now_ms=now_ms)
        delay_ms = meter.delay_ms(per_second=quota.limit, now_ms=now_ms)
        if not delay_ms:
            return NOT_THROTTLED
        self._counters.throttled_requests += 1
        if is_rested:
            return Throttled(delay_ms, is_withheld=False)
        meter.record(-size_bytes, per_second=quota.limit, now_ms=now_ms)
        self._counters.bytes_out -= size_bytes
        return Throttled(min(delay_ms, self._burst_ms), is_withheld=True)

    def fetch_limit_bytes(self, client_id: str) -> int:
        """More than this in one answer would be more than is allowed at once."""
        quota = self._quota(CONSUMER_BYTE_RATE, client_id)
        return _NO_LIMIT if quota is None else max(1, int(quota.limit * self._burst_ms / 1_000))

    def now_ns(self) -> int:
        """For ``worked``."""
        return self._clock.monotonic_ns()

    def worked(self, client_id: str, spent_ns: int) -> int:
        """The broker was busy with a request for so long; ms to hold the client back, one window at most."""
        return min(self._used(REQUEST_PERCENTAGE, client_id, spent_ns / _NS_PER_PERCENT), self._window_ms)

    def _used(self, key: str, client_id: str, amount: float) -> int:
        quota = self._quota(key, client_id)
        if quota is None:
            return 0
        meter, now_ms = self._meter(key, quota), self._clock.now_ms()
        meter.record(amount, per_second=quota.limit, now_ms=now_ms)
        delay_ms = meter.delay_ms(per_second=quota.limit, now_ms=now_ms)
        if delay_ms:
            self._counters.throttled_requests += 1
        return delay_ms

    def _quota(self, key: str, client_id: str) -> Quota | None:
        quotas = self._image().quotas
        return quota_for(quotas, key, user=ANONYMOUS, client_id=client_id) if quotas else None

    def _meter(self, key: str, quota: Quota) -> RateQuota:
        name = key, quota.user, quota.client_id
        meter = self._meters.get(name)
        if meter is None:
            meter = self._meters[name] = RateQuota(burst_ms=self._burst_ms)
            if len(self._meters) > MAX_METERS:
                self._meters.popitem(last=False)
        else:
            self._meters.move_to_end(name)
        return meter
