"""The client library: ``Producer``, ``Consumer`` and ``Admin`` for asyncio.

The names below are loaded on first use, so that importing one module of the package never pays for the
others.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glasslog.client.admin import Admin
    from glasslog.client.consumer import Consumer
    from glasslog.client.producer import Producer
    from glasslog.client.types import ConsumerRecord
    from glasslog.common.ids import TopicPartition

__all__ = ["Admin", "Consumer", "ConsumerRecord", "Producer", "TopicPartition"]

_HOMES = {
    "Admin": "glasslog.client.admin",
    "Consumer": "glasslog.client.consumer",
    "ConsumerRecord": "glasslog.client.types",
    "Producer": "glasslog.client.producer",
    "TopicPartition": "glasslog.common.ids",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
