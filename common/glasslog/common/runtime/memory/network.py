"""The in-memory network's fabric: hosts, delays, partitions, pauses and deaths.

It carries opaque items between named hosts: datagrams, which a cut loses, and wires, which keep order and
hold what a cut delays, as TCP does.  Refuses to know what a call, a stream or a frame is.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, TypeVarTuple

from glasslog.common.runtime.memory.basics import SeededRandom
from glasslog.common.runtime.memory.loop import HOST, VirtualTimeLoop
from glasslog.common.runtime.protocols import Random

_FIRST_FREE_PORT = 20_000
_FIRST_EPHEMERAL_PORT = 40_000
_CLOCK_GRAIN_S = 1e-6
_NOWHERE = Context()
"""What is under way is on no host: it goes on when its sender is paused."""

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Parked(Protocol):
    """A wire that waits for a block to end."""

    def release(self) -> None: ...


class Mortal(Protocol):
    """Something that lives on a host and dies with it: an end of a connection, a call, an endpoint."""

    def vanish(self) -> None:
        """The host was killed: stop at once; what is at the other end learns it as from a broken socket."""
        ...


class Endpoint(Mortal, Protocol):
    """What listens on a port."""

    def arrive(self, knock: "Knock") -> None:
        """A connection or call from elsewhere has reached the port."""
        ...


class Knock(Protocol):
    """What reaches a port: it finds out by itself what the endpoint is, and is refused when there is none."""

    def refuse(self, why: str) -> None: ...


class Severable(Protocol):
    """A connection as the fabric sees it."""

    def blocked_since(self) -> float | None:
        """Virtual seconds since when no traffic gets through, if so."""
        ...

    def sever(self, why: str) -> None:
        """Both ends notice by themselves that the other is unreachable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """One-way: at least ``minimum_ms``, plus up to ``jitter_ms`` drawn evenly."""

    minimum_ms: float
    jitter_ms: float


class Host:
    """A machine by name: its ports, and all that dies with its process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.incarnation = 0
        self.endpoints: dict[int, Endpoint] = {}
        self.residents: dict[Mortal, None] = {}
        self._next_free_port = _FIRST_FREE_PORT
        self._next_ephemeral_port = _FIRST_EPHEMERAL_PORT
        self._context = Context()
        self._context.run(HOST.set, name)

    def context(self) -> Context:
        """One for code that runs on this host, so that it stops when the host is paused."""
        return self._context.copy()

    def run(self, action: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Run ``action``, and all that it starts, as code of this host."""
        return self._context.copy().run(action, *arguments)

    def take_free_port(self) -> int:
        while self._next_free_port in self.endpoints:
            self._next_free_port += 1
        self._next_free_port += 1
        return self._next_free_port - 1

    def take_ephemeral_port(self) -> int:
        self._next_ephemeral_port += 1
        return self._next_ephemeral_port - 1


