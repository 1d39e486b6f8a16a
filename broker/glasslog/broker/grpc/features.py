"""UpdateFeatures and DescribeFeatures of ``glasslog.v1.Broker``. Refuses to know what a feature does."""

from glasslog.broker.feature_admin import FeatureAdmin, FeatureUpdate
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb
from glasslog.v1 import controller_pb2


class FeatureHandlers:
    """See the module."""

    def __init__(self, admin: FeatureAdmin) -> None:
        self._admin = admin

    async def update_features(
        self, message: controller_pb2.UpdateFeaturesRequest, peer: Peer
    ) -> controller_pb2.UpdateFeaturesResponse:
        outcomes = await self._admin.update(
            [
                FeatureUpdate(name=each.name, level=each.level, upgrade_type=each.upgrade_type)
                for each in message.updates
            ],
            timeout_ms=message.timeout_ms,
            validate_only=message.validate_only,
        )
        return controller_pb2.UpdateFeaturesResponse(
            features=[
                controller_pb2.UpdateFeaturesResponse.Feature(
                    name=each.name, error_code=each.error, error_message=each.error_message
                )
                for each in outcomes
            ]
        )

    async def describe_features(
        self, message: pb.DescribeFeaturesRequest, peer: Peer
    ) -> pb.DescribeFeaturesResponse:
        _, features = self._admin.known()
        return pb.DescribeFeaturesResponse(
            features=[
                pb.DescribeFeaturesResponse.Feature(
                    name=each.name,
                    minimum=each.minimum,
                    maximum=each.maximum,
                    level=each.level,
                    documentation=each.documentation,
                )
                for each in features
            ]
        )
