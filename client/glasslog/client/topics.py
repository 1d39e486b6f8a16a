"""Topics as ``Admin`` describes and changes them.

Refuses to know their records and where their replicas should be.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from glasslog.client.admin_base import AdminBase, no_error, raise_for
from glasslog.client.connections import error_of
from glasslog.client.elections import ElectionType, elected, election_request
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.v1.broker_pb2 import (
    DescribeTopicsRequest,
    DescribeTopicsResponse,
    MetadataRequest,
    MetadataResponse,
)
from glasslog.v1.controller_pb2 import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    ElectLeadersResponse,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    """A topic to be created. -1: the default; ``assignment`` (replicas by partition) replaces both."""

    name: str
    partitions: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)
    assignment: Mapping[int, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedTopic:
    """What has become of a ``NewTopic``."""

    name: str
    topic_id: bytes
    partitions: int
    replication_factor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MorePartitions:
    """``count`` partitions in all; ``assignment`` are the replicas of the new ones, else they are chosen."""

    count: int
    assignment: Sequence[Sequence[int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionDescription:
    """A partition's registration; ``leader`` is -1 when there is none."""

    partition: int
    leader: NodeId
    leader_epoch: int
    partition_epoch: int
    replicas: tuple[NodeId, ...]
    isr: tuple[NodeId, ...]
    elr: tuple[NodeId, ...]
    adding_replicas: tuple[NodeId, ...] = ()
    removing_replicas: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicDescription:
    """A topic; ``configs`` are only those set on it."""

    name: str
    topic_id: bytes
    internal: bool
    configs: Mapping[str, str]
    partitions: tuple[PartitionDescription, ...]


class TopicAdmin(AdminBase):
    """What ``Admin`` does with topics."""

    async def create_topics(
        self, topics: Iterable[NewTopic], *, validate_only: bool = False, wait_for_leaders: bool = True
    ) -> list[CreatedTopic]:
        """Create topics; returns when every partition has a leader that brokers know of.

        Raises TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR,
        INVALID_CONFIG, POLICY_VIOLATION; the topics before the first refused one are created.
        """
        wanted = list(topics)
        request = CreateTopicsRequest(
            topics=[_new_topic(topic) for topic in wanted],
            timeout_ms=self._options.request_timeout_ms,
            validate_only=validate_only,
        )
        response = await self._ask_any("CreateTopics", request, CreateTopicsResponse, _create_error)
        created = [
            CreatedTopic(
                name=result.name,
                topic_id=result.topic_id,
                partitions=result.partitions,
                replication_factor=result.replication_factor,
            )
            for result in response.topics
            if not result.error_code
        ]
        if wait_for_leaders and not validate_only:
            await self._await_leaders({topic.name: topic.partitions for topic in created})
        for result in response.topics:
            raise_for(result.error_code, f"topic {result.name!r}", result.error_message)
        return created

    async def create_partitions(
        self, topics: Mapping[str, MorePartitions], *, validate_only: bool = False
    ) -> None:
        """Give topics more partitions; returns when every one has a leader that brokers know of.

        Raises the first refusal: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS when it would not be more,
        INVALID_REPLICA_ASSIGNMENT, INVALID_REPLICATION_FACTOR; the other topics are changed.
        """
        request = CreatePartitionsRequest(
            topics=[
                CreatePartitionsRequest.Topic(
                    name=name,
                    count=more.count,
                    assignments=[
                        CreatePartitionsRequest.Replicas(broker_ids=replicas) for replicas in more.assignment
                    ],
                )
                for name, more in topics.items()
            ],
            timeout_ms=self._options.request_timeout_ms,
            validate_only=validate_only,
        )
        response = await self._ask_any("CreatePartitions", request, CreatePartitionsResponse, no_error)
        if not validate_only:
            done = [result.name for result in response.topics if not result.error_code]
            await self._await_leaders({name: topics[name].count for name in done})
        for result in response.topics:
            raise_for(result.error_code, f"topic {result.name!r}", result.error_message)

    async def elect_leaders(
        self, election_type: ElectionType, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, GlasslogError | None]:
        """Elect leaders in these partitions, or wherever it is needed; by partition what was against it.

        ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE and
        UNKNOWN_TOPIC_OR_PARTITION are told of their partitions, not raised.
        """
        request = election_request(election_type, partitions, timeout_ms=self._options.request_timeout_ms)
        return elected(await self._ask_any("ElectLeaders", request, ElectLeadersResponse, no_error))

    async def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics. Raises UNKNOWN_TOPIC_OR_PARTITION; those before it are deleted."""
        request = DeleteTopicsRequest(names=list(names))
        response = await self._ask_any("DeleteTopics", request, DeleteTopicsResponse, no_error)
        for result in response.topics:
            raise_for(result.error_code, f"topic {result.name!r}", result.error_message)

    async def list_topics(self, *, internal: bool = False) -> list[str]:
        """The names of all topics, sorted; ``internal`` ones only if asked for."""
        response = await self._ask_any(
            "Metadata", MetadataRequest(all_topics=True), MetadataResponse, no_error
        )
        return sorted(topic.name for topic in response.topics if internal or not topic.internal)

    async def describe_topics(self, names: Iterable[str] = ()) -> list[TopicDescription]:
        """These topics, or all. Raises UNKNOWN_TOPIC_OR_PARTITION naming the first that does not exist."""
        request = DescribeTopicsRequest(topics=list(names))
        response = await self._ask_any("DescribeTopics", request, DescribeTopicsResponse, no_error)
        for topic in response.topics:
            raise_for(topic.error_code, f"topic {topic.name!r}", _missing(topic.error_code))
        return [_topic_of(topic) for topic in response.topics]

    async def _await_leaders(self, topics: Mapping[str, int]) -> None:
        """Every broker's metadata follow in their own time: wait until one of them shows all leaders."""
        metadata = self._session.metadata
        metadata.add_topics(topics)
        try:
            async with asyncio.timeout(self._options.default_api_timeout_ms / 1_000):
                while any(not self._is_led(name, count) for name, count in topics.items()):
                    await metadata.refresh()
        except TimeoutError:
            missing = ", ".join(name for name, count in topics.items() if not self._is_led(name, count))
            raise GlasslogError(
                ErrorCode.LEADER_NOT_AVAILABLE, f"created, but some partitions have no leader: {missing}"
            ) from None

    def _is_led(self, name: str, partitions: int) -> bool:
        topic = self._session.metadata.view.topic(name)
        if topic is None or len(topic.partitions) < max(1, partitions):
            return False
        return all(partition.leader >= 0 for partition in topic.partitions)


