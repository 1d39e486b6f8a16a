"""What a user may hang into the way of records: to see them, to change them, to count outcomes (KIP-42).

An interceptor that raises is logged and passed over, so that it can not stop records.  Refuses to know what
interceptors do.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from glasslog.client.types import ConsumerRecord, Headers, OffsetAndMetadata, RecordMetadata
from glasslog.common.errors import GlasslogError
from glasslog.common.ids import TopicPartition

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


class ProducerRecord(NamedTuple):
    """The arguments of ``send``."""

    topic: str
    value: object
    key: object = None
    partition: int | None = None
    timestamp_ms: int | None = None
    headers: Headers = ()


class ProducerInterceptor(Protocol):
    """Sees the records of ``send``; not those of its faster brothers."""

    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        """The record to send instead, before serializers and partitioner."""
        ...

    def on_acknowledgement(self, outcome: RecordMetadata | GlasslogError) -> None:
        """A record was acknowledged or given up. On the event loop: be quick."""
        ...


class ConsumerInterceptor(Protocol):
    """Sees the records of ``poll`` and iteration, and what is committed."""

    def on_consume(self, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """The records to hand out instead."""
        ...

    def on_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """These positions are stored."""
        ...


def passed_through(steps: Sequence[Callable[[T], T]], value: T) -> T:
    """``value`` after each step; one that raises changes nothing."""
    for step in steps:
        try:
            value = step(value)
        except Exception:
            _LOG.exception("an interceptor failed")
    return value


def tell_all(listeners: Sequence[Callable[[T], None]], value: T) -> None:
    """Tell each; one that raises does not keep it from the others."""
    for listener in listeners:
        try:
            listener(value)
        except Exception:
            _LOG.exception("an interceptor failed")
