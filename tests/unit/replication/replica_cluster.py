"""Brokers' replica managers on an in-memory network, with metadata written by hand."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from glasslog.broker.kafka.listener import KafkaListener
from glasslog.broker.partition.isr import AlterPartitionOutcome
from glasslog.broker.partition.leader_state import LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.replica_manager import ReplicaManager
from glasslog.broker.requests import (
    ACKS_ALL,
    Consumer,
    FetchPartition,
    FetchPartitionResult,
    FetchRequest,
    ProducePartition,
    ProducePartitionResult,
    ProduceRequest,
)
from glasslog.common.config import parse
from glasslog.common.errors import ErrorCode, InvariantViolation
from glasslog.common.ids import (
    BrokerEpoch,
    LeaderEpoch,
    NodeId,
    Offset,
    PartitionEpoch,
    TopicId,
    TopicPartition,
)
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.memory.content import Keep
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.directories import open_directories
from glasslog.log.records import BatchBuilder, decode_records
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import MetadataImage, PartitionImage
from glasslog.metadata.records import (
    BrokerRegistrationChange,
    ConfigChange,
    Endpoint,
    MetadataRecord,
    PartitionChange,
    PartitionCreated,
    RegisterBroker,
    ResourceType,
    TopicCreated,
    TopicRemoved,
)

TOPIC_ID = TopicId(b"topic-id-0000001")
PARTITION = TopicPartition("t", 0)
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
KAFKA_PORT = 9092


def batch(
    *values: str, producer_id: int = -1, producer_epoch: int = -1, base_sequence: int = -1
) -> bytearray:
    """One batch with those values."""
    builder = BatchBuilder()
    for value in values:
        builder.append(1_000, None, value.encode())
    return builder.close(producer_id=producer_id, producer_epoch=producer_epoch, base_sequence=base_sequence)


@dataclass(slots=True)
class Node:
    """One running broker."""

    runtime: Runtime
    manager: ReplicaManager
    listener: KafkaListener
    task: asyncio.Task[None]
    broker_epoch: BrokerEpoch


class ReplicaCluster:
    """Brokers, and the controller's part played by the test."""

    def __init__(self, world: MemoryWorld, **settings: str) -> None:
        self.world = world
        self.settings = settings
        self.image = MetadataImage()
        self.nodes: dict[int, Node] = {}
        self.behind: set[int] = set()
        """Brokers that do not get metadata for now."""
        self._seen: dict[int, MetadataImage] = {}
        self._log: list[tuple[Offset, MetadataRecord]] = []
        self.isr_changes: list[tuple[int, tuple[int, ...]]] = []
        self.isr_error = ErrorCode.NONE
        self.isr_violation: InvariantViolation | None = None
        """What asking for an ISR change runs into."""
        self.fatal: list[InvariantViolation] = []
        self.hears_directories = False
        """Whether the metadata says what brokers report of their data directories."""

    # --- the controller ---

    def write(self, *records: MetadataRecord) -> None:
        """Commit records and show them to every broker at once."""
        delta = MetadataDelta(self.image)
        for number, record in enumerate(records, start=1):
            offset = Offset(self.image.offset + number)
            delta.replay(offset, 1, record)
            self._log.append((offset, record))
        self.image = delta.apply()
        for node_id, node in list(self.nodes.items()):
            if node_id in self.behind:
                self._seen.setdefault(node_id, delta.base)
            else:
                node.manager.apply_metadata(delta, self.image)

    def create(
        self,
        *,
        replicas: tuple[int, ...],
        topic: str = "t",
        topic_id: TopicId = TOPIC_ID,
        partitions: int = 1,
        **configs: str,
    ) -> None:
        nodes = tuple(NodeId(each) for each in replicas)
        made = [
            PartitionCreated(
                topic_id=topic_id,
                partition=number,
                replicas=nodes,
                isr=nodes,
                leader=nodes[0],
                leader_epoch=LeaderEpoch(0),
                partition_epoch=PartitionEpoch(0),
            )
            for number in range(partitions)
        ]
        settings = [
            ConfigChange(
                resource_type=ResourceType.TOPIC, resource_name=topic, key=key.replace("_", "."), value=value
            )
            for key, value in configs.items()
        ]
        self.write(TopicCreated(name=topic, topic_id=topic_id), *settings, *made)

    def elect(
        self, leader: int, isr: tuple[int, ...], *, partition: int = 0, topic_id: TopicId = TOPIC_ID
    ) -> None:
        self.write(
            PartitionChange(
                topic_id=topic_id,
                partition=partition,
                leader=NodeId(leader),
                isr=tuple(NodeId(each) for each in isr),
            )
        )

    def set_isr(self, isr: tuple[int, ...]) -> None:
        self.write(PartitionChange(topic_id=TOPIC_ID, partition=0, isr=tuple(NodeId(each) for each in isr)))

    def reassign(self, replicas: tuple[int, ...], *, isr: tuple[int, ...]) -> None:
        self.write(
            PartitionChange(
                topic_id=TOPIC_ID,
                partition=0,
                replicas=tuple(NodeId(each) for each in replicas),
                isr=tuple(NodeId(each) for each in isr),
            )
        )

    def catch_up(self, node_id: int) -> None:
        """Show a broker that was behind everything at once."""
        delta = self._missed_by(node_id)
        self.nodes[node_id].manager.apply_metadata(delta, delta.apply())

    async def follow(self, node_id: int) -> None:
        """The same, as a broker that others use takes it in."""
        delta = self._missed_by(node_id)
        await self.nodes[node_id].manager.follow_metadata(delta, delta.apply())

    def _missed_by(self, node_id: int) -> MetadataDelta:
        self.behind.discard(node_id)
        delta = MetadataDelta(self._seen.pop(node_id, self.image))
        for offset, record in self._log:
            if offset > delta.base.offset:
                delta.replay(offset, 1, record)
        return delta

    def catch_up_all(self) -> None:
        """Nobody is behind any more."""
        self.behind.clear()
        for node_id in list(self._seen):
            if node_id in self.nodes:
                self.catch_up(node_id)
            else:
                del self._seen[node_id]

    def image_of(self) -> PartitionImage:
        found = self.image.partition_by_id(TOPIC_ID, 0)
        assert found is not None
        return found

    def delete(self, topic_id: TopicId = TOPIC_ID) -> None:
        self.write(TopicRemoved(topic_id=topic_id))

    def fence(self, node_id: int, *, fenced: bool = True) -> None:
        epoch = self.image.brokers[NodeId(node_id)].broker_epoch
        self.write(BrokerRegistrationChange(broker_id=NodeId(node_id), broker_epoch=epoch, fenced=fenced))

    def submitter(self, node_id: int) -> "IsrGrants":
        return IsrGrants(self, node_id)

    # --- brokers ---

    def config(self, node_id: int) -> NodeConfig:
        texts = {key.replace("_", "."): value for key, value in self.settings.items()}
        return parse(
            NodeConfig,
            {"node.id": str(node_id), "process.roles": "broker", "log.dirs": "/data", **texts},
            where="test",
        )

    async def start(self, node_id: int) -> Node:
        """Start a broker, register it (unfenced) and let it serve."""
        runtime = self.world.runtime(f"b{node_id}")
        config = self.config(node_id)
        directories = open_directories(
            files=runtime.files,
            paths=config.log_dirs,
            cluster_id=CLUSTER_ID,
            node_id=node_id,
            new_directory_id=runtime.random.uuid,
        )
        epoch = BrokerEpoch(self.image.offset + 1)
        manager = ReplicaManager(
            runtime=runtime,
            config=config,
            directories=directories,
            alter_partition=self.submitter(node_id),
            broker_epoch=lambda: epoch,
            reports=DirectoriesHeard(self, node_id),
            on_fatal=self.fatal.append,
        )
        await manager.start()
        listener = KafkaListener(
            transport=runtime.transport, apis=manager.kafka_apis(), max_request_bytes=1 << 24
        )
        await listener.start(f"b{node_id}:{KAFKA_PORT}")
        task = asyncio.get_running_loop().create_task(manager.run(), name=f"broker {node_id}")
        node = Node(runtime, manager, listener, task, epoch)
        self.nodes[node_id] = node
        self.write(
            RegisterBroker(
                broker_id=NodeId(node_id),
                incarnation_id=runtime.random.uuid(),
                broker_epoch=epoch,
                endpoints=(Endpoint(name="KAFKA", host=f"b{node_id}", port=KAFKA_PORT),),
                fenced=False,
                rack=f"r{node_id}",
                log_dir_ids=tuple(each.directory_id for each in directories.usable)
                if self.hears_directories
                else (),
            )
        )
        return node

    async def kill(self, node_id: int, *, power_loss: Keep | None = None) -> None:
        """The process is gone; the metadata does not know it yet."""
        node = self.nodes.pop(node_id)
        self.world.kill(f"b{node_id}", power_loss=power_loss)
        node.task.cancel()
        await asyncio.wait([node.task])

    async def stop(self, node_id: int) -> None:
        """An orderly end."""
        node = self.nodes.pop(node_id)
        await node.listener.close()
        node.task.cancel()
        await asyncio.wait([node.task])
        await node.manager.close(clean=True)

    async def stop_all(self) -> None:
        for node_id in list(self.nodes):
            await self.stop(node_id)

    # --- a client ---

    def produce(
        self,
        node_id: int,
        records: bytearray,
        *,
        acks: int = ACKS_ALL,
        timeout_ms: int = 5_000,
        partition: TopicPartition = PARTITION,
    ) -> Awaitable[tuple[ProducePartitionResult, ...]]:
        return self.nodes[node_id].manager.produce(
            ProduceRequest(
                acks=acks,
                timeout_ms=timeout_ms,
                partitions=(ProducePartition(partition=partition, records=records),),
            )
        )

    async def produced(
        self,
        node_id: int,
        records: bytearray,
        *,
        acks: int = ACKS_ALL,
        timeout_ms: int = 5_000,
        partition: TopicPartition = PARTITION,
    ) -> ProducePartitionResult:
        (result,) = await self.produce(
            node_id, records, acks=acks, timeout_ms=timeout_ms, partition=partition
        )
        return result

    async def fetched(
        self,
        node_id: int,
        offset: int,
        *,
        partition: TopicPartition = PARTITION,
        max_wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = 1 << 20,
        leader_epoch: int = -1,
        last_fetched_epoch: int = -1,
        rack: str = "",
    ) -> FetchPartitionResult:
        (result,) = await self.nodes[node_id].manager.fetch(
            FetchRequest(
                reader=Consumer(rack=rack),
                max_wait_ms=max_wait_ms,
                min_bytes=min_bytes,
                max_bytes=1 << 24,
                partitions=(
                    FetchPartition(
                        partition=partition,
                        fetch_offset=Offset(offset),
                        max_bytes=max_bytes,
                        current_leader_epoch=LeaderEpoch(leader_epoch),
                        last_fetched_epoch=LeaderEpoch(last_fetched_epoch),
                    ),
                ),
            )
        )
        return result

    # --- looking in ---

    def partition(self, node_id: int, name: TopicPartition = PARTITION) -> Partition:
        found = self.nodes[node_id].manager.find(name)
        assert found is not None
        return found

    def leader_state(self, node_id: int, name: TopicPartition = PARTITION) -> LeaderState:
        role = self.partition(node_id, name).role
        assert isinstance(role, LeaderState)
        return role

    def log_bytes(self, node_id: int, name: TopicPartition = PARTITION) -> bytes:
        """Everything in a replica's log."""
        log = self.partition(node_id, name).log
        data = bytearray()
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            chunk = bytes(log.read(offset, max_bytes=1))
            data += chunk
            offset = decode_records(chunk)[-1].offset + 1
        return bytes(data)

    def values(self, node_id: int, name: TopicPartition = PARTITION) -> list[str]:
        """Every record's value in a replica's log."""
        log = self.partition(node_id, name).log
        found: list[str] = []
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            for record in decode_records(log.read(offset, max_bytes=1)):
                found.append((record.value or b"").decode())
                offset = record.offset + 1
        return found


