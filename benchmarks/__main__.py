"""``python -m benchmarks [NAME...]``: runs benchmarks one after the other and shows a table at the end.

Refuses to know what they measure. A benchmark that breaks is reported, the others run on, and the exit status
is 1; no number is ever right or wrong.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

from glasslog.client.cli.errors import CommandError
from glasslog.common.errors import GlasslogError

from benchmarks import (
    append,
    clients,
    codec,
    compaction,
    failover,
    heartbeats,
    kafka_clients,
    kafka_listener,
    latency,
    recovery,
    rest,
    scale,
    simulation,
    snapshot,
    start,
    throughput,
)
from benchmarks.report import Failed, Line, Outcome, as_json, as_text

Benchmark = Callable[..., Sequence[Line]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "codec": codec.run,
    "append": append.run,
    "compaction": compaction.run,
    "recovery": recovery.run,
    "start": start.run,
    "throughput": throughput.run,
    "clients": clients.run,
    "rest": rest.run,
    "heartbeats": heartbeats.run,
    "latency": latency.run,
    "failover": failover.run,
    "simulation": simulation.run,
    "scale": scale.run,
    "snapshot": snapshot.run,
    "kafka": kafka_clients.run,
    "kafka-listener": kafka_listener.run,
}
_INTERRUPTED_STATUS = 130
_BREAKS = (GlasslogError, CommandError, OSError, TimeoutError, ExceptionGroup, subprocess.SubprocessError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; returns the exit status: 1 if a benchmark broke, 130 when interrupted."""
    asked = _parse(arguments)
    # Who runs in the background of a shell would otherwise ignore both.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    machine = _machine()
    try:
        outcomes = [(name, _run(name, quick=asked.quick)) for name in asked.names or BENCHMARKS]
    except KeyboardInterrupt:
        return _INTERRUPTED_STATUS
    if asked.format == "json":
        print(json.dumps(as_json(outcomes, machine=machine), indent=2))
    else:
        print(f"\n{machine}\n\n{as_text(outcomes)}")
    return 1 if any(isinstance(outcome, Failed) for _, outcome in outcomes) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure glasslog.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=_name, help=f"of: {', '.join(BENCHMARKS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    return parser.parse_args(arguments)


def _name(text: str) -> str:
    if text not in BENCHMARKS:
        raise argparse.ArgumentTypeError(
            f"no benchmark is called {text!r}; there are {', '.join(BENCHMARKS)}"
        )
    return text


def _run(name: str, *, quick: bool) -> Outcome:
    print(f"{name} ...", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        outcome = BENCHMARKS[name](quick=quick)
    except _BREAKS as error:
        return Failed(reason=f"{type(error).__name__}: {error}")
    print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    return outcome


def _machine() -> str:
    """What the numbers depend on. Others' work on the machine shows in the load."""
    system = f"{platform.system()} {platform.machine()}"
    load = f"load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else "load unknown"
    return f"Python {platform.python_version()}, {os.cpu_count()} processors, {system}, {load}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the run as Ctrl-C does, so that no cluster is left behind."""
    signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
