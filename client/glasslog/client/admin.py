"""``Admin``: topics, offsets and groups, looked at and changed.

One method a question, typed results. Refuses to know records, and how a command prints what is found.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar, Unpack

from glasslog.client.backoff import Backoff
from glasslog.client.cluster import BrokerView
from glasslog.client.configs import ConfigCalls, ConfigEdit, ConfigResource, ConfigValue
from glasslog.client.connections import error_of
from glasslog.client.consumer_protocol import decode_assignment
from glasslog.client.coordinator import CoordinatorClient
from glasslog.client.deletions import RecordDeletion
from glasslog.client.elections import ElectionType, elected, election_request
from glasslog.client.features import (
    FeatureDescription,
    UpgradeType,
    described,
    raise_first,
    update_request,
)
from glasslog.client.group_changes import GroupChanges
from glasslog.client.metadata import view_of
from glasslog.client.offsets import OffsetLookup
from glasslog.client.options import Bootstrap, ClientKeywords, admin_options
from glasslog.client.quorum import QuorumCalls, QuorumStatus
from glasslog.client.reassignments import (
    PartitionReassignment,
    Targets,
    alter_requests,
    list_request,
    listed,
    refusals,
    retry_code,
)
from glasslog.client.replication import ReplicationDescription, ReplicationLookup
from glasslog.client.session import Session
from glasslog.client.subscription import EARLIEST, LATEST
from glasslog.client.types import OffsetAndMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition
from glasslog.common.runtime.protocols import Runtime, TransportError
from glasslog.v1.broker_pb2 import (
    DescribeFeaturesRequest,
    DescribeFeaturesResponse,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeTopicsRequest,
    DescribeTopicsResponse,
    ListGroupsRequest,
    ListGroupsResponse,
    ListPartitionReassignmentsResponse,
    MetadataRequest,
    MetadataResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
)
from glasslog.v1.controller_pb2 import (
    AlterPartitionReassignmentsResponse,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    ElectLeadersResponse,
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
    UpdateFeaturesResponse,
)
from google.protobuf.message import Message

_ATTEMPT_MS = 5_000
_POLL_MS = 20
_MAX_PAUSE_MS = 500

Reply = TypeVar("Reply", bound=Message)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterDescription:
    """The cluster as one broker sees it; ``controller_id`` is -1 when unknown."""

    cluster_id: str
    controller_id: NodeId
    brokers: tuple[BrokerView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupListing:
    """A group by name and state."""

    group_id: str
    protocol_type: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMember:
    """A member and what it reads; ``group_instance_id`` is empty for a dynamic one."""

    member_id: str
    group_instance_id: str
    client_id: str
    client_host: str
    assignment: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDescription:
    """A group with its members."""

    group_id: str
    state: str
    protocol_type: str
    protocol_name: str
    members: tuple[GroupMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDirDescription:
    """A data directory of a broker, and the bytes of each partition in it; a failed one tells none."""

    path: str
    error: ErrorCode
    size_bytes: Mapping[TopicPartition, int]


class Admin:
    """Looks at a cluster and changes it. Start it with ``start`` or ``async with``.

    Errors are ``GlasslogError`` with Kafka's codes; what can be retried is, for ``default_api_timeout_ms``.
    """

    def __init__(
        self,
        bootstrap_servers: Bootstrap,
        *,
        runtime: Runtime | None = None,
        **options: Unpack[ClientKeywords],
    ) -> None:
        self._options = admin_options(bootstrap_servers, options)
        self._session = Session(runtime, self._options, "admin")
        self._lookup = OffsetLookup(self._session)
        self._deletion = RecordDeletion(self._session)
        self._quorum = QuorumCalls(
            self._ask_any, self._session.runtime.clock, timeout_ms=self._options.default_api_timeout_ms
        )
        self._configs = ConfigCalls(
            self._ask_any, self._ask_broker, timeout_ms=self._options.request_timeout_ms
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Find the cluster. Raises ``GlasslogError`` naming the addresses when no broker can be reached."""
        await self._session.start()

    async def close(self) -> None:
        """Idempotent."""
        await self._session.close()

    # --- topics -----------------------------------------------------------------------------------------

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
            _raise_for(result.error_code, f"topic {result.name!r}", result.error_message)
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
        response = await self._ask_any("CreatePartitions", request, CreatePartitionsResponse, _no_error)
        if not validate_only:
            done = [result.name for result in response.topics if not result.error_code]
            await self._await_leaders({name: topics[name].count for name in done})
        for result in response.topics:
            _raise_for(result.error_code, f"topic {result.name!r}", result.error_message)

    async def elect_leaders(
        self, election_type: ElectionType, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, GlasslogError | None]:
        """Elect leaders in these partitions, or wherever it is needed; by partition what was against it.

        ELECTION_NOT_NEEDED, PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE and
        UNKNOWN_TOPIC_OR_PARTITION are told of their partitions, not raised.
        """
        request = election_request(election_type, partitions, timeout_ms=self._options.request_timeout_ms)
        return elected(await self._ask_any("ElectLeaders", request, ElectLeadersResponse, _no_error))

    async def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics. Raises UNKNOWN_TOPIC_OR_PARTITION; those before it are deleted."""
        request = DeleteTopicsRequest(names=list(names))
        response = await self._ask_any("DeleteTopics", request, DeleteTopicsResponse, _no_error)
        for result in response.topics:
            _raise_for(result.error_code, f"topic {result.name!r}", result.error_message)

    async def list_topics(self, *, internal: bool = False) -> list[str]:
        """The names of all topics, sorted; ``internal`` ones only if asked for."""
        response = await self._ask_any(
            "Metadata", MetadataRequest(all_topics=True), MetadataResponse, _no_error
        )
        return sorted(topic.name for topic in response.topics if internal or not topic.internal)

    async def describe_topics(self, names: Iterable[str] = ()) -> list[TopicDescription]:
        """These topics, or all. Raises UNKNOWN_TOPIC_OR_PARTITION naming the first that does not exist."""
        request = DescribeTopicsRequest(topics=list(names))
        response = await self._ask_any("DescribeTopics", request, DescribeTopicsResponse, _no_error)
        for topic in response.topics:
            _raise_for(topic.error_code, f"topic {topic.name!r}", _missing(topic.error_code))
        return [_topic_of(topic) for topic in response.topics]

    async def describe_cluster(self) -> ClusterDescription:
        """Cluster id, controller and brokers, by id."""
        response = await self._ask_any("Metadata", MetadataRequest(), MetadataResponse, _no_error)
        view = view_of(response)
        return ClusterDescription(
            cluster_id=view.cluster_id,
            controller_id=view.controller_id,
            brokers=tuple(view.brokers[node_id] for node_id in sorted(view.brokers)),
        )

    async def describe_features(self) -> list[FeatureDescription]:
        """The levels by which the cluster behaves, and those that it could."""
        return described(
            await self._ask_any(
                "DescribeFeatures", DescribeFeaturesRequest(), DescribeFeaturesResponse, _no_error
            )
        )

    async def update_features(
        self,
        levels: Mapping[str, int],
        *,
        upgrade_type: UpgradeType = UpgradeType.UPGRADE,
        validate_only: bool = False,
    ) -> None:
        """Give features other levels, all of these or none. Raises INVALID_UPDATE_VERSION, saying why."""
        request = update_request(
            levels,
            upgrade_type,
            validate_only=validate_only,
            timeout_ms=self._options.request_timeout_ms,
        )
        raise_first(await self._ask_any("UpdateFeatures", request, UpdateFeaturesResponse, _no_error))

    async def list_offsets(self, timestamps: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Offsets by time in ms, -1 for the end, -2 for the beginning, -3 for the newest timestamp.

        -1 in the answer: there is none.
        """
        self._session.check()
        timeout_ms = self._options.default_api_timeout_ms
        found = await self._lookup.list(timestamps, timeout_ms=timeout_ms)
        return {partition: position.offset for partition, position in found.items()}

    async def delete_records(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Delete all records below these offsets, -1 for all that is committed; where partitions begin then.

        Returns when every replica that lives has followed.  Raises UNKNOWN_TOPIC_OR_PARTITION,
        OFFSET_OUT_OF_RANGE above the high watermark, POLICY_VIOLATION for a topic that is only compacted,
        INVALID_TOPIC_EXCEPTION for an internal one; other partitions may be done by then.
        """
        for topic in {partition.topic: None for partition in offsets}:
            known = await self._partitions(topic)
            for partition in offsets:
                if partition.topic == topic and partition not in known:
                    raise GlasslogError(
                        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"partition {partition} does not exist"
                    )
        return await self._deletion.delete(offsets, timeout_ms=self._options.default_api_timeout_ms)

    async def beginning_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """The first offset that is kept, by partition. Raises UNKNOWN_TOPIC_OR_PARTITION."""
        return await self.list_offsets(dict.fromkeys(await self._partitions(topic), EARLIEST))

    async def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """The offset after the last record that consumers may see. Raises UNKNOWN_TOPIC_OR_PARTITION."""
        return await self.list_offsets(dict.fromkeys(await self._partitions(topic), LATEST))

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        self._session.check()
        found = await self._session.metadata.await_topic(topic, self._options.default_api_timeout_ms)
        return [TopicPartition(topic, partition.partition) for partition in found.partitions]

    # --- settings ---------------------------------------------------------------------------------------

    async def alter_configs(
        self, edits: Mapping[ConfigResource, Sequence[ConfigEdit]], *, validate_only: bool = False
    ) -> None:
        """Change settings of topics and brokers; each resource whole or not at all. They act at once.

        Raises the first refusal: UNKNOWN_TOPIC_OR_PARTITION, BROKER_ID_NOT_REGISTERED, INVALID_CONFIG for a
        topic's and INVALID_REQUEST for a broker's setting; the other resources are changed.
        """
        await self._configs.alter(edits, validate_only=validate_only)

    async def describe_configs(self, resource: ConfigResource, keys: Iterable[str] = ()) -> list[ConfigValue]:
        """The settings of a topic or broker, these or all; of broker ``""`` what was set on every broker.

        Raises UNKNOWN_TOPIC_OR_PARTITION, BROKER_NOT_AVAILABLE.
        """
        return await self._configs.describe(resource, keys)

    # --- moving partitions ------------------------------------------------------------------------------

    async def alter_partition_reassignments(self, targets: Targets) -> dict[TopicPartition, GlasslogError]:
        """Begin to move partitions, move them elsewhere, or (``None``) back; what was refused, and why.

        A move is over when ``list_partition_reassignments`` has it no more. Refusals are
        INVALID_REPLICA_ASSIGNMENT, NO_REASSIGNMENT_IN_PROGRESS, UNKNOWN_TOPIC_OR_PARTITION.  Raises what kept
        them from being asked at all; then some may be on their way.
        """
        refused: dict[TopicPartition, GlasslogError] = {}
        for request in alter_requests(targets, timeout_ms=self._options.request_timeout_ms):
            answer = await self._ask_any(
                "AlterPartitionReassignments", request, AlterPartitionReassignmentsResponse, retry_code
            )
            refused |= refusals(answer)
        return refused

    async def list_partition_reassignments(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> dict[TopicPartition, PartitionReassignment]:
        """What is being moved, of these partitions or of all."""
        wanted = None if partitions is None else list(partitions)
        if wanted == []:
            return {}
        answer = await self._ask_any(
            "ListPartitionReassignments", list_request(wanted), ListPartitionReassignmentsResponse, _no_error
        )
        return listed(answer)

    async def unregister_broker(self, broker_id: int, *, force: bool = False) -> None:
        """Have the cluster forget a broker that is gone for good.

        Raises BROKER_ID_NOT_REGISTERED, and INVALID_REQUEST for one that is alive or holds replicas, unless
        with ``force``.
        """
        request = UnregisterBrokerRequest(
            broker_id=broker_id, force=force, timeout_ms=self._options.request_timeout_ms
        )
        answer = await self._ask_any(
            "UnregisterBroker", request, UnregisterBrokerResponse, lambda reply: reply.error_code
        )
        _raise_for(answer.error_code, f"broker {broker_id}", answer.error_message)

    async def describe_log_dirs(self, broker_id: int) -> list[LogDirDescription]:
        """What lies in a broker's data directories. Raises BROKER_NOT_AVAILABLE."""
        answer = await self._ask_broker(
            broker_id, "DescribeLogDirs", DescribeLogDirsRequest(), DescribeLogDirsResponse
        )
        return [
            LogDirDescription(
                path=each.path,
                error=error_of(each.error_code),
                size_bytes={
                    TopicPartition(item.topic, item.partition): item.size_bytes for item in each.partitions
                },
            )
            for each in answer.directories
        ]

    # --- groups -----------------------------------------------------------------------------------------

    async def list_groups(self) -> list[GroupListing]:
        """The groups of all brokers, by name."""
        found: dict[str, GroupListing] = {}
        cluster = await self.describe_cluster()
        for broker in cluster.brokers:
            found.update(await self._groups_of(broker))
        return [found[name] for name in sorted(found)]

    async def describe_groups(self, group_ids: Iterable[str]) -> list[GroupDescription]:
        """Groups with members; a group that does not exist has state ``Dead``."""
        return [await self._describe_group(group_id) for group_id in group_ids]

    async def group_offsets(
        self, group_id: str, partitions: Sequence[TopicPartition] | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """The group's committed positions, in these partitions or all."""
        request = OffsetFetchRequest(
            group_id=group_id,
            all_partitions=partitions is None,
            partitions=[
                OffsetFetchRequest.Partition(topic=partition.topic, partition=partition.partition)
                for partition in partitions or ()
            ],
        )
        reply, code = await CoordinatorClient(self._session, group_id).call(
            "OffsetFetch",
            request,
            OffsetFetchResponse,
            lambda answer: answer.error_code,
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=self._options.default_api_timeout_ms,
        )
        _raise_for(code, f"positions of group {group_id!r}", "")
        return {
            TopicPartition(item.topic, item.partition): OffsetAndMetadata(
                item.offset, item.leader_epoch, item.metadata
            )
            for item in reply.partitions
            if item.offset >= 0
        }

    async def _groups_of(self, broker: BrokerView) -> dict[str, GroupListing]:
        response = await self._retry(
            lambda: self._session.connections.unary(
                broker.address, "ListGroups", ListGroupsRequest(), ListGroupsResponse, timeout_ms=_ATTEMPT_MS
            ),
            lambda reply: reply.error_code,
            f"ListGroups of broker {broker.node_id}",
        )
        return {
            group.group_id: GroupListing(
                group_id=group.group_id, protocol_type=group.protocol_type, state=group.state
            )
            for group in response.groups
        }

    async def _describe_group(self, group_id: str) -> GroupDescription:
        reply, code = await CoordinatorClient(self._session, group_id).call(
            "DescribeGroups",
            DescribeGroupsRequest(groups=[group_id]),
            DescribeGroupsResponse,
            lambda answer: answer.groups[0].error_code if answer.groups else 0,
            attempt_ms=_ATTEMPT_MS,
            timeout_ms=self._options.default_api_timeout_ms,
        )
        if code is ErrorCode.GROUP_ID_NOT_FOUND or not reply.groups:
            return GroupDescription(
                group_id=group_id, state="Dead", protocol_type="", protocol_name="", members=()
            )
        _raise_for(code, f"group {group_id!r}", "")
        return _group_of(reply.groups[0])

    # --- the quorum -------------------------------------------------------------------------------------

    async def describe_quorum(self) -> QuorumStatus:
        """Who votes on the metadata, who leads, and how far each is."""
        return await self._quorum.describe()

    async def add_voter(self, node_id: int, *, directory_id: str = "") -> None:
        """Let a running controller vote that follows the log already; returns once that is committed.

        Raises DUPLICATE_VOTER, VOTER_NOT_FOUND when no such controller follows, REQUEST_TIMED_OUT when it
        does not catch up, or another change does not end, within ``default_api_timeout_ms``.
        """
        await self._quorum.add_voter(node_id, directory_id=directory_id)

    async def remove_voter(self, node_id: int, *, directory_id: str = "") -> None:
        """Let a voter vote no more; returns once that is committed.

        Raises VOTER_NOT_FOUND, INVALID_REQUEST for the only voter or when too few live ones would be left,
        REQUEST_TIMED_OUT as ``add_voter``.
        """
        await self._quorum.remove_voter(node_id, directory_id=directory_id)

    async def transfer_leadership(self, node_id: int) -> NodeId:
        """Hand leadership of the quorum over; returns who leads then, which may be another, -1: not known.

        Raises VOTER_NOT_FOUND, REQUEST_TIMED_OUT when that voter does not catch up.
        """
        return await self._quorum.transfer_leadership(node_id)

    async def commit_group_offsets(
        self, group_id: str, offsets: Mapping[TopicPartition, int | OffsetAndMetadata]
    ) -> None:
        """Set where a group without members goes on. Raises UNKNOWN_MEMBER_ID while it has members."""
        await GroupChanges(self._session).commit(group_id, offsets)

    async def delete_groups(self, group_ids: Iterable[str]) -> None:
        """Forget groups and all they committed.

        Raises NON_EMPTY_GROUP while one has members, GROUP_ID_NOT_FOUND; those before it are gone.
        """
        for group_id in group_ids:
            await GroupChanges(self._session).delete(group_id)

    # --- replication ------------------------------------------------------------------------------------

    async def describe_replication(self, partition: TopicPartition) -> ReplicationDescription:
        """A partition as its leader sees it: ISR, followers, who waits. LEADER_NOT_AVAILABLE without one."""
        self._session.check()
        return await ReplicationLookup(self._session).describe(partition)

    # --- inside -----------------------------------------------------------------------------------------

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

    async def _ask_any(
        self, method: str, request: Message, reply: type[Reply], code_of: Callable[[Reply], int]
    ) -> Reply:
        return await self._retry(
            lambda: self._session.connections.unary(
                self._session.metadata.any_broker(),
                method,
                request,
                reply,
                timeout_ms=self._options.request_timeout_ms,
            ),
            code_of,
            method,
        )

    async def _ask_broker(self, broker_id: int, method: str, request: Message, reply: type[Reply]) -> Reply:
        cluster = await self.describe_cluster()
        address = next((each.address for each in cluster.brokers if each.node_id == broker_id), None)
        if address is None:
            raise GlasslogError(ErrorCode.BROKER_NOT_AVAILABLE, f"broker {broker_id} is not there")
        return await self._retry(
            lambda: self._session.connections.unary(
                address, method, request, reply, timeout_ms=self._options.request_timeout_ms
            ),
            _no_error,
            f"{method} of broker {broker_id}",
        )

    async def _retry(
        self, call: Callable[[], Awaitable[Reply]], code_of: Callable[[Reply], int], what: str
    ) -> Reply:
        """The reply, once it is neither lost nor one that says "later"."""
        self._session.check()
        backoff = Backoff(base_ms=_POLL_MS, maximum_ms=_MAX_PAUSE_MS)
        last = GlasslogError(ErrorCode.REQUEST_TIMED_OUT, "no broker has answered")
        attempts = 0
        try:
            async with asyncio.timeout(self._options.default_api_timeout_ms / 1_000):
                while True:
                    try:
                        reply = await call()
                        code = error_of(code_of(reply))
                        if not code.retriable:
                            return reply
                        last = GlasslogError(code, f"the broker says {code.name}")
                    except GlasslogError as error:
                        if not error.retriable and not isinstance(error, TransportError):
                            raise
                        last = error
                    attempts += 1
                    pause_ms = backoff.delay_ms(attempts, self._session.runtime.random)
                    await asyncio.sleep(pause_ms / 1_000)
        except TimeoutError:
            limit_ms = self._options.default_api_timeout_ms
            raise GlasslogError(last.code, f"{what} was not answered within {limit_ms} ms: {last}") from None


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


def _group_of(group: DescribeGroupsResponse.Group) -> GroupDescription:
    return GroupDescription(
        group_id=group.group_id,
        state=group.state,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol_name,
        members=tuple(
            GroupMember(
                member_id=member.member_id,
                group_instance_id=member.group_instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                assignment=decode_assignment(member.assignment),
            )
            for member in group.members
        ),
    )


def _no_error(reply: Message) -> int:
    return 0


def _create_error(reply: CreateTopicsResponse) -> int:
    """A code that says "later", when nothing of the request has been done."""
    codes = [topic.error_code for topic in reply.topics]
    return codes[0] if codes and all(error_of(code).retriable for code in codes) else 0


def _missing(code: int) -> str:
    return "does not exist" if code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION else ""


def _raise_for(number: int, what: str, message: str) -> None:
    code = error_of(number)
    if code is not ErrorCode.NONE:
        # Most of what brokers say names the topic already.
        raise GlasslogError(code, message if what in message else f"{what}: {message or code.name}")
