"""Bugs of controllers: when they lead, when they vote, and what they promise before it is on disk."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from glasslog.common.errors import GlasslogError
from glasslog.controller.raft import election, gate, leading, voters
from glasslog.controller.raft.duties import Duties
from glasslog.controller.raft.quorum_file import QuorumFile
from glasslog.controller.raft.roles import Leader, Poll, Prospective
from glasslog.controller.raft.types import HardState
from glasslog.controller.raft.voter_state import VoterState
from glasslog.simulator.switches.switch import Switch, instead_of, patched

_LATER_S = 0.5
_FAR_MS = 1 << 40


def _later(work: Callable[[], object]) -> None:
    """What should have been on disk before is there a moment later, if the process still lives."""

    def do() -> None:
        with suppress(GlasslogError, OSError):
            work()

    asyncio.get_running_loop().call_later(_LATER_S, do)


def _no_check_quorum() -> AbstractContextManager[None]:
    @instead_of(leading._quorum_deadline_ms)
    def quorum_deadline_ms(state: VoterState, role: Leader) -> int:
        return _FAR_MS

    return patched(leading, "_quorum_deadline_ms", quorum_deadline_ms)


NO_CHECK_QUORUM = Switch(
    name="no-check-quorum",
    description="A leading controller that hears no majority does not give up.",
    origin="KAFKA-15489",
    bug=_no_check_quorum,
    scenario="isolated-controller",
    seeds=2,
)


def _no_pre_vote() -> AbstractContextManager[None]:
    @instead_of(election.seek_election)
    def seek_election(state: VoterState) -> None:
        poll = Poll(granted={state.node_id})
        state.quorum.become(Prospective(poll=poll, election_deadline_ms=state.draw_election_deadline_ms()))
        election.campaign(state)

    return patched(election, "seek_election", seek_election)


NO_PRE_VOTE = Switch(
    name="no-pre-vote",
    description="A controller that hears no leader enters a new epoch without asking around.",
    origin="KIP-996",
    bug=_no_pre_vote,
    scenario="isolated-controller",
    seeds=3,
)


def _vote_before_sync() -> AbstractContextManager[None]:
    durable = QuorumFile.write

    @instead_of(QuorumFile.write)
    def write(self: QuorumFile, state: HardState) -> None:
        if not self._files.exists(self._path):
            durable(self, state)
            return
        content = json.loads(self._files.read(self._path))
        content |= {"leaderId": state.leader_id, "leaderEpoch": state.epoch, "votedId": state.voted_for}
        data = json.dumps(content).encode()
        file = self._files.open(self._path)
        file.truncate(0)
        file.pwrite(data, 0)
        _later(file.sync)

    return patched(QuorumFile, "write", write)


VOTE_BEFORE_SYNC = Switch(
    name="vote-before-sync",
    description="A controller gives its vote before it is on disk.",
    origin="Redpanda on fsync",
    bug=_vote_before_sync,
    scenario="lost-vote",
    seeds=10,
)


def _log_before_sync() -> AbstractContextManager[None]:
    tasks: set[asyncio.Task[None]] = set()

    async def sync_later(duties: Duties) -> None:
        await asyncio.sleep(_LATER_S)
        with suppress(GlasslogError, OSError):
            await duties._log.sync(duties._runtime.blocking)

    @instead_of(Duties._sync)
    async def sync(self: Duties) -> None:
        self._core.on_synced(self._log.end_offset)
        task = asyncio.get_running_loop().create_task(sync_later(self))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return patched(Duties, "_sync", sync)


LOG_BEFORE_SYNC = Switch(
    name="log-before-sync",
    description="A controller acknowledges entries of the metadata log before they are on disk.",
    origin="Redpanda on fsync",
    bug=_log_before_sync,
    scenario="lost-entries",
    seeds=5,
)


@contextmanager
def _any_disk() -> Iterator[None]:
    @instead_of(voters.same_directory)
    def same_directory(one: bytes, other: bytes) -> bool:
        return True

    with (
        patched(voters, "same_directory", same_directory),
        patched(gate, "same_directory", same_directory),
    ):
        yield


ANY_DISK = Switch(
    name="any-disk",
    description="A controller votes as before after its disk was replaced by an empty one.",
    origin="KIP-853",
    bug=_any_disk,
    scenario="lost-disk",
    seeds=3,
)
