"""One command at a time changes a local cluster: a lock on its folder, freed by the death of its holder."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glasslog.client.cli.errors import CommandError

LOCK_FILE = ".lock"
_POLL_S = 0.02
_TIMEOUT_S = 5.0


@contextmanager
def directory_lock(directory: Path, *, create: bool, timeout_s: float = _TIMEOUT_S) -> Iterator[None]:
    """Hold the lock. ``create`` makes the directory if need be; ``CommandError`` when another keeps it."""
    try:
        descriptor = _acquire(directory, create=create, deadline=time.monotonic() + timeout_s)
    except OSError as error:
        raise CommandError(f"can not use the folder {directory}: {error.strerror or error}") from error
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(directory: Path, *, create: bool, deadline: float) -> int:
    while True:
        if create:
            directory.mkdir(parents=True, exist_ok=True)
        descriptor = _try(directory / LOCK_FILE)
        if descriptor is not None:
            return descriptor
        if time.monotonic() >= deadline:
            raise CommandError(
                f"another glasslog command is at work in {directory}; try again when it is done"
            )
        time.sleep(_POLL_S)


def _try(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who waited for a holder that deleted the directory has locked a file that is no longer there.
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
