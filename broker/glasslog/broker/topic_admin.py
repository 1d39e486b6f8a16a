"""Creates and deletes topics on behalf of clients and of the broker itself, through the active controller.

A call returns when this broker's own metadata shows the result, so that who asks here next sees it. Refuses
to know which listener a request came through, and who may create what: the controller checks all of it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from glasslog.broker.controller_channel import CONTROLLER_SERVICE, ControllerCalls
from glasslog.broker.metadata_observer import MetadataView
from glasslog.broker.wire_errors import error_code_of
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import ZERO_TOPIC_ID, NodeId, TopicId
from glasslog.common.runtime.protocols import Clock
from glasslog.common.topic_names import is_internal, name_problem
from glasslog.metadata.image import MetadataImage
from glasslog.v1 import controller_pb2 as pb

_CREATE = CONTROLLER_SERVICE + "CreateTopics"
_DELETE = CONTROLLER_SERVICE + "DeleteTopics"
_DEFAULT_TIMEOUT_MS = 30_000
_AUTO_CREATE_TIMEOUT_MS = 5_000
MAX_TOPICS_PER_REQUEST = 10_000
BY_DEFAULT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    """A topic to create; ``BY_DEFAULT`` takes the controller's. ``assignments``: replicas by partition."""

    name: str
    partitions: int = BY_DEFAULT
    replication_factor: int = BY_DEFAULT
    configs: Mapping[str, str] = field(default_factory=dict)
    assignments: tuple[tuple[int, tuple[NodeId, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicOutcome:
    """What became of one topic."""

    name: str
    error: ErrorCode = ErrorCode.NONE
    error_message: str = ""
    topic_id: TopicId = ZERO_TOPIC_ID
    partitions: int = BY_DEFAULT
    replication_factor: int = BY_DEFAULT


class TopicAdmin:
    """See the module. ``timeout_ms`` of 0 or less takes a default."""

    def __init__(self, controllers: ControllerCalls, metadata: MetadataView, clock: Clock) -> None:
        self._controllers = controllers
        self._metadata = metadata
        self._clock = clock

    async def create(
        self,
        topics: Sequence[NewTopic],
        *,
        timeout_ms: int,
        validate_only: bool = False,
        internal: bool = False,
    ) -> tuple[TopicOutcome, ...]:
        """One outcome for each topic, in their order. Raises ``GlasslogError`` when nobody could be asked."""
        refused = _refusals((topic.name for topic in topics), name_problem)
        deadline_ms = self._clock.now_ms() + (timeout_ms if timeout_ms > 0 else _DEFAULT_TIMEOUT_MS)
        wanted = [topic for topic in topics if topic.name not in refused]
        outcomes: tuple[TopicOutcome, ...] = ()
        if wanted:
            request = _create_request(wanted, validate_only=validate_only, internal=internal)
            request.timeout_ms = max(1, deadline_ms - self._clock.now_ms())
            answer = await self._controllers.call(
                _CREATE, request, pb.CreateTopicsResponse, timeout_ms=request.timeout_ms
            )
            outcomes = tuple(_created(topic) for topic in answer.topics)
        if not validate_only:
            created = [outcome for outcome in outcomes if not outcome.error]
            await self._until(lambda image: all(_is_there(image, each) for each in created), deadline_ms)
        return (*outcomes, *refused.values())

    async def delete(self, names: Sequence[str], *, timeout_ms: int) -> tuple[TopicOutcome, ...]:
        """One outcome for each name; internal topics are protected. Raises as ``create`` does."""
        refused = _refusals(names, _problem_with_deleting)
        deadline_ms = self._clock.now_ms() + (timeout_ms if timeout_ms > 0 else _DEFAULT_TIMEOUT_MS)
        wanted = [name for name in names if name not in refused]
        outcomes: tuple[TopicOutcome, ...] = ()
        before = self._metadata.image
        if wanted:
            left_ms = max(1, deadline_ms - self._clock.now_ms())
            request = pb.DeleteTopicsRequest(names=wanted, timeout_ms=left_ms)
            answer = await self._controllers.call(
                _DELETE, request, pb.DeleteTopicsResponse, timeout_ms=left_ms
            )
            outcomes = tuple(_deleted(topic) for topic in answer.topics)
        gone = {before.topic_ids.get(outcome.name) for outcome in outcomes if not outcome.error}
        await self._until(lambda image: not any(topic_id in image.topics for topic_id in gone), deadline_ms)
        return (*outcomes, *refused.values())

    async def create_automatically(self, topics: Sequence[NewTopic]) -> Mapping[str, TopicOutcome]:
        """Create topics that someone needs now; that others were quicker is no error. Never raises."""
        internal = all(is_internal(topic.name) for topic in topics)
        try:
            outcomes = await self.create(topics, timeout_ms=_AUTO_CREATE_TIMEOUT_MS, internal=internal)
        except GlasslogError as error:
            return {
                topic.name: TopicOutcome(name=topic.name, error=error.code, error_message=str(error))
                for topic in topics
            }
        there = {each.name for each in outcomes if each.error is ErrorCode.TOPIC_ALREADY_EXISTS}
        deadline_ms = self._clock.now_ms() + _AUTO_CREATE_TIMEOUT_MS
        await self._until(lambda image: all(name in image.topic_ids for name in there), deadline_ms)
        return {each.name: TopicOutcome(name=each.name) if each.name in there else each for each in outcomes}

    async def _until(self, condition: Callable[[MetadataImage], bool], deadline_ms: int) -> None:
        """What was decided is decided: that this broker is slow to see it is no failure of the request."""
        left_ms = max(1, deadline_ms - self._clock.now_ms())
        try:
            async with asyncio.timeout(left_ms / 1000):
                await self._metadata.wait_for(condition)
        except TimeoutError:
            return


def _refusals(names: Iterable[str], problem: Callable[[str], str | None]) -> dict[str, TopicOutcome]:
    """Names that are refused here, each once. Raises INVALID_REQUEST for too many names."""
    refused: dict[str, TopicOutcome] = {}
    seen: set[str] = set()
    for name in names:
        if name in seen:
            refused[name] = TopicOutcome(
                name=name, error=ErrorCode.INVALID_REQUEST, error_message=f"topic {name!r} is named twice"
            )
        elif what := problem(name):
            refused[name] = TopicOutcome(
                name=name, error=ErrorCode.INVALID_TOPIC_EXCEPTION, error_message=what
            )
        seen.add(name)
    if len(seen) > MAX_TOPICS_PER_REQUEST:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, f"more than {MAX_TOPICS_PER_REQUEST} topics in one request"
        )
    return refused


def _problem_with_deleting(name: str) -> str:
    if is_internal(name):
        return f"{name} belongs to the cluster and can not be deleted"
    return ""


def _create_request(
    topics: Sequence[NewTopic], *, validate_only: bool, internal: bool
) -> pb.CreateTopicsRequest:
    return pb.CreateTopicsRequest(
        topics=[
            pb.CreateTopicsRequest.Topic(
                name=topic.name,
                partitions=topic.partitions,
                replication_factor=topic.replication_factor,
                configs=topic.configs,
                assignments=[
                    pb.CreateTopicsRequest.Assignment(partition=partition, replicas=replicas)
                    for partition, replicas in topic.assignments
                ],
            )
            for topic in topics
        ],
        validate_only=validate_only,
        internal=internal,
    )


def _created(topic: pb.CreateTopicsResponse.Topic) -> TopicOutcome:
    return TopicOutcome(
        name=topic.name,
        error=error_code_of(topic.error_code),
        error_message=topic.error_message,
        topic_id=TopicId(topic.topic_id) if topic.topic_id else ZERO_TOPIC_ID,
        partitions=topic.partitions,
        replication_factor=topic.replication_factor,
    )


def _deleted(topic: pb.DeleteTopicsResponse.Topic) -> TopicOutcome:
    return TopicOutcome(
        name=topic.name, error=error_code_of(topic.error_code), error_message=topic.error_message
    )


def _is_there(image: MetadataImage, outcome: TopicOutcome) -> bool:
    topic = image.topics.get(outcome.topic_id)
    return topic is not None and len(topic.partitions) >= outcome.partitions
