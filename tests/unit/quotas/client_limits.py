"""Limits for tests that are about something else, and for those that are about them."""

from glasslog.broker.client_quotas import ClientQuotas
from glasslog.broker.counters import ReplicationCounters
from glasslog.common.runtime.memory.basics import MemoryClock
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.quotas import Quotas


def quotas(limits: Quotas | None = None) -> ClientQuotas:
    """With a window of ten seconds; by default nobody has a limit."""
    image = MetadataImage(quotas=limits or {})
    return ClientQuotas(clock=MemoryClock(), image=lambda: image, counters=ReplicationCounters())
