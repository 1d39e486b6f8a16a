"""What a broker says of itself to ``/readyz`` and metrics. Refuses to know how it is shown."""

from dataclasses import dataclass

from glasslog.common.ids import BrokerEpoch, NodeId, Offset


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStatus:
    """``missing`` is what the broker still lacks to be ready, empty when it is; ``state`` one word."""

    state: str
    missing: str
    fenced: bool
    caught_up: bool
    broker_epoch: BrokerEpoch
    metadata_offset: Offset
    metadata_high_watermark: Offset
    controller_id: NodeId

    @property
    def is_ready(self) -> bool:
        return not self.missing
