"""What administrators ask: protobuf requests into values, answers into protobuf. Beside ``wire``.

Refuses to know what is decided.
"""

from collections.abc import Callable

from glasslog.common.ids import NodeId
from glasslog.controller.admin_requests import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    AlterConfigsRequest,
    AlterConfigsResponse,
    ConfigEdit,
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    ElectLeadersRequest,
    ElectLeadersResponse,
    FeatureUpdate,
    MorePartitions,
    QuotaEdits,
    ResourceEdits,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from glasslog.v1 import controller_pb2 as pb


def alter_configs(message: pb.AlterConfigsRequest) -> AlterConfigsRequest:
    """See ``AlterConfigsRequest``."""
    return AlterConfigsRequest(
        resources=tuple(
            ResourceEdits(
                resource_type=resource.type,
                name=resource.name,
                edits=tuple(_edit(change) for change in resource.changes),
                replace_all=resource.replace_all,
            )
            for resource in message.resources
        ),
        validate_only=message.validate_only,
    )


def _edit(change: pb.AlterConfigsRequest.Change) -> ConfigEdit:
    return ConfigEdit(
        key=change.key,
        operation=change.operation,
        value=change.value if change.HasField("value") else None,
    )


def configs_altered(response: AlterConfigsResponse) -> pb.AlterConfigsResponse:
    """See ``AlterConfigsResponse``."""
    return pb.AlterConfigsResponse(
        resources=[
            pb.AlterConfigsResponse.Resource(
                type=each.resource_type,
                name=each.name,
                error_code=each.error_code,
                error_message=each.error_message,
            )
            for each in response.resources
        ],
    )


def alter_client_quotas(message: pb.AlterClientQuotasRequest) -> AlterClientQuotasRequest:
    """See ``AlterClientQuotasRequest``."""
    return AlterClientQuotasRequest(
        entries=tuple(
            QuotaEdits(
                entity=tuple(
                    (part.type, part.name if part.HasField("name") else None) for part in entry.entity
                ),
                limits=tuple(
                    (change.key, change.limit if change.HasField("limit") else None)
                    for change in entry.changes
                ),
            )
            for entry in message.entries
        ),
        validate_only=message.validate_only,
    )


def client_quotas_altered(response: AlterClientQuotasResponse) -> pb.AlterClientQuotasResponse:
    """See ``AlterClientQuotasResponse``."""
    return pb.AlterClientQuotasResponse(
        entries=[
            pb.AlterClientQuotasResponse.Entry(error_code=each.error_code, error_message=each.error_message)
            for each in response.entries
        ],
    )


def create_partitions(
    message: pb.CreatePartitionsRequest, *, new_seed: Callable[[], int]
) -> CreatePartitionsRequest:
    """See ``CreatePartitionsRequest``; what must be random is drawn here, once per topic."""
    return CreatePartitionsRequest(
        topics=tuple(
            MorePartitions(
                name=topic.name,
                count=topic.count,
                assignments=tuple(
                    tuple(NodeId(broker_id) for broker_id in each.broker_ids) for each in topic.assignments
                ),
                placement_seed=new_seed(),
            )
            for topic in message.topics
        ),
        validate_only=message.validate_only,
    )


def partitions_created(response: CreatePartitionsResponse) -> pb.CreatePartitionsResponse:
    """See ``CreatePartitionsResponse``."""
    return pb.CreatePartitionsResponse(
        topics=[
            pb.CreatePartitionsResponse.Topic(
                name=each.name, error_code=each.error_code, error_message=each.error_message
            )
            for each in response.topics
        ],
    )


def elect_leaders(message: pb.ElectLeadersRequest) -> ElectLeadersRequest:
    """See ``ElectLeadersRequest``."""
    named = tuple((each.topic, each.partition) for each in message.partitions)
    return ElectLeadersRequest(election_type=message.election_type, partitions=None if message.all else named)


def leaders_elected(response: ElectLeadersResponse) -> pb.ElectLeadersResponse:
    """See ``ElectLeadersResponse``."""
    return pb.ElectLeadersResponse(
        error_code=response.error_code,
        error_message=response.error_message,
        partitions=[
            pb.ElectLeadersResponse.Partition(
                topic=each.topic,
                partition=each.partition,
                error_code=each.error_code,
                error_message=each.error_message,
            )
            for each in response.partitions
        ],
    )


def update_features(message: pb.UpdateFeaturesRequest) -> UpdateFeaturesRequest:
    """See ``UpdateFeaturesRequest``."""
    return UpdateFeaturesRequest(
        updates=tuple(
            FeatureUpdate(name=each.name, level=each.level, upgrade_type=each.upgrade_type)
            for each in message.updates
        ),
        validate_only=message.validate_only,
    )


def features_updated(response: UpdateFeaturesResponse) -> pb.UpdateFeaturesResponse:
    """See ``UpdateFeaturesResponse``."""
    return pb.UpdateFeaturesResponse(
        features=[
            pb.UpdateFeaturesResponse.Feature(
                name=each.name, error_code=each.error_code, error_message=each.error_message
            )
            for each in response.features
        ],
    )