def _new_topic(topic: NewTopic) -> CreateTopicsRequest.Topic:
    return CreateTopicsRequest.Topic(
        name=topic.name,
        partitions=-1 if topic.assignment else topic.partitions,
        replication_factor=-1 if topic.assignment else topic.replication_factor,
        configs=dict(topic.configs),
        assignments=[
            CreateTopicsRequest.Assignment(partition=partition, replicas=replicas)
            for partition, replicas in sorted(topic.assignment.items())
        ],
    )


def _topic_of(topic: DescribeTopicsResponse.Topic) -> TopicDescription:
    partitions = sorted(topic.partitions, key=lambda partition: partition.partition)
    return TopicDescription(
        name=topic.name,
        topic_id=topic.topic_id,
        internal=topic.internal,
        configs=dict(topic.configs),
        partitions=tuple(
            PartitionDescription(
                partition=partition.partition,
                leader=NodeId(partition.leader),
                leader_epoch=partition.leader_epoch,
                partition_epoch=partition.partition_epoch,
                replicas=tuple(map(NodeId, partition.replicas)),
                isr=tuple(map(NodeId, partition.isr)),
                elr=tuple(map(NodeId, partition.elr)),
                adding_replicas=tuple(map(NodeId, partition.adding_replicas)),
                removing_replicas=tuple(map(NodeId, partition.removing_replicas)),
            )
            for partition in partitions
        ),
    )


def _create_error(reply: CreateTopicsResponse) -> int:
    """A code that says "later", when nothing of the request has been done."""
    codes = [topic.error_code for topic in reply.topics]
    return codes[0] if codes and all(error_of(code).retriable for code in codes) else 0


def _missing(code: int) -> str:
    return "does not exist" if code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION else ""
