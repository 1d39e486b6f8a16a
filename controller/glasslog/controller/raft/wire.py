"""The quorum's requests and responses to and from the protobuf messages of glasslog.v1.Quorum.

The only place where the two meet; it refuses to know what they mean. Bytes that are no such message raise
``GlasslogError`` with INVALID_REQUEST.
"""

from dataclasses import dataclass
from typing import TypeVar, assert_never

from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId
from glasslog.controller.raft.batches import parse_fetched
from glasslog.controller.raft.messages import (
    BeginQuorumEpochRequest,
    DivergingEpoch,
    EndQuorumEpochRequest,
    EpochResponse,
    FetchedBatches,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    LogRange,
    NoSnapshotPart,
    Request,
    Response,
    SnapshotInstead,
    SnapshotPart,
    SnapshotRange,
    VoteRequest,
    VoteResponse,
)
from glasslog.controller.raft.types import QuorumDescription, ReplicaDescription
from glasslog.metadata.control_records import UNKNOWN_DIRECTORY
from glasslog.metadata.snapshot import SnapshotId
from glasslog.v1 import quorum_pb2 as pb
from google.protobuf.message import DecodeError, Message

SERVICE = "glasslog.v1.Quorum"
VOTE = f"/{SERVICE}/Vote"
BEGIN_QUORUM_EPOCH = f"/{SERVICE}/BeginQuorumEpoch"
END_QUORUM_EPOCH = f"/{SERVICE}/EndQuorumEpoch"
FETCH = f"/{SERVICE}/Fetch"
FETCH_SNAPSHOT = f"/{SERVICE}/FetchSnapshot"
ADD_VOTER = f"/{SERVICE}/AddVoter"
REMOVE_VOTER = f"/{SERVICE}/RemoveVoter"
TRANSFER_LEADERSHIP = f"/{SERVICE}/TransferLeadership"
DESCRIBE = f"/{SERVICE}/Describe"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoterChange:
    """A voter to add, to remove, or to hand leadership to; an empty ``cluster_id`` is not compared."""

    cluster_id: str
    node_id: NodeId
    directory_id: bytes
    timeout_ms: int


Parsed = TypeVar("Parsed", bound=Message)