class MemoryNetwork:
    """Hosts by name and what lies between them. All faults are methods; see the module.

    ``drop_probability`` and ``duplicate_probability`` are of unary calls: each request and each reply is lost
    with the first, each request served twice with the second.  ``connect_timeout_ms`` bounds how long a new
    connection may take, ``broken_after_ms`` how long an existing one survives a cut.
    """

    def __init__(
        self,
        random: Random | None = None,
        *,
        minimum_delay_ms: float = 0.2,
        jitter_ms: float = 0.3,
        connect_timeout_ms: int = 2_000,
        broken_after_ms: int = 20_000,
    ) -> None:
        self._random: Random = random or SeededRandom("network")
        self._default_delay = Delay(minimum_ms=minimum_delay_ms, jitter_ms=jitter_ms)
        self._delays: dict[tuple[str, str], Delay] = {}
        self._cuts: dict[tuple[str, str], float] = {}
        self._pauses: dict[str, float] = {}
        self._hosts: dict[str, Host] = {}
        self._parked: dict[Parked, None] = {}
        self._held: list[_Datagram] = []
        self._connections: dict[Severable, None] = {}
        self.connect_timeout_ms = connect_timeout_ms
        self.broken_after_ms = broken_after_ms
        self.drop_probability = 0.0
        self.duplicate_probability = 0.0

    def host(self, name: str) -> Host:
        """The host of that name, made on first use."""
        found = self._hosts.get(name)
        if found is None:
            found = self._hosts[name] = Host(name)
        return found

    # --- faults -----------------------------------------------------------------------------------------

    def partition(self, first: str, second: str) -> None:
        """Cut both ways: datagrams are lost, connections stall."""
        self.partition_one_way(first, second)
        self.partition_one_way(second, first)

    def partition_one_way(self, source: str, target: str) -> None:
        """Nothing from ``source`` reaches ``target`` any more; the other way still works."""
        self._cuts.setdefault((source, target), _now())
        self._watch_for_broken()

    def isolate(self, name: str) -> None:
        """Cut a host from every other one known so far."""
        for other in list(self._hosts):
            if other != name:
                self.partition(name, other)

    def heal(self, first: str | None = None, second: str | None = None) -> None:
        """End all cuts, those that touch one host, or those between two. Pauses stay."""
        named = {name for name in (first, second) if name is not None}
        self._cuts = {pair: since for pair, since in self._cuts.items() if not named <= set(pair)}
        self._release()

    def pause_host(self, name: str) -> None:
        """Hold everything to and from a host and all that runs on it, as a stopped process does."""
        self._pauses.setdefault(name, _now())
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualTimeLoop):
            loop.freeze(name)
        self._watch_for_broken()

    def resume_host(self, name: str) -> None:
        """Run and deliver what was held."""
        if self._pauses.pop(name, None) is None:
            return
        loop = asyncio.get_running_loop()
        if isinstance(loop, VirtualTimeLoop):
            loop.thaw(name)
        self._release()

    def kill_host(self, name: str) -> None:
        """The host's process dies at once: its ports close, its connections break after a delay.

        A paused one dies as well, and is paused no longer.
        """
        host = self.host(name)
        host.incarnation += 1
        endpoints, host.endpoints = list(host.endpoints.values()), {}
        residents, host.residents = list(host.residents), {}
        for mortal in [*endpoints, *residents]:
            mortal.vanish()
        self.resume_host(name)

    def set_delay(self, source: str, target: str, *, minimum_ms: float, jitter_ms: float = 0.0) -> None:
        """Delay of what ``source`` sends to ``target`` from now on."""
        self._delays[source, target] = Delay(minimum_ms=minimum_ms, jitter_ms=jitter_ms)

    # --- the fabric, for the transports -----------------------------------------------------------------

    def draw_delay_s(self, source: str, target: str) -> float:
        delay = self._delays.get((source, target), self._default_delay)
        return (delay.minimum_ms + self._random.uniform(0.0, delay.jitter_ms)) / 1_000

    def drawn(self, probability: float) -> bool:
        """Whether a thing of that probability happens; draws nothing for an impossible one."""
        return probability > 0.0 and self._random.uniform(0.0, 1.0) < probability

    def blocked_since(self, source: str, target: str) -> float | None:
        """Virtual seconds since when nothing passes from ``source`` to ``target``, if so."""
        if not self._cuts and not self._pauses:
            return None
        times = [
            since
            for since in (
                self._cuts.get((source, target)),
                self._pauses.get(source),
                self._pauses.get(target),
            )
            if since is not None
        ]
        return min(times, default=None)

    def post(self, source: str, target: str, action: Callable[[], None]) -> None:
        """Run ``action`` at the target after a delay; a cut loses it, a pause holds it."""
        _Datagram(self, source, target, action).leave()

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self._cuts

    def is_paused(self, source: str, target: str) -> bool:
        return source in self._pauses or target in self._pauses

    def hold(self, datagram: "_Datagram") -> None:
        self._held.append(datagram)

    def park(self, wire: Parked) -> None:
        self._parked[wire] = None

    def add_connection(self, connection: Severable) -> None:
        self._connections[connection] = None

    def remove_connection(self, connection: Severable) -> None:
        self._connections.pop(connection, None)

    def _release(self) -> None:
        held, self._held = self._held, []
        for datagram in held:
            datagram.leave()
        parked, self._parked = self._parked, {}
        for wire in parked:
            wire.release()

    def _watch_for_broken(self) -> None:
        asyncio.get_running_loop().call_later(self.broken_after_ms / 1_000, self._sever_broken)

    def _sever_broken(self) -> None:
        limit = _now() - self.broken_after_ms / 1_000 + _CLOCK_GRAIN_S
        for connection in list(self._connections):
            since = connection.blocked_since()
            if since is not None and since <= limit:
                connection.sever("the peer does not answer any more")


class _Datagram:
    """One item on its way: lost in a cut, held by a pause."""

    def __init__(self, network: MemoryNetwork, source: str, target: str, action: Callable[[], None]) -> None:
        self._network = network
        self._source = source
        self._target = target
        self._action = action

    def leave(self) -> None:
        if not self._network.is_cut(self._source, self._target):
            delay_s = self._network.draw_delay_s(self._source, self._target)
            asyncio.get_running_loop().call_later(delay_s, self._arrive, context=_NOWHERE.copy())

    def _arrive(self) -> None:
        if self._network.is_cut(self._source, self._target):
            return
        if self._network.is_paused(self._source, self._target):
            self._network.hold(self)
        else:
            self._network.host(self._target).run(self._action)


class Wire(Generic[T]):
    """One direction of a connection: in order, nothing lost, held while blocked."""

    def __init__(
        self, network: MemoryNetwork, source: str, target: str, deliver: Callable[[T], None]
    ) -> None:
        self._network = network
        self._source = source
        self._target = target
        self._host = network.host(target)
        self._deliver = deliver
        self._queue: deque[tuple[float, T]] = deque()
        self._last_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._parked = False

    def send(self, item: T) -> None:
        self._last_at = max(self._last_at, _now() + self._network.draw_delay_s(self._source, self._target))
        self._queue.append((self._last_at, item))
        if self._timer is None:
            self._arm()

    def release(self) -> None:
        """The block may be over: what was held travels now."""
        self._parked = False
        at = max(self._last_at, _now() + self._network.draw_delay_s(self._source, self._target))
        self._last_at = at
        self._queue = deque((at, item) for _, item in self._queue)
        self._arm()

    def cut_off(self) -> None:
        """Forget what is under way and deliver nothing more of it."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None and self._queue and not self._parked:
            self._timer = asyncio.get_running_loop().call_at(
                self._queue[0][0], self._pump, context=_NOWHERE.copy()
            )

    def _pump(self) -> None:
        self._timer = None
        while self._queue and self._queue[0][0] <= _now() + _CLOCK_GRAIN_S:
            if self._network.blocked_since(self._source, self._target) is not None:
                self._parked = True
                self._network.park(self)
                return
            self._host.run(self._deliver, self._queue.popleft()[1])
        self._arm()


def _now() -> float:
    return asyncio.get_running_loop().time()
