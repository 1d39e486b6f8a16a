"""Many runs over several processes. Refuses to know what a run is and how its outcome is shown."""

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from glasslog.simulator.outcome import Outcome
from glasslog.simulator.request import Request
from glasslog.simulator.run import run


def run_all(requests: Sequence[Request], *, jobs: int) -> Iterator[Outcome]:
    """The outcomes as they come, in no order; in this process if there is one job.

    Leaving early gives up what has not begun and waits for what has.
    """
    if jobs == 1:
        yield from map(run, requests)
        return
    # Not forked: a worker begins as a fresh interpreter does, whatever this process has loaded or started.
    executor = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_leave_interrupts)
    try:
        for done in as_completed([executor.submit(run, request) for request in requests]):
            yield done.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _leave_interrupts() -> None:
    """Ctrl-C is for the process that the user started; the workers end when it says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
