"""The broker's way to the active controller: finds it, follows it, and asks again where that is safe.

Refuses to know what is asked: requests and answers are protobuf messages of ``glasslog.v1``. Everything a
broker asks of the controller may be asked twice, so an attempt whose answer was lost is repeated. Source:
Kafka's ``NodeToControllerChannelManager``.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeVar

from glasslog.broker.controller_finder import Backoff, ControllerFinder
from glasslog.broker.watched import Watched
from glasslog.common.addresses import Voter
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.common.runtime.protocols import Channel, Runtime, TransportError
from google.protobuf.message import DecodeError, Message

Answer = TypeVar("Answer", bound=Message)

CONTROLLER_SERVICE = "/glasslog.v1.Controller/"
_NOT_THERE = frozenset({ErrorCode.NOT_CONTROLLER, ErrorCode.NOT_LEADER_OR_FOLLOWER})


class ControllerCalls(Protocol):
    """What most users need of ``ControllerChannel``: one call to whoever is the active controller."""

    async def call(
        self, method: str, request: Message, answer: type[Answer], *, timeout_ms: int
    ) -> Answer: ...


class ControllerChannel:
    """Calls to the active controller among ``voters``.

    ``attempt_timeout_ms`` bounds one attempt, so that a frozen controller does not use up a whole call.
    ``leader`` may be watched for changes.
    """

    def __init__(
        self, runtime: Runtime, voters: Sequence[Voter], *, attempt_timeout_ms: int, first: int = 0
    ) -> None:
        self._clock = runtime.clock
        self._random = runtime.random
        self._transport = runtime.transport
        self._attempt_timeout_ms = attempt_timeout_ms
        self._finder = ControllerFinder(voters, first=first)
        self._channels: dict[str, Channel] = {}
        self.leader: Watched[NodeId] = Watched(NO_NODE)

    # --- whom to ask ---

    @property
    def leader_id(self) -> NodeId:
        return self._finder.leader_id

    @property
    def candidate(self) -> Voter:
        """Whom to ask next."""
        return self._finder.candidate

    def channel_to(self, voter: Voter) -> Channel:
        channel = self._channels.get(voter.address)
        if channel is None:
            channel = self._channels[voter.address] = self._transport.dial(voter.address)
        return channel

    def on_leader(self, *, leader_id: NodeId, epoch: int, address: str = "") -> None:
        """Someone said who leads the quorum's ``epoch``."""
        self._finder.on_leader(leader_id=leader_id, epoch=epoch, address=address)
        self._publish()

    def on_voters(self, voters: Sequence[Voter]) -> None:
        """The metadata log names these."""
        self._finder.on_voters(voters)

    def on_success(self, voter: Voter) -> None:
        self._finder.on_success(voter)
        self._publish()

    def on_failure(self, voter: Voter) -> None:
        self._finder.on_failure(voter)
        self._publish()

    def new_backoff(self) -> Backoff:
        return Backoff(voters=len(self._finder.voters))

    async def pause(self, backoff: Backoff, *, at_most_ms: int | None = None) -> None:
        """Wait as ``backoff`` says, but no longer than until a leader becomes known."""
        bound_ms = backoff.next_bound_ms()
        if not bound_ms:
            return
        pause_ms = self._random.uniform(bound_ms / 2, bound_ms)
        if at_most_ms is not None:
            pause_ms = min(pause_ms, at_most_ms)
        before = self.leader_id
        try:
            async with asyncio.timeout(pause_ms / 1000):
                await self.leader.until(lambda leader: leader not in (NO_NODE, before))
        except TimeoutError:
            return

    def _publish(self) -> None:
        if self._finder.leader_id != self.leader.value:
            self.leader.set(self._finder.leader_id)

    # --- asking ---

    async def call(self, method: str, request: Message, answer: type[Answer], *, timeout_ms: int) -> Answer:
        """Ask the active controller, wherever it is, for up to ``timeout_ms``.

        ``method`` is the full one. Raises the controller's own ``GlasslogError``, or ``TransportError`` with
        REQUEST_TIMED_OUT when no active controller answered in time.
        """
        deadline_ms = self._clock.now_ms() + timeout_ms
        payload = request.SerializeToString()
        backoff = self.new_backoff()
        reason = "none was asked"
        while (left_ms := deadline_ms - self._clock.now_ms()) > 0:
            voter = self.candidate
            try:
                data = await self._attempt(voter, method, payload, timeout_ms=left_ms)
                parsed = _parse(data, answer)
            except GlasslogError as error:
                if not isinstance(error, TransportError) and error.code not in _NOT_THERE:
                    raise
                reason = f"controller {voter.node_id}: {error}"
                self.on_failure(voter)
            else:
                self.on_success(voter)
                return parsed
            await self.pause(backoff, at_most_ms=max(1, deadline_ms - self._clock.now_ms()))
        raise TransportError(
            f"no active controller answered {method.rpartition('/')[2]} within {timeout_ms} ms ({reason})",
            ErrorCode.REQUEST_TIMED_OUT,
        )

    async def _attempt(self, voter: Voter, method: str, payload: bytes, *, timeout_ms: int) -> bytes:
        timeout_ms = min(timeout_ms, self._attempt_timeout_ms)
        return await self.channel_to(voter).unary(method, payload, timeout_ms=timeout_ms)

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()


def _parse(data: bytes, answer: type[Answer]) -> Answer:
    """The answer; an error code of the whole answer that means "not me" is raised like any such refusal."""
    try:
        message = answer.FromString(data)
    except DecodeError as error:
        raise TransportError(f"unreadable answer: {error}") from error
    if "error_code" in message.DESCRIPTOR.fields_by_name:
        code: object = getattr(message, "error_code", 0)
        if code in _NOT_THERE:
            raise GlasslogError(ErrorCode.NOT_CONTROLLER, "it is not the active controller")
    return message