def parse(kind: type[Parsed], data: bytes) -> Parsed:
    """The message in ``data``."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST, f"not a {kind.DESCRIPTOR.full_name}: {error}"
        ) from error


def _error(code: int) -> ErrorCode:
    try:
        return ErrorCode(code)
    except ValueError:
        return ErrorCode.UNKNOWN_SERVER_ERROR


# --- requests ---------------------------------------------------------------------------------------------


def encode_request(request: Request) -> tuple[str, bytes]:
    """The method to call, and its bytes."""
    match request:
        case FetchRequest():
            return FETCH, _fetch_request(request).SerializeToString()
        case VoteRequest():
            return VOTE, _vote_request(request).SerializeToString()
        case BeginQuorumEpochRequest():
            begin = pb.BeginQuorumEpochRequest(
                cluster_id=request.cluster_id,
                leader_id=request.leader_id,
                leader_epoch=request.leader_epoch,
                voter_id=request.voter_id,
                voter_directory_id=request.voter_directory_id,
                leader_address=request.leader_address,
            )
            return BEGIN_QUORUM_EPOCH, begin.SerializeToString()
        case EndQuorumEpochRequest():
            end = pb.EndQuorumEpochRequest(
                cluster_id=request.cluster_id,
                leader_id=request.leader_id,
                leader_epoch=request.leader_epoch,
                preferred_successors=request.preferred_successors,
            )
            return END_QUORUM_EPOCH, end.SerializeToString()
        case FetchSnapshotRequest():
            return FETCH_SNAPSHOT, _fetch_snapshot_request(request).SerializeToString()
        case _:
            assert_never(request)


def _vote_request(request: VoteRequest) -> pb.VoteRequest:
    return pb.VoteRequest(
        cluster_id=request.cluster_id,
        candidate_epoch=request.candidate_epoch,
        candidate_id=request.candidate_id,
        voter_id=request.voter_id,
        last_epoch=request.last_epoch,
        last_offset=request.log_end_offset,
        pre_vote=request.pre_vote,
        voter_directory_id=request.voter_directory_id,
    )


def _fetch_request(request: FetchRequest) -> pb.QuorumFetchRequest:
    return pb.QuorumFetchRequest(
        cluster_id=request.cluster_id,
        replica_id=request.replica_id,
        current_leader_epoch=request.current_leader_epoch,
        fetch_offset=request.fetch_offset,
        last_fetched_epoch=request.last_fetched_epoch,
        max_wait_ms=request.max_wait_ms,
        max_bytes=request.max_bytes,
        observer=request.observer,
        known_high_watermark=request.known_high_watermark,
        directory_id=request.directory_id,
        address=request.address,
    )


def _fetch_snapshot_request(request: FetchSnapshotRequest) -> pb.FetchSnapshotRequest:
    return pb.FetchSnapshotRequest(
        cluster_id=request.cluster_id,
        replica_id=request.replica_id,
        current_leader_epoch=request.current_leader_epoch,
        snapshot_id=_snapshot_id(request.snapshot_id),
        position=request.position,
        max_bytes=request.max_bytes,
        observer=request.observer,
        directory_id=request.directory_id,
    )


def _snapshot_id(snapshot_id: SnapshotId) -> pb.SnapshotId:
    return pb.SnapshotId(end_offset=snapshot_id.end_offset, epoch=snapshot_id.epoch)


def _decode_snapshot_id(message: pb.SnapshotId) -> SnapshotId:
    return SnapshotId(end_offset=message.end_offset, epoch=message.epoch)


def decode_request(method: str, data: bytes) -> Request:
    """The request of one of the methods between voters."""
    if method == FETCH:
        return _decode_fetch(parse(pb.QuorumFetchRequest, data))
    if method == FETCH_SNAPSHOT:
        return _decode_fetch_snapshot(parse(pb.FetchSnapshotRequest, data))
    if method == VOTE:
        return _decode_vote(parse(pb.VoteRequest, data))
    if method == BEGIN_QUORUM_EPOCH:
        begin = parse(pb.BeginQuorumEpochRequest, data)
        return BeginQuorumEpochRequest(
            cluster_id=begin.cluster_id,
            leader_id=NodeId(begin.leader_id),
            leader_epoch=begin.leader_epoch,
            voter_id=NodeId(begin.voter_id),
            voter_directory_id=directory_from_wire(begin.voter_directory_id),
            leader_address=begin.leader_address,
        )
    if method == END_QUORUM_EPOCH:
        end = parse(pb.EndQuorumEpochRequest, data)
        return EndQuorumEpochRequest(
            cluster_id=end.cluster_id,
            leader_id=NodeId(end.leader_id),
            leader_epoch=end.leader_epoch,
            preferred_successors=tuple(map(NodeId, end.preferred_successors)),
        )
    raise GlasslogError(ErrorCode.UNSUPPORTED_VERSION, f"no such method: {method}")


def _decode_vote(vote: pb.VoteRequest) -> VoteRequest:
    return VoteRequest(
        cluster_id=vote.cluster_id,
        candidate_epoch=vote.candidate_epoch,
        candidate_id=NodeId(vote.candidate_id),
        voter_id=NodeId(vote.voter_id),
        last_epoch=vote.last_epoch,
        log_end_offset=vote.last_offset,
        pre_vote=vote.pre_vote,
        voter_directory_id=directory_from_wire(vote.voter_directory_id),
    )


def _decode_fetch(fetch: pb.QuorumFetchRequest) -> FetchRequest:
    return FetchRequest(
        cluster_id=fetch.cluster_id,
        replica_id=NodeId(fetch.replica_id),
        current_leader_epoch=fetch.current_leader_epoch,
        fetch_offset=fetch.fetch_offset,
        last_fetched_epoch=fetch.last_fetched_epoch,
        max_wait_ms=fetch.max_wait_ms,
        max_bytes=fetch.max_bytes,
        observer=fetch.observer,
        known_high_watermark=fetch.known_high_watermark,
        directory_id=directory_from_wire(fetch.directory_id),
        address=fetch.address,
    )


def _decode_fetch_snapshot(fetch: pb.FetchSnapshotRequest) -> FetchSnapshotRequest:
    return FetchSnapshotRequest(
        cluster_id=fetch.cluster_id,
        replica_id=NodeId(fetch.replica_id),
        current_leader_epoch=fetch.current_leader_epoch,
        snapshot_id=_decode_snapshot_id(fetch.snapshot_id),
        position=fetch.position,
        max_bytes=fetch.max_bytes,
        observer=fetch.observer,
        directory_id=directory_from_wire(fetch.directory_id),
    )


def directory_from_wire(data: bytes) -> bytes:
    """Sixteen bytes; nothing stands for a directory that is not known. Raises INVALID_REQUEST."""
    if not data:
        return UNKNOWN_DIRECTORY
    if len(data) != len(UNKNOWN_DIRECTORY):
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"a directory id of {len(data)} bytes, not 16")
    return data


# --- responses --------------------------------------------------------------------------------------------


def encode_response(request: Request, response: Response) -> bytes:
    """The bytes of the answer to ``request``; a fetch's records must have been read from the log."""
    match response:
        case FetchResponse():
            return _fetch_response(response).SerializeToString()
        case FetchSnapshotResponse():
            return _fetch_snapshot_response(response).SerializeToString()
        case VoteResponse():
            return pb.VoteResponse(
                error_code=response.error,
                epoch=response.epoch,
                leader_id=response.leader_id,
                granted=response.granted,
                leader_address=response.leader_address,
            ).SerializeToString()
        case EpochResponse():
            is_begin = isinstance(request, BeginQuorumEpochRequest)
            kind = pb.BeginQuorumEpochResponse if is_begin else pb.EndQuorumEpochResponse
            return kind(
                error_code=response.error,
                epoch=response.epoch,
                leader_id=response.leader_id,
                leader_address=response.leader_address,
            ).SerializeToString()
        case _:
            assert_never(response)


