"""Reads from a replica on another broker what is committed there, whether it leads or not.

This module knows one Fetch on a connection of its own; it refuses to know what the bytes are for.  Such reads
are rare, so that nothing is kept between two.  Source: Kafka's debugging consumer, replica id -2.
"""

import asyncio
from typing import NamedTuple

from glasslog.broker.kafka.codec import MalformedFrame, Reader
from glasslog.broker.kafka.fetch import (
    API_KEY,
    VERSION,
    FetchCall,
    PartitionAnswer,
    decode_response,
    encode_request,
    error_code,
)
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.broker.partition.fetch_session import FINAL_EPOCH, NO_SESSION
from glasslog.broker.partition.partition import Partition
from glasslog.broker.partition.reads import PartitionAsk
from glasslog.broker.replicas import Replicas
from glasslog.broker.requests import ANY_REPLICA
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_LEADER_EPOCH, NodeId
from glasslog.common.runtime.protocols import TransportError

TIMEOUT_MS = 5_000
"""From connecting to the answer."""

_FRAME_SLACK_BYTES = 1 << 20


class ReplicaRead(NamedTuple):
    """Whole batches, from the one that holds the asked offset on, and how far that replica is committed."""

    records: bytes
    high_watermark: int


class _Answer:
    """See ``FrameHandler``: the first frame is all that comes."""

    def __init__(self) -> None:
        self.partition: asyncio.Future[PartitionAnswer] = asyncio.get_running_loop().create_future()

    def on_frame(self, frame: memoryview) -> None:
        if self.partition.done():
            return
        try:
            reader = Reader(frame)
            reader.int32()
            reader.skip_tagged_fields()
            answer = decode_response(reader)
            if answer.error is not ErrorCode.NONE or len(answer.partitions) != 1:
                raise GlasslogError(answer.error, "the replica refuses the read")
            (partition,) = answer.partitions
            # Its records lie in the frame, which is gone after this.
            self.partition.set_result(partition._replace(records=bytes(partition.records)))
        except (MalformedFrame, GlasslogError) as error:
            self.partition.set_exception(error)

    def on_closed(self, error: Exception | None) -> None:
        if not self.partition.done():
            text = f"the connection was closed: {error}"
            self.partition.set_exception(GlasslogError(ErrorCode.NETWORK_EXCEPTION, text))


class ReplicaReader:
    """See the module."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def read(self, node: NodeId, partition: Partition, offset: int) -> ReplicaRead:
        """Raises ``GlasslogError``: what that replica answers, or NETWORK_EXCEPTION."""
        broker = self._replicas.image.brokers.get(node)
        endpoint = None if broker is None else broker.endpoint("KAFKA")
        if endpoint is None:
            raise GlasslogError(ErrorCode.BROKER_NOT_AVAILABLE, f"broker {node} has no known address")
        try:
            async with asyncio.timeout(TIMEOUT_MS / 1000):
                answer = await self._ask(endpoint.address, partition, offset)
        except (TransportError, OSError, MalformedFrame) as error:
            raise GlasslogError(ErrorCode.NETWORK_EXCEPTION, str(error)) from error
        code = error_code(answer.error)
        if code is not ErrorCode.NONE:
            raise GlasslogError(code, f"its replica answers {code.name}")
        return ReplicaRead(bytes(answer.records), answer.high_watermark)

    async def _ask(self, address: str, partition: Partition, offset: int) -> PartitionAnswer:
        config = self._replicas.config
        answer = _Answer()
        connection = await self._replicas.runtime.transport.dial_frames(
            address,
            answer,
            timeout_ms=TIMEOUT_MS,
            max_frame_bytes=max(config.replica_fetch_max_bytes, config.socket_request_max_bytes)
            + _FRAME_SLACK_BYTES,
        )
        try:
            header = encode_request_header(
                API_KEY, VERSION, correlation_id=0, client_id=f"broker-{config.node_id}-repair"
            )
            connection.send((header, encode_request(self._call(partition, offset))))
            return await answer.partition
        finally:
            connection.close()

    def _call(self, partition: Partition, offset: int) -> FetchCall:
        limit_bytes = self._replicas.config.replica_fetch_max_bytes
        ask = PartitionAsk(
            fetch_offset=offset,
            max_bytes=limit_bytes,
            current_leader_epoch=NO_LEADER_EPOCH,
            last_fetched_epoch=NO_LEADER_EPOCH,
            log_start_offset=-1,
        )
        return FetchCall(
            replica_id=ANY_REPLICA,
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=limit_bytes,
            session_id=NO_SESSION,
            session_epoch=FINAL_EPOCH,
            asks={partition.key: ask},
        )
