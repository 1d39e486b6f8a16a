"""``glasslog simulate``: runs seeds and shows what became of them. Refuses to know what a run does."""

import logging
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import click
from glasslog.checker.operations import History
from glasslog.checker.writing import write_history
from glasslog.client.cli.errors import UsageError
from glasslog.client.cli.output import aligned
from glasslog.simulator.outcome import Outcome
from glasslog.simulator.run import FAULTY_MS, Request, run
from glasslog.simulator.scenarios.catalog import SCENARIOS
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.switches.catalog import SWITCHES
from glasslog.simulator.switches.switch import Switch

T = TypeVar("T", Scenario, Switch)

_LARGEST_DRAWN_SEED = 1_000_000


@click.command()
@click.option("--seed", type=click.IntRange(min=0), help="The run to make.  [default: drawn, and told]")
@click.option("--seeds", metavar="FIRST-LAST", help="Many runs, one after the other.")
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(min=0, min_open=True),
    default=FAULTY_MS / 1000,
    show_default=True,
    help="Virtual seconds of faults.",
)
@click.option("--scenario", metavar="NAME", help="A named story instead of the drawn mix of faults.")
@click.option("--switch", metavar="NAME", help="Put a bug of the past back: a check should catch it.")
@click.option(
    "--history",
    "history_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what clients did and saw, for `glasslog check`; of one run.",
)
@click.option("--list", "is_list", is_flag=True, help="Show the scenarios and switches.")
def simulate(
    seed: int | None,
    seeds: str | None,
    duration_s: float,
    scenario: str | None,
    switch: str | None,
    history_path: Path | None,
    is_list: bool,
) -> int:
    """Run a whole cluster under faults in this process, on virtual time, and check everything all along.

    The same seed gives the same run, always. Exit status 1 when a check fails.
    """
    if is_list:
        _list()
        return 0
    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds exclude each other")
    if seeds is not None and history_path is not None:
        raise UsageError("--history is of one run: give --seed instead of --seeds")
    numbers = _numbers(seeds) if seeds else [secrets.randbelow(_LARGEST_DRAWN_SEED) if seed is None else seed]
    # Nodes under faults have much to log, and formatting it takes longer than all else.
    logging.disable()
    failed = 0
    bug = _named(SWITCHES, switch, "switch")
    story = _named(SCENARIOS, scenario or (bug.scenario if bug else None) or None, "scenario")
    write = None if history_path is None else _writer(history_path)
    for number in numbers:
        request = Request(seed=number, faulty_ms=round(duration_s * 1000), scenario=story, switch=bug)
        outcome = run(request, on_history=write)
        failed += bool(outcome.failure)
        click.echo(_line(outcome))
    return int(failed > 0)


def _writer(path: Path) -> Callable[[History], None]:
    """Opens the file now, so that a path that can not be written costs no run."""
    path.open("w", encoding="utf-8").close()

    def write(history: History) -> None:
        with path.open("w", encoding="utf-8") as file:
            write_history(history, file.write)

    return write


def _list() -> None:
    for title, catalog in (("scenario", SCENARIOS), ("switch", SWITCHES)):
        rows = [(each.name, each.origin, each.description) for each in catalog.values()]
        click.echo(aligned((title, "origin", "description"), rows) + "\n")


def _named(catalog: Mapping[str, T], name: str | None, kind: str) -> T | None:
    if name is None:
        return None
    if name not in catalog:
        raise UsageError(f"no {kind} is named {name}: see `glasslog simulate --list`")
    return catalog[name]


def _numbers(text: str) -> list[int]:
    first, _, last = text.partition("-")
    try:
        numbers = list(range(int(first), int(last or first) + 1))
    except ValueError:
        numbers = []
    if not numbers:
        raise UsageError(f"--seeds {text}: must be FIRST-LAST with FIRST not above LAST, as in 1-100")
    return numbers


def _line(outcome: Outcome) -> str:
    return (
        f"seed {outcome.seed}: {outcome.acknowledged} of {outcome.records} acknowledged, "
        f"recovered in {outcome.recovery_ms} ms, {outcome.trace_hash[:8]}, {outcome.failure or 'good'}"
    )
