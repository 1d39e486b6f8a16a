"""``glasslog simulate``: runs seeds and shows what became of them. Refuses to know what a run does."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TextIO, TypeVar

import click
from glasslog.checker.writing import write_history
from glasslog.client.cli.errors import CommandError, UsageError
from glasslog.client.cli.options import format_option
from glasslog.client.cli.output import Format, aligned, print_json, print_json_line
from glasslog.simulator.outcome import Outcome
from glasslog.simulator.pool import run_all
from glasslog.simulator.report import as_json, as_text
from glasslog.simulator.request import DRAWN, FAULTY_MS, Request
from glasslog.simulator.run import run
from glasslog.simulator.scenarios.catalog import SCENARIOS
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.shrinking import MOST_TRIES, Shrinking
from glasslog.simulator.switches.catalog import SWITCHES
from glasslog.simulator.switches.switch import Switch

T = TypeVar("T", Scenario, Switch)

_LARGEST_DRAWN_SEED = 1_000_000
_MOST_SEEDS = 1_000_000
_LONGEST_S = 3_600
_SHOWN_FAILURES = 5


@click.command()
@click.option("--seed", type=click.IntRange(min=0), help="The run to make.  [default: drawn, and told]")
@click.option("--seeds", metavar="FIRST-LAST", help="Many runs.")
@click.option(
    "--count", type=click.IntRange(1, _MOST_SEEDS), help="So many runs, from --seed or a drawn one on."
)
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(0.001, _LONGEST_S),
    default=FAULTY_MS / 1000,
    show_default=True,
    help="Virtual seconds of faults.",
)
@click.option(
    "--scenario", "scenario_name", metavar="NAME", help="A named story; drawn: the mix even for a switch."
)
@click.option(
    "--scenario-file",
    metavar="FILE",
    help="A story of `glasslog chaos run`: a file, or the name of one of ours.",
)
@click.option(
    "--switch", "switch_name", metavar="NAME", help="Put a bug of the past back: a check must catch it."
)
@click.option("--list", "is_list", is_flag=True, help="Show the scenarios and the switches.")
@click.option("--trace", "trace_path", metavar="FILE", help="Write every event of the run, as JSON lines.")
@click.option(
    "--history", "history_path", metavar="FILE", help="Write what clients did, for `glasslog check`."
)
@click.option(
    "--shrink", "is_shrink", is_flag=True, help="When a run fails, look for a shorter one that fails."
)
@click.option(
    "--skip-faults", "skipped", default="", metavar="N,N,...", help="Leave these faults of the mix out."
)
@click.option("--sends", "most_sends", type=click.IntRange(min=0), help="Send at most so many records.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    help="Processes for many runs.  [default: one for each processor]",
)
@format_option
def simulate(
    seed: int | None,
    seeds: str | None,
    count: int | None,
    duration_s: float,
    scenario_name: str | None,
    scenario_file: str | None,
    switch_name: str | None,
    is_list: bool,
    trace_path: str | None,
    history_path: str | None,
    is_shrink: bool,
    skipped: str,
    most_sends: int | None,
    jobs: int,
    output_format: Format,
) -> int:
    """Run a whole cluster under faults in this process, on virtual time, and check everything all along.

    The same seed gives the same run, always. Each draws its own cluster, load, network and mix of faults;
    then all faults end, and the cluster must recover. A --switch brings its scenario along. Exit status 1
    when a check fails.

    \b
    glasslog simulate --seed 7 --duration 5
    glasslog simulate --count 100 --shrink
    """
    if is_list:
        _list(output_format)
        return 0
    switch = _named(SWITCHES, switch_name, "switch")
    if scenario_file is None:
        scenario = _scenario(scenario_name, switch)
    elif scenario_name is not None:
        raise UsageError("--scenario and --scenario-file name two stories")
    else:
        scenario = _from_file(scenario_file)
    numbers = _numbers(seed, seeds, count)
    template = Request(
        seed=0,
        faulty_ms=round(duration_s * 1000),
        scenario=scenario,
        switch=switch,
        skipped=_skipped(skipped),
        most_sends=most_sends,
    )
    requests = [replace(template, seed=number) for number in numbers]
    show = _shows(output_format)
    if len(requests) == 1:
        return _one(requests[0], trace_path, history_path, is_shrink, show)
    for option, path in (("--trace", trace_path), ("--history", history_path)):
        if path is not None:
            raise UsageError(f"{option} is of one run: name it with --seed")
    jobs = min(jobs, len(requests))
    return _many(requests, jobs, show, is_shrink=is_shrink, is_json=output_format == "json")


# --- what was asked for -------------------------------------------------------------------------------------


def _list(output_format: Format) -> None:
    kinds: Sequence[tuple[str, Mapping[str, Scenario] | Mapping[str, Switch]]]
    kinds = (("scenario", SCENARIOS), ("switch", SWITCHES))
    if output_format == "json":
        print_json(
            {
                f"{kind}{'e' if kind == 'switch' else ''}s": [
                    {"name": each.name, "origin": each.origin, "description": each.description}
                    for each in catalog.values()
                ]
                for kind, catalog in kinds
            }
        )
        return
    tables = []
    for kind, catalog in kinds:
        rows = [(each.name, each.origin, each.description) for each in catalog.values()]
        tables.append(aligned((kind, "origin", "description"), rows))
    click.echo("\n\n".join(tables))


def _named(catalog: Mapping[str, T], name: str | None, kind: str) -> T | None:
    if name is None:
        return None
    if name not in catalog:
        raise UsageError(f"no {kind} is named {name}: see `glasslog simulate --list`")
    return catalog[name]


def _scenario(name: str | None, switch: Switch | None) -> Scenario | None:
    """The one that was named, else the switch's own; none for the drawn mix."""
    if name is None and switch is not None:
        name = switch.scenario or None
    return None if name == DRAWN else _named(SCENARIOS, name, "scenario")


