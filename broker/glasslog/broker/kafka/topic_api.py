"""CreateTopics and DeleteTopics of the Kafka listener.

Translates to and from what the controller is asked; refuses to know who decides.
Source: Kafka's ``ControllerApis.createTopics`` and ``deleteTopics``.
"""

from collections.abc import Sequence

from glasslog.broker.cluster_changes import ClusterChanges
from glasslog.broker.config_view import ConfigView
from glasslog.broker.kafka.connection import Api
from glasslog.broker.kafka.messages import topics as wire
from glasslog.broker.kafka.serving import Caller, in_a_task
from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import ZERO_TOPIC_ID, TopicId
from glasslog.v1 import controller_pb2 as pb

_TOPICS_FROM = 6


class TopicApis:
    """See the module."""

    def __init__(self, metadata: MetadataView, changes: ClusterChanges, configs: ConfigView) -> None:
        self._metadata = metadata
        self._changes = changes
        self._configs = configs

    def apis(self) -> Sequence[Api]:
        """What the listener is given."""
        return (in_a_task(wire.CREATE_TOPICS, self.create), in_a_task(wire.DELETE_TOPICS, self.delete))

    async def create(self, request: wire.CreateTopicsRequest, caller: Caller) -> wire.CreateTopicsResponse:
        without_value = {
            topic.name for topic in request.topics if any(each.value is None for each in topic.configs)
        }
        asked = pb.CreateTopicsRequest(
            topics=[_new_topic(topic) for topic in request.topics if topic.name not in without_value],
            timeout_ms=request.timeout_ms,
            validate_only=request.validate_only,
        )
        try:
            answer = await self._changes.create_topics(asked)
        except GlasslogError as error:
            answer = pb.CreateTopicsResponse()
            for name in dict.fromkeys(topic.name for topic in asked.topics):
                answer.topics.add(name=name, error_code=error.code, error_message=str(error))
        for name in sorted(without_value):
            text = "a setting has no value; one that is left out has its default"
            answer.topics.add(name=name, error_code=ErrorCode.INVALID_CONFIG, error_message=text)
        return wire.CreateTopicsResponse(topics=tuple(self._created(each) for each in answer.topics))

    def _created(self, outcome: pb.CreateTopicsResponse.Topic) -> wire.CreatableTopicResult:
        if outcome.error_code:
            return wire.CreatableTopicResult(
                name=outcome.name, error_code=outcome.error_code, error_message=outcome.error_message
            )
        return wire.CreatableTopicResult(
            name=outcome.name,
            topic_id=outcome.topic_id,
            error_message=None,
            num_partitions=outcome.partitions,
            replication_factor=outcome.replication_factor,
            configs=tuple(
                wire.CreatableTopicConfigs(
                    name=each.name, value=each.value, read_only=False, config_source=each.source
                )
                for each in self._configs.of_topic(outcome.name)
            ),
        )

    async def delete(self, request: wire.DeleteTopicsRequest, caller: Caller) -> wire.DeleteTopicsResponse:
        if caller.version < _TOPICS_FROM:
            return wire.DeleteTopicsResponse(
                responses=await self._delete(request.topic_names, request.timeout_ms)
            )
        image = self._metadata.image
        ambiguous = [each for each in request.topics if not _names_one(each)]
        clear = [each for each in request.topics if _names_one(each)]
        by_id = {
            each.topic_id: image.topics.get(TopicId(each.topic_id)) for each in clear if each.name is None
        }
        unknown = tuple(
            wire.DeletableTopicResult(
                name=None,
                topic_id=topic_id,
                error_code=ErrorCode.UNKNOWN_TOPIC_ID,
                error_message="no such topic id",
            )
            for topic_id, topic in by_id.items()
            if topic is None
        )
        names = [each.name for each in clear if each.name is not None]
        names += [topic.name for topic in by_id.values() if topic is not None]
        deleted = await self._delete(names, request.timeout_ms)
        return wire.DeleteTopicsResponse(responses=(*map(_ambiguous, ambiguous), *deleted, *unknown))

    async def _delete(self, names: Sequence[str], timeout_ms: int) -> tuple[wire.DeletableTopicResult, ...]:
        ids = self._metadata.image.topic_ids
        try:
            answer = await self._changes.delete_topics(
                pb.DeleteTopicsRequest(names=names, timeout_ms=timeout_ms)
            )
        except GlasslogError as error:
            answer = pb.DeleteTopicsResponse()
            for name in dict.fromkeys(names):
                answer.topics.add(name=name, error_code=error.code, error_message=str(error))
        return tuple(
            wire.DeletableTopicResult(
                name=each.name,
                topic_id=ids.get(each.name, ZERO_TOPIC_ID),
                error_code=each.error_code,
                error_message=each.error_message or None,
            )
            for each in answer.topics
        )


def _names_one(topic: wire.DeleteTopicState) -> bool:
    return (topic.name is None) != (topic.topic_id == ZERO_TOPIC_ID)


def _ambiguous(topic: wire.DeleteTopicState) -> wire.DeletableTopicResult:
    """With both, or neither, it is not certain which is meant; the others of the request are."""
    return wire.DeletableTopicResult(
        name=topic.name,
        topic_id=topic.topic_id,
        error_code=ErrorCode.INVALID_REQUEST,
        error_message="a topic is named by its name or by its id, and not by both",
    )


def _new_topic(topic: wire.CreatableTopic) -> pb.CreateTopicsRequest.Topic:
    return pb.CreateTopicsRequest.Topic(
        name=topic.name,
        partitions=topic.num_partitions,
        replication_factor=topic.replication_factor,
        configs={each.name: each.value or "" for each in topic.configs},
        assignments=[
            pb.CreateTopicsRequest.Assignment(partition=each.partition_index, replicas=each.broker_ids)
            for each in topic.assignments
        ],
    )
