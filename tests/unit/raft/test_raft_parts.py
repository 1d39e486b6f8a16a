"""The pieces around the core: the outline, batches, the quorum-state file, protobuf, the transition table."""

from dataclasses import replace

import pytest
from glasslog.common.errors import ErrorCode, InvariantViolation, StorageError
from glasslog.common.ids import NodeId, Offset
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.controller.raft import wire
from glasslog.controller.raft.batches import (
    committed_batches,
    encode_data,
    encode_leader_change_batch,
    parse_fetched,
)
from glasslog.controller.raft.epochs import LogOutline
from glasslog.controller.raft.messages import (
    BatchSpan,
    BeginQuorumEpochRequest,
    DataAppend,
    DivergingEpoch,
    EndQuorumEpochRequest,
    EpochResponse,
    FetchRequest,
    FetchResponse,
    LeaderChangeAppend,
    LogRange,
    Request,
    Response,
    VoteRequest,
    VoteResponse,
)
from glasslog.controller.raft.quorum_file import QuorumFile
from glasslog.controller.raft.quorum_state import QuorumState
from glasslog.controller.raft.raft_log import DiskRaftLog, log_config
from glasslog.controller.raft.roles import Poll, Prospective, Resigned, Unattached, Voted
from glasslog.controller.raft.types import CommittedBatch, HardState
from glasslog.log.batch import CorruptBatch, read_header
from hypothesis import given
from hypothesis import strategies as st

ONE, TWO = NodeId(1), NodeId(2)


# --- the outline ------------------------------------------------------------------------------------------

epoch_sequences = st.lists(st.integers(min_value=1, max_value=4), max_size=12).map(sorted)


def outline(epochs: list[int]) -> LogOutline:
    log = LogOutline()
    for offset, epoch in enumerate(epochs):
        log.append(epoch=epoch, end_offset=offset + 1)
    return log


def common_prefix(first: list[int], second: list[int]) -> int:
    """Raft's log matching: same epoch at the same offset means the same entry and the same before it."""
    same = [i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a == b]
    length = 0
    while length in same:
        length += 1
    return length


@given(leader=epoch_sequences, follower=epoch_sequences)
def test_divergence_ends_at_a_prefix_and_keeps_what_is_common(leader: list[int], follower: list[int]) -> None:
    """Fetch, truncate as told, fetch again: it ends, without cutting what the logs share."""
    theirs, ours = outline(leader), outline(follower)
    common = common_prefix(leader, follower)
    for _ in range(len(follower) + 1):
        found = theirs.divergence(fetch_offset=ours.end_offset, last_fetched_epoch=ours.last_epoch)
        if found is None:
            break
        end_offset = ours.truncation_for(found)
        assert end_offset < ours.end_offset
        # Entries of one epoch come from one leader: where the last epochs agree, so does everything before.
        assert end_offset >= min(common, ours.end_offset - 1) or end_offset >= common
        ours.truncate(end_offset)
    else:
        pytest.fail("never a prefix")
    assert ours.end_offset <= theirs.end_offset or ours.end_offset == 0


@given(epochs=epoch_sequences, cut=st.integers(min_value=0, max_value=12))
def test_outline_after_truncation_is_that_of_the_shorter_log(epochs: list[int], cut: int) -> None:
    log = outline(epochs)
    cut = min(cut, len(epochs))
    log.truncate(cut)
    expected = outline(epochs[:cut])
    assert (log.epoch_starts, log.end_offset, log.last_epoch) == (
        expected.epoch_starts,
        expected.end_offset,
        expected.last_epoch,
    )


def test_outline_refuses_what_can_not_be() -> None:
    log = outline([1, 2])
    with pytest.raises(InvariantViolation):
        log.append(epoch=1, end_offset=3)
    with pytest.raises(InvariantViolation):
        log.append(epoch=2, end_offset=2)
    with pytest.raises(InvariantViolation):
        log.truncate(3)
    with pytest.raises(InvariantViolation):
        LogOutline(end_offset=2, epoch_starts=[(1, 0), (2, 2)])


# --- batches ----------------------------------------------------------------------------------------------