def _fetch_response(response: FetchResponse) -> pb.QuorumFetchResponse:
    message = pb.QuorumFetchResponse(
        error_code=response.error,
        epoch=response.epoch,
        leader_id=response.leader_id,
        high_watermark=response.high_watermark,
        log_start_offset=response.log_start_offset,
        leader_address=response.leader_address,
    )
    match response.body:
        case DivergingEpoch(epoch=epoch, end_offset=end_offset):
            message.diverging_epoch.epoch = epoch
            message.diverging_epoch.end_offset = end_offset
        case FetchedBatches(data=data):
            message.records = data
        case SnapshotInstead(snapshot_id=snapshot_id):
            message.snapshot_id.CopyFrom(_snapshot_id(snapshot_id))
        case LogRange():
            raise ValueError("records must be read from the log before they are encoded")
        case _:
            assert_never(response.body)
    return message


def _fetch_snapshot_response(response: FetchSnapshotResponse) -> pb.FetchSnapshotResponse:
    message = pb.FetchSnapshotResponse(
        error_code=response.error,
        epoch=response.epoch,
        leader_id=response.leader_id,
        leader_address=response.leader_address,
    )
    match response.body:
        case SnapshotPart() as part:
            message.snapshot_id.CopyFrom(_snapshot_id(part.snapshot_id))
            message.position, message.size_bytes, message.data = part.position, part.size_bytes, part.data
        case NoSnapshotPart():
            pass
        case SnapshotRange():
            raise ValueError("a part must be read from the snapshot before it is encoded")
        case _:
            assert_never(response.body)
    return message


def decode_response(request: Request, data: bytes) -> Response:
    """The answer to ``request``; may raise ``CorruptBatch`` for the records of a fetch."""
    match request:
        case FetchRequest():
            return _decode_fetch_response(parse(pb.QuorumFetchResponse, data))
        case FetchSnapshotRequest():
            return _decode_fetch_snapshot_response(parse(pb.FetchSnapshotResponse, data))
        case VoteRequest():
            vote = parse(pb.VoteResponse, data)
            return VoteResponse(
                error=_error(vote.error_code),
                epoch=vote.epoch,
                leader_id=NodeId(vote.leader_id),
                granted=vote.granted,
                leader_address=vote.leader_address,
            )
        case BeginQuorumEpochRequest():
            return _decode_epoch_response(parse(pb.BeginQuorumEpochResponse, data))
        case EndQuorumEpochRequest():
            return _decode_epoch_response(parse(pb.EndQuorumEpochResponse, data))
        case _:
            assert_never(request)


