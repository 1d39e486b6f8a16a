"""A made-up log that keeps every promise, and clients whose history is therefore clean. Refuses to judge.

Processes take turns, one step each, so that their operations overlap: plain sends whose acknowledgement may
get lost, transactions over several partitions that commit or abort, polls that fail after they were seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from glasslog.checker.operations import (
    UNKNOWN_OFFSET,
    Acks,
    End,
    History,
    Outcome,
    Poll,
    Send,
    Step,
    Subscription,
    Transfer,
)

KEYS = ("t-0", "t-1", "u-0")
_TURNS = 400


@dataclass(slots=True)
class Entry:
    """What is at an offset: a value, open, committed or aborted; or a marker."""

    value: str
    is_open: bool = False
    is_visible: bool = True


@dataclass(slots=True)
class Run:
    """The logs and the history while they grow; ``now_ms`` moves with every turn."""

    random: Random
    logs: dict[str, list[Entry]] = field(default_factory=lambda: {key: [] for key in KEYS})
    history: History = field(default_factory=History)
    now_ms: float = 0.0
    begun: int = 0
    values: int = 0
    open: dict[int, tuple[str, list[Step]]] = field(default_factory=dict)

    def begin(self, process: str) -> tuple[int, float, list[Step]]:
        """An operation's number, when it began, and its steps so far."""
        steps: list[Step] = []
        self.open[self.begun] = process, steps
        self.begun += 1
        return self.begun - 1, self.now_ms, steps

    def value(self) -> str:
        self.values += 1
        return f"v{self.values}"

    def append(self, key: str, value: str, *, is_open: bool = False) -> int:
        self.logs[key].append(Entry(value, is_open=is_open))
        return len(self.logs[key]) - 1

    def read(self, key: str, offset: int, *, most: int) -> tuple[list[tuple[int, str]], int]:
        """Visible records from ``offset`` up to the first open transaction, and where to go on."""
        found: list[tuple[int, str]] = []
        log = self.logs[key]
        while offset < len(log) and not log[offset].is_open and len(found) < most:
            if log[offset].is_visible:
                found.append((offset, log[offset].value))
            offset += 1
        return found, offset


def honest_history(random: Random) -> History:
    """A complete, clean history with about a hundred operations."""
    run = Run(random)
    processes = [
        *(_producer(run, f"producer-{number}") for number in range(2)),
        _careless(run),
        *(_teller(run, f"teller-{number}") for number in range(2)),
        *(_consumer(run, f"consumer-{number}") for number in range(2)),
    ]
    for _ in range(_TURNS):
        run.now_ms += 1
        next(random.choice(processes))
    for entry in (entry for log in run.logs.values() for entry in log if entry.is_open):
        entry.is_open, entry.is_visible = False, False
    _close(run)
    return run.history


def _close(run: Run) -> None:
    """Operations that nobody saw end are unknown; then a fresh client reads everything."""
    run.now_ms += 1
    for index, (process, steps) in list(run.open.items()):
        # What came back of it was lost together with its end.
        sent = [Send(step.key, step.value) for step in steps if isinstance(step, Send)]
        _record(run, process, (index, 0.0, [*sent]), Outcome.INFO)
    drain = run.begin("drain")
    drain[2].extend(Poll({key: tuple(run.read(key, 0, most=1 << 30)[0])}) for key in KEYS)
    _record(run, "drain", drain, Outcome.OK)
    run.history.operations.sort(key=lambda operation: operation.index)
    run.history.end = End(operations=run.begun, drained=KEYS)


def _record(run: Run, process: str, begun: tuple[int, float, list[Step]], outcome: Outcome) -> None:
    del run.open[begun[0]]
    is_careless = process == "careless"
    run.history.operations.append(
        Transfer(
            index=begun[0],
            process=process,
            outcome=outcome,
            start_ms=begun[1],
            end_ms=run.now_ms,
            steps=tuple(begun[2]),
            is_transaction=process.startswith("teller"),
            is_drain=process == "drain",
            acks=Acks.LEADER if is_careless else Acks.ALL,
            is_idempotent=not is_careless,
        )
    )


