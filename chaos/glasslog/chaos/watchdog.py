"""A process that outlives the one that breaks a cluster, and heals the cluster if that one dies.

``watched`` starts it; ``python -m glasslog.chaos.watchdog KEEPSAKE`` is it.  It waits for its standard input
to close: after a word that all is well it just ends, without one it makes everything right.  It refuses to
know which faults there were.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from glasslog.chaos.backends.backend import Backend
from glasslog.common.errors import GlasslogError

_ALL_IS_WELL = b"."
_TRY_FOR_S = 120.0
_PAUSE_S = 0.25
_WELL_FOR_S = 3.0
"""A node that was told to stop just before is still well for a moment."""


@dataclass(slots=True)
class Guard:
    """``is_well`` once everything is undone and no watchdog need do it."""

    is_well: bool = False


@contextmanager
def watched(backend: Backend) -> Iterator[Guard]:
    """Until the block ends, the death of this process has the cluster healed; so has an end that is not well.

    A backend without a keepsake is gone with this process.
    """
    guard, keepsake = Guard(), backend.keepsake
    if keepsake is None:
        yield guard
        return
    watchdog = subprocess.Popen(
        [sys.executable, "-P", "-m", "glasslog.chaos.watchdog", json.dumps(keepsake)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield guard
    finally:
        watchdog.communicate(_ALL_IS_WELL if guard.is_well else b"")


def main(arguments: list[str]) -> int:
    """Wait for the end of whoever started this; returns the exit status."""
    (keepsake,) = arguments
    if sys.stdin.buffer.read().endswith(_ALL_IS_WELL):
        return 0
    from glasslog.chaos.backends.registry import revived

    return 0 if asyncio.run(_heal(revived(json.loads(keepsake)))) else 1


async def _heal(backend: Backend) -> bool:
    """Heal until everybody has been ready for a while; False when that never was."""
    deadline = time.monotonic() + _TRY_FOR_S
    well_since = None
    while time.monotonic() < deadline:
        with suppress(GlasslogError):
            await backend.heal()
            is_well = not await backend.unready()
            well_since = (well_since or time.monotonic()) if is_well else None
        if well_since is not None and time.monotonic() - well_since > _WELL_FOR_S:
            return True
        await asyncio.sleep(_PAUSE_S)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