def test_leader_change_is_kafkas() -> None:
    """Golden bytes: key (version 0, type 2); value version, leader, voters and granting voters, no tags."""
    append = LeaderChangeAppend(
        base_offset=7, epoch=3, leader_id=ONE, voters=(ONE, TWO), granting_voters=(ONE,)
    )
    batch = encode_leader_change_batch(append, timestamp_ms=0)
    header = read_header(batch)
    assert header.is_control
    assert (header.base_offset, header.partition_leader_epoch) == (7, 3)
    key, value = "00000002", "000000000001030000000100000000020002000000010000"
    assert bytes.fromhex(key) in batch
    assert bytes.fromhex(value) in batch
    assert list(committed_batches(batch)) == [(8, None)]


def test_data_batches_come_back() -> None:
    first = encode_data(DataAppend(base_offset=0, epoch=1, values=(b"a", b"")), timestamp_ms=5)
    second = encode_data(DataAppend(base_offset=2, epoch=2, values=(b"c",)), timestamp_ms=6)
    data = bytes(first + second)
    assert parse_fetched(data).spans == (BatchSpan(0, 2, 1), BatchSpan(2, 3, 2))
    assert [batch for _, batch in committed_batches(data)] == [
        CommittedBatch(base_offset=Offset(0), epoch=1, records=(b"a", b"")),
        CommittedBatch(base_offset=Offset(2), epoch=2, records=(b"c",)),
    ]


def test_a_flipped_bit_is_not_taken_from_a_peer() -> None:
    data = encode_data(DataAppend(base_offset=0, epoch=1, values=(b"abc",)), timestamp_ms=5)
    data[-2] ^= 1
    with pytest.raises(CorruptBatch, match="checksum"):
        parse_fetched(bytes(data))


# --- quorum-state -----------------------------------------------------------------------------------------


def quorum_file(files: MemoryFileSystem) -> QuorumFile:
    return QuorumFile(files, "folder", cluster_id="here", voters=(ONE, TWO))


def test_hard_state_survives_a_loss_of_power() -> None:
    files = MemoryFileSystem()
    files.make_dirs("folder")
    files.sync_dir(".")
    assert quorum_file(files).read() == HardState()
    state = HardState(epoch=5, voted_for=TWO, leader_id=TWO)
    quorum_file(files).write(state)
    files.crash(keep="none")
    assert quorum_file(files).read() == state


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"data_version": 9}', "data_version is 9"),
        (b'{"data_version": 0, "clusterId": "there"}', "of cluster 'there'"),
        (b'{"data_version": 0, "clusterId": "here", "leaderEpoch": "5"}', "leaderEpoch is '5'"),
    ],
)
def test_a_damaged_quorum_state_is_refused(content: bytes, reason: str) -> None:
    files = MemoryFileSystem()
    files.make_dirs("folder")
    files.write_atomic("folder/quorum-state", content)
    with pytest.raises(StorageError, match=reason) as refused:
        quorum_file(files).read()
    assert "folder/quorum-state" in str(refused.value)


# --- the log on disk --------------------------------------------------------------------------------------


def test_damage_below_the_recovery_point_is_not_cut_but_reported() -> None:
    """A node that silently cut synced entries would break promises it has given."""
    files = MemoryFileSystem()
    config = log_config(max_batch_bytes=1000)
    log = DiskRaftLog(files, "folder", config)
    for offset in range(3):
        batch = encode_data(DataAppend(base_offset=offset, epoch=1, values=(b"value",)), timestamp_ms=0)
        log.append_own(batch, base_offset=offset, epoch=1)
    log.close()
    files.flip_bit("folder/00000000000000000000.log", 100)
    reopened = DiskRaftLog(files, "folder", config)
    assert reopened.end_offset == 3
    sound = committed_batches(reopened.read(0, end_offset=3, max_bytes=1000))
    assert [end_offset for end_offset, _ in sound] == [1]
    with pytest.raises(StorageError, match="position"):
        reopened.read(1, end_offset=3, max_bytes=1000)