class DirectoriesHeard:
    """Writes what a broker reports of its data directories to the metadata, if the test wants that."""

    def __init__(self, cluster: ReplicaCluster, node_id: int) -> None:
        self._cluster = cluster
        self._node_id = NodeId(node_id)

    def assigned(self, topic_id: TopicId, partition: int, directory_id: bytes) -> None:
        if self._cluster.hears_directories:
            asyncio.get_running_loop().call_soon(self._write, topic_id, partition, directory_id)

    def _write(self, topic_id: TopicId, partition: int, directory_id: bytes) -> None:
        known = self._cluster.image.partition_by_id(topic_id, partition)
        if known is not None and self._node_id in known.replicas:
            directories = known.directories_with(self._node_id, directory_id)
            change = PartitionChange(topic_id=topic_id, partition=partition, directories=directories)
            self._cluster.write(change)

    def failed(self) -> None:
        """No controller cares."""


class IsrGrants:
    """Grants ISR changes after a short while, as the controller does, and writes them to the metadata."""

    def __init__(self, cluster: ReplicaCluster, node_id: int) -> None:
        self._cluster = cluster
        self._node_id = node_id

    async def submit(
        self,
        topic_id: TopicId,
        partition: int,
        leader_epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        new_isr: tuple[NodeId, ...],
        new_isr_broker_epochs: tuple[BrokerEpoch, ...],
    ) -> AlterPartitionOutcome:
        cluster = self._cluster
        await asyncio.sleep(0.002)
        if cluster.isr_violation is not None:
            raise cluster.isr_violation
        known = cluster.image.partition_by_id(topic_id, partition)
        assert known is not None
        error = cluster.isr_error
        if known.leader_epoch != leader_epoch:
            error = ErrorCode.FENCED_LEADER_EPOCH
        elif known.partition_epoch != partition_epoch:
            error = ErrorCode.INVALID_UPDATE_VERSION
        elif any(
            not cluster.image.brokers[node].active or cluster.image.brokers[node].broker_epoch != epoch
            for node, epoch in zip(new_isr, new_isr_broker_epochs, strict=True)
        ):
            error = ErrorCode.INELIGIBLE_REPLICA
        if error is ErrorCode.NONE:
            cluster.isr_changes.append((self._node_id, new_isr))
            cluster.write(PartitionChange(topic_id=topic_id, partition=partition, isr=new_isr))
            known = cluster.image.partition_by_id(topic_id, partition)
            assert known is not None
        return AlterPartitionOutcome(
            error=error,
            leader=known.leader,
            leader_epoch=known.leader_epoch,
            isr=known.isr,
            partition_epoch=known.partition_epoch,
        )


async def until(condition: Callable[[], bool], *, within_ms: int = 10_000) -> None:
    """Virtual time passes until ``condition`` holds."""
    for _ in range(within_ms):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"not so within {within_ms} virtual ms")
