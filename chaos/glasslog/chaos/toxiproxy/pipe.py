"""One direction of one proxied connection: what goes in, and what comes out when.

A discrete-event core: each toxic is a stage that turns a timed event into later ones.  Knows time only as
numbers it is given (seconds); refuses to know sockets and tasks.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from glasslog.chaos.toxiproxy.toxics import (
    Attributes,
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

_NEVER_S = float("inf")
_BANDWIDTH_STEP_S = 0.1
"""A narrow line passes what it may in this time, rather than a whole chunk at the end of a long wait."""


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes to pass on."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The sender sends no more; the other direction goes on."""


@dataclass(frozen=True, slots=True)
class Close:
    """A toxic cuts the connection; ``reset``: by a TCP reset."""

    reset: bool = False


Event = Data | End | Close


@dataclass(frozen=True, slots=True)
class At:
    """``event`` happens at ``time_s``."""

    time_s: float
    event: Event


class Dice(Protocol):
    """The randomness that is needed here; ``random.Random`` has it."""

    def uniform(self, a: float, b: float, /) -> float: ...

    def randint(self, a: int, b: int, /) -> int: ...


class _Stage(Protocol):
    """What one toxic does on one connection."""

    def push(self, at: At) -> Iterator[At]:
        """What becomes of an event; times never go back."""
        ...

    def deadline_s(self) -> float | None:
        """When this stage closes the connection by itself."""
        ...


class Pipe:
    """Bytes in order through the stages of the toxics that apply to this connection."""

    def __init__(self, *, toxics: Sequence[Toxic], random: Dice, now_s: float) -> None:
        self._random = random
        self._stages: list[_Stage] = []
        self._waiting: deque[At] = deque()
        self._leaving: deque[At] = deque()
        self._toxics: dict[str, tuple[Toxic, _Stage | None]] = {}
        self._last_out_s = now_s
        self.waiting_bytes = 0
        self.set_toxics(toxics, now_s=now_s)

    def set_toxics(self, toxics: Sequence[Toxic], *, now_s: float) -> None:
        """The proxy's toxics of this direction changed: those that stay keep their state.

        What waits is not dropped: it goes through the new stages.
        """
        before = self._toxics
        self._take_back()
        self._toxics = {}
        for toxic in toxics:
            kept = before.get(toxic.name)
            if kept is None or kept[0] != toxic:
                applies = self._random.uniform(0, 1) < toxic.toxicity
                kept = (toxic, _stage(toxic.attributes, self._random, now_s) if applies else None)
            self._toxics[toxic.name] = kept
        self._stages = [stage for _, stage in self._toxics.values() if stage is not None]

    def drops_connection_without(self, toxics: Sequence[Toxic]) -> bool:
        """Whether a toxic that swallowed bytes is missing in ``toxics``: the stream can not go on whole."""
        names = {toxic.name for toxic in toxics}
        return any(
            isinstance(stage, _TimeoutStage) and name not in names
            for name, (_, stage) in self._toxics.items()
        )

    def push(self, data: bytes, *, now_s: float) -> None:
        """Bytes arrived."""
        self.waiting_bytes += len(data)
        self._waiting.append(At(now_s, Data(data)))

    def end(self, *, now_s: float) -> None:
        """The sender closed its side."""
        self._waiting.append(At(now_s, End()))

    def next_s(self) -> float | None:
        """When ``take`` will have something; None: not before more arrives."""
        self._fill()
        times = [each for each in map(_deadline, self._stages) if each is not None]
        if self._leaving and self._leaving[0].time_s != _NEVER_S:
            times.append(self._leaving[0].time_s)
        return min(times, default=None)

    def take(self, *, now_s: float) -> list[Event]:
        """What is due, in order; nothing follows an ``End`` or a ``Close``."""
        due: list[Event] = []
        self._fill()
        while self._leaving and self._leaving[0].time_s <= now_s:
            at = self._leaving.popleft()
            self._last_out_s = at.time_s
            due.append(at.event)
            match at.event:
                case Data(data):
                    self.waiting_bytes -= len(data)
                case End() | Close():
                    return due
                case _ as never:
                    assert_never(never)
            self._fill()
        if any(deadline is not None and deadline <= now_s for deadline in map(_deadline, self._stages)):
            due.append(Close())
        return due

    def _fill(self) -> None:
        """Send the next event through the stages, once all of the one before has left."""
        while self._waiting and not self._leaving:
            at = self._waiting.popleft()
            arrived = len(at.event.data) if isinstance(at.event, Data) else 0
            self._leaving.extend(self._through(at))
            left = sum(len(each.event.data) for each in self._leaving if isinstance(each.event, Data))
            self.waiting_bytes -= arrived - left

    def _through(self, at: At) -> list[At]:
        # Its own time may lie before the last one out: latency counts from arrival, order stays.
        events = [at]
        for stage in self._stages:
            events = [out for each in events for out in stage.push(each)]
        return [At(max(each.time_s, self._last_out_s), each.event) for each in events]

    def _take_back(self) -> None:
        rest = b"".join(each.event.data for each in self._leaving if isinstance(each.event, Data))
        closes = [each for each in self._leaving if not isinstance(each.event, Data)]
        arrived_s = self._leaving[0].time_s if self._leaving else 0.0
        self._leaving.clear()
        self._waiting.extendleft(reversed(closes))
        if rest:
            self._waiting.appendleft(At(min(arrived_s, self._last_out_s), Data(rest)))