def _producer(run: Run, process: str) -> Iterator[None]:
    """Sends of one to three values, each appended in a turn of its own."""
    while True:
        begun = run.begin(process)
        steps = begun[2]
        outcome = run.random.choices((Outcome.OK, Outcome.INFO, Outcome.FAIL), (8, 2, 1))[0]
        for _ in range(run.random.randint(1, 3)):
            yield
            key, value = run.random.choice(KEYS), run.value()
            is_done = outcome is Outcome.OK or (outcome is Outcome.INFO and run.random.random() < 0.5)
            offset = run.append(key, value) if is_done else UNKNOWN_OFFSET
            steps.append(Send(key, value, offset if outcome is Outcome.OK else UNKNOWN_OFFSET))
        yield
        _record(run, process, begun, outcome)


def _careless(run: Run) -> Iterator[None]:
    """Acknowledged by the leader alone: some is lost, some is doubled."""
    while True:
        begun, key, value = run.begin("careless"), run.random.choice(KEYS), run.value()
        begun[2].append(Send(key, value, 1_000_000))
        for _ in range(run.random.randrange(3)):
            yield
            run.append(key, value)
        yield
        _record(run, "careless", begun, Outcome.OK)


def _teller(run: Run, process: str) -> Iterator[None]:
    """Transactions of up to four sends and polls; what they sent is seen once they committed."""
    places = dict.fromkeys(KEYS, 0)
    while True:
        begun = run.begin(process)
        steps = begun[2]
        written: list[tuple[str, Entry]] = []
        for _ in range(run.random.randint(1, 4)):
            yield
            key = run.random.choice(KEYS)
            if run.random.random() < 0.6:
                value = run.value()
                offset = run.append(key, value, is_open=True)
                written.append((key, run.logs[key][offset]))
                steps.append(Send(key, value, offset))
            else:
                records, place = run.read(key, places[key], most=3)
                places[key] = place
                steps.append(Poll({key: tuple(records)}))
        yield
        is_committed = run.random.random() < 0.7
        for _, entry in written:
            entry.is_open, entry.is_visible = False, is_committed
        for key in dict.fromkeys(key for key, _ in written):
            run.logs[key].append(Entry("marker", is_visible=False))
        is_told = run.random.random() < 0.8
        outcome = (Outcome.OK if is_committed else Outcome.FAIL) if is_told else Outcome.INFO
        if outcome is not Outcome.OK:
            # Nobody acknowledged what it read, so nothing says where it stands now.
            process = f"{process}'"
        _record(run, process, begun, outcome)


def _consumer(run: Run, process: str) -> Iterator[None]:
    """Polls of its assignment, which changes now and then; what it drops it reads anew when it comes back."""
    places: dict[str, int] = {}
    while True:
        begun = run.begin(process)
        keys = tuple(key for key in KEYS if run.random.random() < 0.7)
        places = {key: places.get(key, 0) for key in keys}
        yield
        del run.open[begun[0]]
        run.history.operations.append(
            Subscription(
                index=begun[0],
                process=process,
                outcome=Outcome.OK,
                start_ms=begun[1],
                end_ms=run.now_ms,
                keys=keys,
            )
        )
        for _ in range(run.random.randint(1, 12)):
            begun = run.begin(process)
            yield
            read = {key: run.read(key, place, most=4) for key, place in places.items()}
            is_ok = run.random.random() < 0.9
            if is_ok:
                places = {key: place for key, (_, place) in read.items()}
            begun[2].append(Poll({key: tuple(records) for key, (records, _) in read.items()}))
            yield
            _record(run, process, begun, Outcome.OK if is_ok else Outcome.FAIL)
