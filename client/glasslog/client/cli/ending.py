"""Asks politely: Ctrl-C and SIGTERM set a flag that long work looks at, so that nothing is cut in half.

Refuses to know what the work is. Without it Ctrl-C raises ``KeyboardInterrupt`` anywhere, even between the
birth of a process and the note that it exists.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Ending:
    """Whether the user asked to stop; call it to find out."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self) -> bool:
        return self._asked

    def ask(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Set the flag; has the signature of a signal handler."""
        self._asked = True


@contextmanager
def orderly_ending() -> Iterator[Ending]:
    """Until the block ends, SIGINT and SIGTERM only set the flag. Main thread only."""
    ending = Ending()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ending.ask) for number in numbers]
    try:
        yield ending
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