def _from_file(name: str) -> Scenario:
    """Loaded only here: nobody else needs YAML."""
    from glasslog.chaos.scenario.shipped import find_scenario
    from glasslog.chaos.scenario.yaml_fields import ScenarioError
    from glasslog.simulator.scenario_files import simulated

    try:
        return simulated(find_scenario(name), name)
    except ScenarioError as error:
        raise CommandError(str(error)) from None


def _numbers(seed: int | None, seeds: str | None, count: int | None) -> range:
    if seeds is not None:
        if seed is not None or count is not None:
            raise UsageError("--seeds names the runs already: leave --seed and --count out")
        return _range(seeds)
    first = secrets.randbelow(_LARGEST_DRAWN_SEED) if seed is None else seed
    return range(first, first + (count or 1))


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    is_right = first.isdecimal() and (last.isdecimal() if dash else True)
    numbers = range(int(first), int(last or first) + 1) if is_right else range(0)
    if not numbers or len(numbers) > _MOST_SEEDS:
        raise UsageError(
            f"--seeds {text}: must be FIRST-LAST, as in 1-100, with FIRST not above LAST "
            f"and at most {_MOST_SEEDS} seeds"
        )
    return numbers


def _skipped(text: str) -> frozenset[int]:
    words = [word for word in text.split(",") if word]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--skip-faults {text}: must be numbers with commas between, as in 3,5,7")
    return frozenset(map(int, words))


# --- running ------------------------------------------------------------------------------------------------

Show = Callable[[Request, Outcome], None]


def _shows(output_format: Format) -> Show:
    if output_format == "json":
        return lambda request, outcome: print_json_line(as_json(request, outcome))
    return lambda request, outcome: click.echo(as_text(request, outcome))


def _one(
    request: Request, trace_path: str | None, history_path: str | None, is_shrink: bool, show: Show
) -> int:
    with _file("--trace", trace_path) as trace, _file("--history", history_path) as history:
        outcome = run(
            request,
            sink=None if trace is None else lambda line: trace.write(line + "\n"),
            on_history=None if history is None else lambda made: write_history(made, history.write),
        )
    show(request, outcome)
    if outcome.failure and is_shrink:
        _shrink(request, outcome, show)
    return int(bool(outcome.failure))


def _many(requests: Sequence[Request], jobs: int, show: Show, *, is_shrink: bool, is_json: bool) -> int:
    by_seed = {request.seed: request for request in requests}
    failed: list[Outcome] = []
    virtual_s = real_s = 0.0
    with _progress(len(requests)) as advance:
        for outcome in run_all(requests, jobs=jobs):
            virtual_s += outcome.virtual_ms / 1000
            real_s += outcome.real_s
            if outcome.failure:
                failed.append(outcome)
            advance(len(failed))
    failed.sort(key=lambda outcome: outcome.seed)
    for outcome in failed[:_SHOWN_FAILURES]:
        show(by_seed[outcome.seed], outcome)
    # Where lines are objects for a script, this one is a remark beside them.
    click.echo(_summary(requests, failed, virtual_s, real_s), err=is_json)
    if failed and is_shrink:
        _shrink(by_seed[failed[0].seed], failed[0], show)
    return int(bool(failed))


def _summary(requests: Sequence[Request], failed: Sequence[Outcome], virtual_s: float, real_s: float) -> str:
    seeds = f"seeds {requests[0].seed} to {requests[-1].seed}"
    rate = f"{virtual_s / 3600:.2f} virtual hours, {virtual_s / max(real_s, 1e-6):.0f} virtual s a real one"
    verdict = "all passed"
    if failed:
        numbers = ", ".join(str(outcome.seed) for outcome in failed)
        verdict = f"{len(failed)} of {len(requests)} FAILED: {numbers}"
    return f"{seeds}: {verdict}; {rate} and process"


def _shrink(request: Request, outcome: Outcome, show: Show) -> None:
    if request.scenario is not None:
        click.echo("A scenario is as short as it is: there is nothing to leave out.", err=True)
        return

    def tell(number: int, tried: Request) -> None:
        click.echo(f"try {number} of {MOST_TRIES}: {tried.command()}", err=True)

    shrinking = Shrinking(run, request, outcome, tell)
    shrinking.shrink()
    click.echo("The shortest failing run found:", err=True)
    show(shrinking.request, shrinking.outcome)


@contextmanager
def _file(option: str, path: str | None) -> Iterator[TextIO | None]:
    """Opened before the run, so that a path that can not be written costs none."""
    if path is None:
        yield None
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "w", encoding="utf-8"))
        except OSError as error:
            raise CommandError(f"{option} {path}: {error.strerror}") from None
        yield file


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar for a person who watches; given the number of failures with each run that ends."""
    if not sys.stderr.isatty():
        yield lambda failures: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    failures_column = TextColumn("{task.fields[failures]} failed")
    with Progress(*columns, failures_column, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, failures=0)
        yield lambda failures: progress.update(task, advance=1, failures=failures)
