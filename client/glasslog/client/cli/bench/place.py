"""The topic that is measured: one that is named, or one made for it and deleted afterwards.

Refuses to know what is measured.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from glasslog.client.admin import Admin, NewTopic
from glasslog.client.cli.connect import API_TIMEOUT_MS, BOOTSTRAP_TIMEOUT_MS
from glasslog.client.options import ClientKeywords
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.protocols import Runtime

_PREFIX = "glasslog-bench-"
_MOST_REPLICAS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """``topic`` as it is, or a new one; ``replication_factor`` 0: three, or as many as brokers."""

    topic: str | None
    partitions: int
    replication_factor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to write and read."""

    topic: str
    partitions: tuple[TopicPartition, ...]
    replication_factor: int


@asynccontextmanager
async def place(runtime: Runtime, servers: str, wanted: Wanted) -> AsyncIterator[tuple[Admin, Place]]:
    """Raises ``GlasslogError`` for a topic that does not exist, or can not be made."""
    options = ClientKeywords(bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS, default_api_timeout_ms=API_TIMEOUT_MS)
    async with Admin(servers, runtime=runtime, **options) as admin:
        name = wanted.topic or _PREFIX + runtime.random.uuid().hex()[:8]
        if wanted.topic is None:
            await _create(admin, name, wanted)
        try:
            (found,) = await admin.describe_topics([name])
            yield (
                admin,
                Place(
                    topic=name,
                    partitions=tuple(TopicPartition(name, each.partition) for each in found.partitions),
                    replication_factor=len(found.partitions[0].replicas),
                ),
            )
        finally:
            if wanted.topic is None:
                await admin.delete_topics([name])


async def _create(admin: Admin, name: str, wanted: Wanted) -> None:
    brokers = len((await admin.describe_cluster()).brokers)
    factor = wanted.replication_factor or min(_MOST_REPLICAS, brokers)
    await admin.create_topics([NewTopic(name=name, partitions=wanted.partitions, replication_factor=factor)])
