"""DescribeFeatures of ``glasslog.v1.Broker``. Refuses to know what a feature does."""

from glasslog.broker.feature_view import known_features
from glasslog.broker.metadata_observer import MetadataView
from glasslog.common.runtime.protocols import Peer
from glasslog.v1 import broker_pb2 as pb


class FeatureHandlers:
    """See the module."""

    def __init__(self, metadata: MetadataView) -> None:
        self._metadata = metadata

    async def describe_features(
        self, message: pb.DescribeFeaturesRequest, peer: Peer
    ) -> pb.DescribeFeaturesResponse:
        return pb.DescribeFeaturesResponse(
            features=[
                pb.DescribeFeaturesResponse.Feature(
                    name=each.name,
                    minimum=each.minimum,
                    maximum=each.maximum,
                    level=each.level,
                    documentation=each.documentation,
                )
                for each in known_features(self._metadata.image)
            ]
        )
