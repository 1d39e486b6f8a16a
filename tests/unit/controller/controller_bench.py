"""A controller core with a log that commits at once, and short ways to drive it. Test helpers only."""

from dataclasses import dataclass, field
from typing import TypeVar

from glasslog.common.errors import ErrorCode
from glasslog.common.ids import NO_BROKER_EPOCH, BrokerEpoch, NodeId, Offset, TopicId
from glasslog.controller.decision import ControllerSettings
from glasslog.controller.requests import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    CreatedTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
    FenceBrokersRequest,
    FenceBrokersResponse,
    IsrOutcome,
    IsrProposal,
    LostBroker,
    NewTopic,
    RegisterBrokerRequest,
    RegisterBrokerResponse,
    Request,
    Response,
)
from glasslog.controller.state import ControllerState
from glasslog.metadata.features import SUPPORTED, FeatureRange
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.metadata.records import Endpoint, MetadataRecord

R = TypeVar("R", bound=Response)

CLUSTER = "cluster-of-these-tests"
ENDPOINTS = (Endpoint(name="GRPC", host="127.0.0.1", port=9192),)


def incarnation(number: int) -> bytes:
    return number.to_bytes(16, "big")


@dataclass
class Bench:
    """``log`` has every record with its offset; the state is active from the start."""

    settings: ControllerSettings = field(default_factory=lambda: ControllerSettings(cluster_id=CLUSTER))
    now_ms: int = 1_000_000
    log: list[MetadataRecord] = field(default_factory=list)
    auto_commit: bool = True
    committed: int = 0

    def __post_init__(self) -> None:
        self.state = ControllerState(self.settings)
        self.state.activate(1, self.now_ms)
        self._topics = 0
        self._incarnations = 0

    @property
    def image(self) -> MetadataImage:
        return self.state.active.image

    def ask(self, request: Request, expected: type[R]) -> R:
        next_offset = Offset(len(self.log))
        decision = self.state.decide(request, next_offset=next_offset, now_ms=self.now_ms)
        if decision.records:
            self.state.adopt(self.state.replay(next_offset, decision.records), self.now_ms)
            self.log.extend(decision.records)
            if self.auto_commit:
                self.commit()
        assert isinstance(decision.response, expected)
        return decision.response

    def commit(self) -> None:
        if self.committed < len(self.log):
            news = tuple(self.log[self.committed :])
            assert self.state.commit(Offset(self.committed), 1, len(news), lambda: news) == news
            self.committed = len(self.log)

    # --- brokers ---

    def register(
        self,
        broker_id: int,
        *,
        rack: str = "",
        number: int = 0,
        cluster_id: str = CLUSTER,
        log_dir_ids: tuple[bytes, ...] = (),
        previous_broker_epoch: BrokerEpoch = NO_BROKER_EPOCH,
        features: tuple[FeatureRange, ...] = SUPPORTED,
    ) -> RegisterBrokerResponse:
        self._incarnations += 1
        request = RegisterBrokerRequest(
            cluster_id=cluster_id,
            broker_id=NodeId(broker_id),
            incarnation_id=incarnation(number or 1_000 + self._incarnations),
            endpoints=ENDPOINTS,
            rack=rack,
            log_dir_ids=log_dir_ids,
            previous_broker_epoch=previous_broker_epoch,
            features=features,
        )
        return self.ask(request, RegisterBrokerResponse)

    def epoch(self, broker_id: int) -> BrokerEpoch:
        return self.image.brokers[NodeId(broker_id)].broker_epoch

    def heartbeat(
        self,
        broker_id: int,
        *,
        offset: int | None = None,
        broker_epoch: int | None = None,
        want_fence: bool = False,
        want_shut_down: bool = False,
        offline_log_dirs: tuple[bytes, ...] = (),
    ) -> BrokerHeartbeatResponse:
        node = NodeId(broker_id)
        epoch = self.epoch(broker_id) if broker_epoch is None else BrokerEpoch(broker_epoch)
        self.state.active.heartbeats.contact(node, epoch, self.now_ms)
        request = BrokerHeartbeatRequest(
            broker_id=node,
            broker_epoch=epoch,
            current_metadata_offset=Offset(len(self.log) - 1 if offset is None else offset),
            want_fence=want_fence,
            want_shut_down=want_shut_down,
            offline_log_dirs=offline_log_dirs,
        )
        return self.ask(request, BrokerHeartbeatResponse)

    def open_session(self, broker_id: int) -> bool:
        return self.state.active.heartbeats.session_opened(
            NodeId(broker_id), self.epoch(broker_id), self.now_ms
        )

    def lose_session(self, broker_id: int) -> None:
        self.state.active.heartbeats.session_lost(NodeId(broker_id), self.epoch(broker_id), self.now_ms)

    def start(self, *broker_ids: int, racks: bool = False) -> None:
        """Bring brokers to where they serve."""
        for broker_id in broker_ids:
            assert self.register(broker_id, rack=f"r{broker_id}" if racks else "").error_code == 0
            assert self.open_session(broker_id)
            assert not self.heartbeat(broker_id).is_fenced

    def fence(self, *broker_ids: int) -> tuple[NodeId, ...]:
        lost = tuple(
            LostBroker(broker_id=NodeId(each), broker_epoch=self.epoch(each), reason="test")
            for each in broker_ids
        )
        return self.ask(FenceBrokersRequest(brokers=lost), FenceBrokersResponse).fenced

    def fence_expired(self) -> tuple[NodeId, ...]:
        lost = self.state.active.heartbeats.expired(self.now_ms)
        return self.ask(FenceBrokersRequest(brokers=lost), FenceBrokersResponse).fenced if lost else ()

    # --- topics ---

    def new_topic(self, name: str, **changes: object) -> NewTopic:
        self._topics += 1
        topic = NewTopic(name=name, topic_id=TopicId(b"T" + self._topics.to_bytes(15, "big")))
        for key, value in changes.items():
            object.__setattr__(topic, key, value)
        return topic

    def create(self, name: str, **changes: object) -> CreatedTopic:
        request = CreateTopicsRequest(topics=(self.new_topic(name, **changes),))
        return self.ask(request, CreateTopicsResponse).topics[0]

    def create_on(self, name: str, *assignment: tuple[int, ...], **changes: object) -> TopicId:
        """A topic with exactly these replicas."""
        nodes = tuple((index, tuple(map(NodeId, each))) for index, each in enumerate(assignment))
        result = self.create(name, assignments=nodes, **changes)
        assert result.error_code is ErrorCode.NONE, result.error_message
        return result.topic_id

    def partition(self, name: str, partition: int = 0) -> PartitionImage:
        found = self.image.partition(name, partition)
        assert found is not None
        return found

    def alter(self, name: str, isr: tuple[int, ...], number: int = 0, /, **changes: object) -> IsrOutcome:
        """The leader of partition ``number`` proposes, with everything right but for ``changes``."""
        state = self.partition(name, number)
        proposal = IsrProposal(
            topic_id=state.topic_id,
            partition=number,
            leader_epoch=state.leader_epoch,
            partition_epoch=state.partition_epoch,
            new_isr=tuple(map(NodeId, isr)),
            new_isr_broker_epochs=tuple(
                self.image.brokers[NodeId(each)].broker_epoch
                if NodeId(each) in self.image.brokers
                else NO_BROKER_EPOCH
                for each in isr
            ),
        )
        for key, value in changes.items():
            object.__setattr__(proposal, key, value)
        return self.propose(state.leader, proposal)

    def propose(self, broker_id: NodeId, proposal: IsrProposal) -> IsrOutcome:
        request = AlterPartitionRequest(
            broker_id=broker_id, broker_epoch=self.epoch(broker_id), partitions=(proposal,)
        )
        response = self.ask(request, AlterPartitionResponse)
        assert response.error_code is ErrorCode.NONE
        return response.partitions[0]