def test_a_torn_tail_is_cut() -> None:
    files = MemoryFileSystem()
    config = log_config(max_batch_bytes=1000)
    log = DiskRaftLog(files, "folder", config)
    for offset in range(3):
        batch = encode_data(DataAppend(base_offset=offset, epoch=offset, values=(b"value",)), timestamp_ms=0)
        log.append_own(batch, base_offset=offset, epoch=offset)
    log.abandon()
    path = "folder/00000000000000000000.log"
    file = files.open(path)
    file.truncate(file.size() - 3)
    file.close()
    reopened = DiskRaftLog(files, "folder", config)
    assert reopened.end_offset == 2
    assert list(reopened.epoch_starts) == [(0, 0), (1, 1)]
    assert reopened.problem is not None


# --- protobuf ---------------------------------------------------------------------------------------------

VOTE = VoteRequest(
    cluster_id="c",
    candidate_epoch=3,
    candidate_id=ONE,
    voter_id=TWO,
    last_epoch=-1,
    log_end_offset=9,
    pre_vote=True,
)
BEGIN = BeginQuorumEpochRequest(cluster_id="c", leader_id=ONE, leader_epoch=3, voter_id=TWO)
END = EndQuorumEpochRequest(cluster_id="c", leader_id=ONE, leader_epoch=3, preferred_successors=(TWO, ONE))
FETCH = FetchRequest(
    cluster_id="c",
    replica_id=ONE,
    current_leader_epoch=3,
    fetch_offset=4,
    last_fetched_epoch=2,
    max_wait_ms=5,
    max_bytes=6,
    observer=True,
    known_high_watermark=-1,
)
FETCHED = FetchResponse(error=ErrorCode.NONE, epoch=3, leader_id=ONE, high_watermark=2, log_start_offset=0)
RECORDS = parse_fetched(
    bytes(encode_data(DataAppend(base_offset=4, epoch=3, values=(b"v",)), timestamp_ms=1))
)


@pytest.mark.parametrize("request_", [VOTE, BEGIN, END, FETCH], ids=lambda each: type(each).__name__)
def test_requests_survive_the_wire(request_: Request) -> None:
    method, data = wire.encode_request(request_)
    assert wire.decode_request(method, data) == request_


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (VOTE, VoteResponse(error=ErrorCode.NONE, epoch=3, leader_id=NodeId(-1), granted=True)),
        (BEGIN, EpochResponse(error=ErrorCode.FENCED_LEADER_EPOCH, epoch=3, leader_id=ONE)),
        (END, EpochResponse(error=ErrorCode.NONE, epoch=3, leader_id=ONE)),
        (FETCH, FETCHED),
        (FETCH, replace(FETCHED, body=RECORDS)),
        (FETCH, replace(FETCHED, body=DivergingEpoch(epoch=-1, end_offset=0))),
    ],
)
def test_responses_survive_the_wire(request_: Request, response: Response) -> None:
    assert wire.decode_response(request_, wire.encode_response(request_, response)) == response


def test_records_must_be_read_before_they_are_sent() -> None:
    unread = replace(FETCHED, body=LogRange(start_offset=0, end_offset=1, max_bytes=1))
    with pytest.raises(ValueError, match="read from the log"):
        wire.encode_response(FETCH, unread)


# --- the transition table ---------------------------------------------------------------------------------


def test_impossible_transitions_are_violations() -> None:
    resigned = Resigned(election_deadline_ms=0)
    state = QuorumState(ONE, HardState(epoch=1), Unattached(election_deadline_ms=0))
    with pytest.raises(InvariantViolation, match="Resigned may not follow Unattached"):
        state.become(resigned)
    state.vote(Voted(candidate_id=TWO, election_deadline_ms=0))
    with pytest.raises(InvariantViolation):
        state.vote(Voted(candidate_id=NodeId(3), election_deadline_ms=0))
    with pytest.raises(InvariantViolation, match="epoch 1 after 1"):
        state.enter_epoch(1, Unattached(election_deadline_ms=0))


def test_hard_state_is_handed_over_once_per_change() -> None:
    state = QuorumState(ONE, HardState(epoch=1), Unattached(election_deadline_ms=0))
    assert state.take_hard_state() is None
    state.become(Prospective(poll=Poll(granted={ONE}), election_deadline_ms=0))
    assert state.take_hard_state() is None
    state.enter_epoch(4, Unattached(election_deadline_ms=0))
    assert state.take_hard_state() == HardState(epoch=4)
    assert state.take_hard_state() is None