def _decode_epoch_response(
    message: pb.BeginQuorumEpochResponse | pb.EndQuorumEpochResponse,
) -> EpochResponse:
    return EpochResponse(
        error=_error(message.error_code),
        epoch=message.epoch,
        leader_id=NodeId(message.leader_id),
        leader_address=message.leader_address,
    )


def _decode_fetch_response(message: pb.QuorumFetchResponse) -> FetchResponse:
    body: DivergingEpoch | FetchedBatches | SnapshotInstead
    if message.HasField("diverging_epoch"):
        diverging = message.diverging_epoch
        body = DivergingEpoch(epoch=diverging.epoch, end_offset=diverging.end_offset)
    elif message.HasField("snapshot_id"):
        body = SnapshotInstead(snapshot_id=_decode_snapshot_id(message.snapshot_id))
    else:
        body = parse_fetched(message.records)
    return FetchResponse(
        error=_error(message.error_code),
        epoch=message.epoch,
        leader_id=NodeId(message.leader_id),
        high_watermark=message.high_watermark,
        log_start_offset=message.log_start_offset,
        body=body,
        leader_address=message.leader_address,
    )


def _decode_fetch_snapshot_response(message: pb.FetchSnapshotResponse) -> FetchSnapshotResponse:
    body: SnapshotPart | NoSnapshotPart = NoSnapshotPart()
    if not message.error_code:
        body = SnapshotPart(
            snapshot_id=_decode_snapshot_id(message.snapshot_id),
            position=message.position,
            size_bytes=message.size_bytes,
            data=message.data,
        )
    return FetchSnapshotResponse(
        error=_error(message.error_code),
        epoch=message.epoch,
        leader_id=NodeId(message.leader_id),
        body=body,
        leader_address=message.leader_address,
    )


# --- describe ---------------------------------------------------------------------------------------------


# --- changes of the voters --------------------------------------------------------------------------------


def decode_change(method: str, data: bytes) -> VoterChange:
    """A person's request; raises ``GlasslogError`` INVALID_REQUEST."""
    if method == TRANSFER_LEADERSHIP:
        transfer = parse(pb.TransferLeadershipRequest, data)
        return VoterChange(
            cluster_id=transfer.cluster_id,
            node_id=NodeId(transfer.voter_id),
            directory_id=UNKNOWN_DIRECTORY,
            timeout_ms=transfer.timeout_ms,
        )
    is_addition = method == ADD_VOTER
    change = parse(pb.AddVoterRequest, data) if is_addition else parse(pb.RemoveVoterRequest, data)
    return VoterChange(
        cluster_id=change.cluster_id,
        node_id=NodeId(change.voter_id),
        directory_id=directory_from_wire(change.directory_id),
        timeout_ms=change.timeout_ms,
    )


def encode_changed(*, error: ErrorCode, reason: str, leader_id: NodeId) -> bytes:
    """What became of it, and who leads then."""
    return pb.ChangeVotersResponse(
        error_code=error, error_message=reason, leader_id=leader_id
    ).SerializeToString()


def encode_description(description: QuorumDescription) -> bytes:
    """The bytes of a DescribeQuorumResponse; only the leader's say how far the others are."""
    return pb.DescribeQuorumResponse(
        error_code=ErrorCode.NONE if description.voters else ErrorCode.NOT_LEADER_OR_FOLLOWER,
        leader_id=description.leader_id,
        leader_epoch=description.epoch,
        high_watermark=description.high_watermark,
        voters=[_replica(replica) for replica in description.voters],
        observers=[_replica(replica) for replica in description.observers],
    ).SerializeToString()


def _replica(replica: ReplicaDescription) -> pb.DescribeQuorumResponse.Replica:
    return pb.DescribeQuorumResponse.Replica(
        id=replica.node_id,
        log_end_offset=replica.log_end_offset,
        last_fetch_ms_ago=replica.last_fetch_ms_ago,
        last_caught_up_ms_ago=replica.last_caught_up_ms_ago,
        directory_id=replica.directory_id,
        address=replica.address,
    )
