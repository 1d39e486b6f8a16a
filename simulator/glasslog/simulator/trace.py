"""What happened in a run, event by event, as JSON lines; their hash says whether two runs were the same.

Every event has ``at`` (virtual seconds since the run began), ``event`` (its kind), mostly ``node``, and
fields of its kind; docs/simulator.md lists them.  Refuses to know what the events mean.
"""

import asyncio
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Sequence

Field = str | int | float | bool | Sequence[int] | Sequence[str] | None

TELLING = frozenset({"fault", "process", "quorum", "role", "partition", "isr", "truncate", "violated", "log"})
"""Kinds that tell how a run came to fail; the others are the traffic between them."""

_KEPT_TELLING = 200
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Trace:
    """Events go to ``sink``, if there is one, as they happen.

    What is done to the cluster goes to ``on_fault``, too, with the loop's time in seconds.
    """

    def __init__(
        self,
        sink: Callable[[str], object] | None = None,
        on_fault: Callable[[str, float], None] | None = None,
    ) -> None:
        self._sink = sink
        self._on_fault = on_fault
        self._hash = hashlib.sha256()
        self._telling: deque[str] = deque(maxlen=_KEPT_TELLING)
        self._began: float | None = None
        self.counts: Counter[str] = Counter()
        """How many events of each kind there were."""

        self.faults: Counter[str] = Counter()
        """How many episodes of each kind of fault began."""

    def now_s(self) -> float:
        """Virtual seconds since the first event."""
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        return now - self._began

    def add(self, event: str, node: str = "", **fields: Field) -> None:
        """Something happened now, on ``node`` unless it is empty."""
        at = round(self.now_s(), 6)
        self._hash.update(f"{at} {event} {node} {fields}".encode())
        self.counts[event] += 1
        is_telling = event in TELLING
        if not is_telling and self._sink is None:
            return
        named = {"node": node} if node else {}
        line = _encode({"at": at, "event": event, **named, **fields})
        if is_telling:
            self._telling.append(line)
        if self._sink is not None:
            self._sink(line)

    def fault(self, text: str, node: str = "", **fields: Field) -> None:
        """Somebody does something to the cluster, or undoes it."""
        self.add("fault", node, text=text, **fields)
        if self._on_fault is not None:
            self._on_fault(text, asyncio.get_running_loop().time())

    @property
    def hash(self) -> str:
        """Of every event so far."""
        return self._hash.hexdigest()

    def last_telling(self, count: int) -> list[str]:
        """The last events that tell the story."""
        return list(self._telling)[-count:]
