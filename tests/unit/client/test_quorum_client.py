"""How clients ask for changes of the quorum until they are made, and what they make of its description."""

import asyncio

import pytest
from glasslog.client.quorum import directory_bytes, status_of, until_done
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import format_uuid
from glasslog.v1 import quorum_pb2 as pb

DISK = bytes(range(16))


def ask(*codes: ErrorCode, patience: int = 100) -> int:
    """The outcome of a change that is answered so; asked ``patience`` times at most."""
    answers = iter(codes)
    asked = 0

    async def answer() -> pb.ChangeVotersResponse:
        nonlocal asked
        asked += 1
        code = next(answers)
        return pb.ChangeVotersResponse(error_code=code, error_message=f"because {code.name}", leader_id=3)

    done = until_done(answer, done=ErrorCode.DUPLICATE_VOTER, deadline_passed=lambda: asked >= patience)
    leader_id = asyncio.run(done)
    assert leader_id == 3
    return asked


def test_a_change_that_takes_longer_than_a_call_is_asked_for_again() -> None:
    late = ErrorCode.REQUEST_TIMED_OUT
    assert ask(late, late, ErrorCode.NONE) == 3


def test_a_change_whose_answer_was_lost_was_made_all_the_same() -> None:
    assert ask(ErrorCode.REQUEST_TIMED_OUT, ErrorCode.DUPLICATE_VOTER) == 2


@pytest.mark.parametrize("code", [ErrorCode.DUPLICATE_VOTER, ErrorCode.VOTER_NOT_FOUND])
def test_a_change_that_is_refused_at_once_was_not_made(code: ErrorCode) -> None:
    with pytest.raises(GlasslogError, match=f"because {code.name}"):
        ask(code)


def test_time_runs_out() -> None:
    with pytest.raises(GlasslogError, match="because REQUEST_TIMED_OUT"):
        ask(*[ErrorCode.REQUEST_TIMED_OUT] * 10, patience=4)


def test_lag_is_counted_from_the_leaders_end() -> None:
    replica = pb.DescribeQuorumResponse.Replica
    status = status_of(
        pb.DescribeQuorumResponse(
            leader_id=1,
            leader_epoch=4,
            high_watermark=8,
            voters=[
                replica(id=1, log_end_offset=10, directory_id=DISK, address="a:9093"),
                replica(id=2, log_end_offset=8, directory_id=bytes(16)),
                replica(id=3, log_end_offset=-1, last_fetch_ms_ago=-1),
            ],
            observers=[replica(id=9, log_end_offset=3)],
        )
    )
    assert [(each.node_id, each.lag, each.directory_id) for each in status.voters] == [
        (1, 0, format_uuid(DISK)),
        (2, 2, ""),
        (3, 10, ""),
    ]
    assert status.max_lag == 10
    assert [each.lag for each in status.observers] == [7]


def test_a_directory_id_is_read_as_it_is_printed() -> None:
    assert directory_bytes(format_uuid(DISK)) == DISK
    assert directory_bytes("") == b""
    with pytest.raises(GlasslogError, match="'nonsense' is no directory id"):
        directory_bytes("nonsense")