def _deadline(stage: _Stage) -> float | None:
    return stage.deadline_s()


def _stage(attributes: Attributes, random: Dice, now_s: float) -> _Stage:
    match attributes:
        case Latency():
            return _LatencyStage(attributes, random)
        case Bandwidth():
            return _BandwidthStage(attributes)
        case SlowClose():
            return _SlowCloseStage(attributes)
        case Timeout():
            return _TimeoutStage(attributes, now_s)
        case ResetPeer():
            return _ResetStage(attributes)
        case Slicer():
            return _SlicerStage(attributes, random)
        case LimitData():
            return _LimitStage(attributes)
        case _ as never:
            assert_never(never)


class _Endless:
    """A stage that never closes a connection by itself."""

    __slots__ = ()

    def deadline_s(self) -> float | None:
        return None


class _LatencyStage(_Endless):
    __slots__ = ("_attributes", "_random")

    def __init__(self, attributes: Latency, random: Dice) -> None:
        self._attributes = attributes
        self._random = random

    def push(self, at: At) -> Iterator[At]:
        if not isinstance(at.event, Data):
            yield at
            return
        jitter = self._attributes.jitter
        delay_ms = self._attributes.latency + (self._random.uniform(-jitter, jitter) if jitter else 0)
        yield At(at.time_s + max(0.0, delay_ms / 1_000), at.event)


class _BandwidthStage(_Endless):
    """A line that is busy until ``_free_s``."""

    __slots__ = ("_bytes_per_s", "_free_s")

    def __init__(self, attributes: Bandwidth) -> None:
        self._bytes_per_s = attributes.rate * 1_000
        self._free_s = 0.0

    def push(self, at: At) -> Iterator[At]:
        begin_s = max(at.time_s, self._free_s)
        match at.event:
            case End() | Close():
                yield At(begin_s, at.event)
            case Data(data):
                if self._bytes_per_s == 0:
                    yield At(_NEVER_S, at.event)
                    return
                step = max(1, int(self._bytes_per_s * _BANDWIDTH_STEP_S))
                for start in range(0, len(data), step):
                    piece = data[start : start + step]
                    begin_s += len(piece) / self._bytes_per_s
                    yield At(begin_s, Data(piece))
                self._free_s = begin_s
            case _ as never:
                assert_never(never)


class _SlowCloseStage(_Endless):
    __slots__ = ("_delay_s",)

    def __init__(self, attributes: SlowClose) -> None:
        self._delay_s = attributes.delay / 1_000

    def push(self, at: At) -> Iterator[At]:
        yield At(at.time_s + self._delay_s, at.event) if isinstance(at.event, End) else at


class _TimeoutStage:
    __slots__ = ("_silent_since_s", "_timeout_s")

    def __init__(self, attributes: Timeout, now_s: float) -> None:
        self._timeout_s = attributes.timeout / 1_000
        self._silent_since_s = now_s

    def push(self, at: At) -> Iterator[At]:
        self._silent_since_s = max(self._silent_since_s, at.time_s)
        if not isinstance(at.event, Data):
            yield at

    def deadline_s(self) -> float | None:
        return self._silent_since_s + self._timeout_s if self._timeout_s else None


class _ResetStage(_Endless):
    __slots__ = ("_timeout_s",)

    def __init__(self, attributes: ResetPeer) -> None:
        self._timeout_s = attributes.timeout / 1_000

    def push(self, at: At) -> Iterator[At]:
        yield At(at.time_s + self._timeout_s, Close(reset=True))


class _SlicerStage(_Endless):
    __slots__ = ("_attributes", "_random")

    def __init__(self, attributes: Slicer, random: Dice) -> None:
        self._attributes = attributes
        self._random = random

    def push(self, at: At) -> Iterator[At]:
        if not isinstance(at.event, Data) or not self._attributes.average_size:
            yield at
            return
        time_s = at.time_s
        for piece in self._pieces(at.event.data):
            yield At(time_s, Data(piece))
            time_s += self._attributes.delay / 1_000_000

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        average, variation = self._attributes.average_size, self._attributes.size_variation
        start = 0
        while start < len(data):
            size = average + (self._random.randint(-variation, variation) if variation else 0)
            yield data[start : start + size]
            start += size


class _LimitStage(_Endless):
    __slots__ = ("_left",)

    def __init__(self, attributes: LimitData) -> None:
        self._left = attributes.bytes

    def push(self, at: At) -> Iterator[At]:
        if not isinstance(at.event, Data):
            yield at
            return
        passing = at.event.data[: self._left]
        self._left -= len(passing)
        if passing:
            yield At(at.time_s, Data(passing))
        if not self._left:
            yield At(at.time_s, Close())
