"""UnregisterBroker. Its name and version are those of Kafka's definition. Refuses to know what it does."""

from dataclasses import dataclass

from glasslog.broker.kafka.layout import INT16_FIELD, INT32_FIELD, STRING, ApiLayout, wire


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterBrokerRequest:
    """UnregisterBroker request, version 0."""

    broker_id: int = wire(INT32_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterBrokerResponse:
    """UnregisterBroker response, version 0."""

    throttle_time_ms: int = wire(INT32_FIELD)
    error_code: int = wire(INT16_FIELD)
    error_message: str | None = wire(STRING, null_since=0, default=None)


UNREGISTER_BROKER = ApiLayout(
    key=64,
    name="UnregisterBroker",
    min_version=0,
    max_version=0,
    flexible_from=0,
    request=UnregisterBrokerRequest,
    response=UnregisterBrokerResponse,
)
