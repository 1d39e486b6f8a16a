"""``glasslog chaos``: reads the command line, runs a scenario, shows the verdict.

Refuses to know what a scenario means and how a cluster is broken.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import click
from glasslog.chaos.audience import Audience
from glasslog.chaos.backends.backend import Backend
from glasslog.chaos.backends.compose import ComposeBackend
from glasslog.chaos.backends.local import LocalBackend
from glasslog.chaos.backends.proxies import ProxiesBackend, nodes_behind
from glasslog.chaos.backends.toxiproxy import Toxiproxy
from glasslog.chaos.history_file import HistoryFile
from glasslog.chaos.report.page import page
from glasslog.chaos.run.recorder import Recorder
from glasslog.chaos.run.result import Result, as_json, as_text, command_line
from glasslog.chaos.run.run import World, check_abilities, forget, history_name, run_scenario
from glasslog.chaos.scenario.mix import mix
from glasslog.chaos.scenario.model import FaultKind, Scenario
from glasslog.chaos.scenario.shipped import find_scenario, scenario_text, shipped_names
from glasslog.chaos.scenario.yaml_fields import ScenarioError
from glasslog.checker.verdict import check
from glasslog.client.cli.connect import bootstrap_servers, run_admin
from glasslog.client.cli.connect import run as run_asyncio
from glasslog.client.cli.demo.screen import PlainScreen, make_screen
from glasslog.client.cli.ending import Ending, orderly_ending
from glasslog.client.cli.errors import CommandError, Interrupted, UsageError
from glasslog.client.cli.local.cluster import default_directory
from glasslog.client.cli.options import bootstrap_option, format_option
from glasslog.client.cli.output import Format, note, print_json, print_table
from glasslog.common.errors import GlasslogError
from glasslog.common.runtime.protocols import Runtime

_LARGEST_DRAWN_SEED = 1_000_000
_DEFAULT_FAULTS = "kill,pause"
_DEFAULT_DURATION_S = 60.0
_DEFAULT_EVERY_S = 10.0
_DEFAULT_RATE = 200
_DEFAULT_TOXIPROXY = "localhost:8474"


@click.group("chaos")
def chaos() -> None:
    """Break a real cluster on purpose, and trust the verdict."""


@chaos.command("list")
@format_option
def list_scenarios(output_format: Format) -> None:
    """Show the scenarios that come with glasslog.

    \b
    glasslog chaos list
    """
    found = [find_scenario(name) for name in shipped_names()]
    if output_format == "json":
        print_json([{"name": each.name, "description": each.description} for each in found])
    else:
        print_table(("scenario", "description"), [(each.name, each.description) for each in found])


@chaos.command("show")
@click.argument("scenario_name", metavar="SCENARIO")
def show(scenario_name: str) -> None:
    """Print the file of SCENARIO, whose comments say what to watch and why it is safe.

    \b
    glasslog chaos show leader-kill
    glasslog chaos show leader-kill > mine.yaml
    """
    try:
        text, _ = scenario_text(scenario_name)
    except ScenarioError as error:
        raise CommandError(str(error)) from None
    click.echo(text, nl=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What to run, and how it is asked for."""

    scenario: Scenario
    seed: int
    words: tuple[str, ...]


@chaos.command("run")
@click.argument("scenario_name", metavar="[SCENARIO]", required=False)
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(1, 86_400),
    metavar="S",
    help=f"Of the mix: seconds of faults.  [default: {_DEFAULT_DURATION_S:g}]",
)
@click.option(
    "--faults",
    metavar="KIND,...",
    help=f"Of the mix: {', '.join(FaultKind)}.  [default: {_DEFAULT_FAULTS}]",
)
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.1, 3_600),
    metavar="S",
    help=f"Of the mix: seconds from fault to fault.  [default: {_DEFAULT_EVERY_S:g}]",
)
@click.option(
    "--rate",
    type=click.IntRange(1, 1_000_000),
    help=f"Of the mix: records a second.  [default: {_DEFAULT_RATE}]",
)
@click.option("--seed", type=click.IntRange(0, 2**53), help="Of everything that is drawn.")
@click.option(
    "--on",
    "where",
    type=click.Choice(["local", "compose", "proxies"]),
    default="local",
    show_default=True,
    help="Processes of this machine, containers of docker-compose, or only a Toxiproxy's proxies.",
)
@click.option(
    "--toxiproxy",
    metavar="HOST:PORT",
    help=f"Of proxies: where Toxiproxy's API is.  [default: {_DEFAULT_TOXIPROXY}]",
)
@bootstrap_option
@click.option(
    "--project", metavar="NAME", help="Of compose: the project.  [default: the only one with nodes of ours]"
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Break the local cluster there; default $GLASSLOG_DIR, else the one of `glasslog local`.",
)
@click.option(
    "--history",
    "history_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what clients did and saw, for `glasslog check`.",
)
@click.option(
    "--report",
    "report_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the report: one HTML file that needs no network.",
)
@format_option
def run(
    scenario_name: str | None,
    duration_s: float | None,
    faults: str | None,
    every_s: float | None,
    rate: int | None,
    seed: int | None,
    where: str,
    toxiproxy: str | None,
    bootstrap: str | None,
    project: str | None,
    directory: Path | None,
    history_path: Path | None,
    report_path: Path | None,
    output_format: Format,
) -> int:
    """Break a cluster as SCENARIO says, under load, and judge what its clients saw.

    SCENARIO is a file, or the name of one that `glasslog chaos list` shows; without one, kinds of faults
    are mixed by a seed. The cluster must be marked with chaos.enabled=true. Whatever happens, all faults
    are undone in the end. Exit status 0 only if nothing was lost, doubled or reordered, and the cluster
    became well again.

    \b
    glasslog local up --set chaos.enabled=true
    glasslog chaos run leader-kill
    glasslog chaos run --duration 60 --faults kill,pause,partition
    """
    backend = _backend(where, directory=directory, project=project, toxiproxy=toxiproxy, bootstrap=bootstrap)
    options = (("--duration", duration_s), ("--faults", faults), ("--every", every_s), ("--rate", rate))
    if scenario_name is None:
        asked = _mixed(backend, duration_s, faults, every_s, rate, seed)
    elif given := [name for name, value in options if value is not None]:
        raise UsageError(f"{given[0]} is of the mix of faults: a scenario says it itself")
    else:
        scenario = _scenario(scenario_name)
        chosen = scenario.seed if seed is None else seed
        asked = _Asked(scenario=scenario, seed=chosen, words=(scenario_name, "--seed", str(chosen)))
    check_abilities(backend, asked.scenario)
    with _writable("--history", history_path), _writable("--report", report_path):
        result = _carried_out(backend, asked, history_path, output_format)
        if report_path is not None:
            report_path.write_text(page(result), encoding="utf-8")
            note(f"The report is in {report_path}.")
    if output_format == "json":
        print_json(as_json(result))
    else:
        click.echo("\n" + as_text(result))
    return int(not result.passed)


def _backend(
    where: str, *, directory: Path | None, project: str | None, toxiproxy: str | None, bootstrap: str | None
) -> Backend:
    of_others = {
        "--dir": directory if where != "local" else None,
        "--project": project if where != "compose" else None,
        "--toxiproxy": toxiproxy if where != "proxies" else None,
    }
    if wrong := [name for name, value in of_others.items() if value is not None]:
        raise UsageError(f"{wrong[0]} is not of --on {where}")
    match where:
        case "compose":
            return ComposeBackend(project or "")
        case "proxies":
            return _proxies(toxiproxy or _DEFAULT_TOXIPROXY, bootstrap)
        case _:
            return LocalBackend(directory or default_directory())


def _proxies(address: str, bootstrap: str | None) -> ProxiesBackend:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--toxiproxy {address} is not HOST:PORT")
    server = Toxiproxy(address)
    links = server.links()
    servers = bootstrap_servers(bootstrap)
    nodes = run_admin(servers, lambda admin: nodes_behind(links, admin))
    return ProxiesBackend(server, servers.split(","), nodes)


def _scenario(name: str) -> Scenario:
    try:
        return find_scenario(name)
    except ScenarioError as error:
        raise CommandError(str(error)) from None


def _mixed(
    backend: Backend,
    duration_s: float | None,
    faults: str | None,
    every_s: float | None,
    rate: int | None,
    seed: int | None,
) -> _Asked:
    chosen = secrets.randbelow(_LARGEST_DRAWN_SEED) if seed is None else seed
    duration_s, every_s = duration_s or _DEFAULT_DURATION_S, every_s or _DEFAULT_EVERY_S
    if every_s / 2 >= duration_s:
        raise UsageError(
            f"--every {every_s:g} is too long for --duration {duration_s:g}: no fault would come"
        )
    kinds = _kinds(faults or _DEFAULT_FAULTS)
    scenario = mix(
        kinds=kinds,
        duration_ms=round(duration_s * 1000),
        every_ms=round(every_s * 1000),
        seed=chosen,
        rate=rate or _DEFAULT_RATE,
        brokers=sum(node.role == "broker" for node in backend.nodes()),
    )
    words = ("--duration", f"{duration_s:g}", "--faults", ",".join(kinds), "--every", f"{every_s:g}")
    return _Asked(
        scenario=scenario,
        seed=chosen,
        words=(*words, "--rate", str(rate or _DEFAULT_RATE), "--seed", str(chosen)),
    )


def _kinds(text: str) -> tuple[FaultKind, ...]:
    kinds = []
    for word in filter(None, (each.strip() for each in text.split(","))):
        if word not in list(FaultKind):
            raise UsageError(f"--faults {word}: no such kind; there are {', '.join(FaultKind)}")
        kinds.append(FaultKind(word))
    if not kinds:
        raise UsageError("--faults names no kind of fault")
    return tuple(dict.fromkeys(kinds))


# --- running ------------------------------------------------------------------------------------------------


def _carried_out(backend: Backend, asked: _Asked, history_path: Path | None, output_format: Format) -> Result:
    # What a script reads is on standard output; there, only the verdict.
    screen = PlainScreen(to_errors=True) if output_format == "json" else make_screen()
    suffix = f".{secrets.token_hex(3)}"
    with orderly_ending() as ending:
        world_of = _worlds(backend, Audience(screen, asked.scenario.duration_ms), suffix, ending)
        screen.event(f"{asked.scenario.name}, seed {asked.seed}, on {backend.description}")
        try:
            result = _recorded(backend, world_of, asked, history_path)
            if result.passed:
                _forget(world_of, asked)
        except Interrupted:
            _forget(world_of, asked)
            raise
        finally:
            screen.close()
    return result


def _recorded(
    backend: Backend, world_of: Callable[[Runtime], World], asked: _Asked, history_path: Path | None
) -> Result:
    """Run it and have it judged. What clients did and saw is in the file, however this ends."""
    file, keep = HistoryFile(history_path, history_name(asked.scenario, asked.seed)), True
    recorder = Recorder(file.operation, file.fault)
    try:
        made = run_asyncio(
            lambda runtime: run_scenario(world_of(runtime), asked.scenario, asked.seed, recorder)
        )
        file.end(made.history)
        result = Result(run=made, verdict=check(made.history), command=_command(backend, asked))
        keep = not result.passed
    except Interrupted:
        keep = False
        raise
    finally:
        if (kept := file.close(keep=keep)) is not None:
            note(f"What clients did and saw is kept in {kept}, for `glasslog check`.")
    return result


def _worlds(backend: Backend, audience: Audience, suffix: str, ending: Ending) -> Callable[[Runtime], World]:
    return lambda runtime: World(
        backend=backend,
        runtime_of=lambda name: runtime,
        draws_of=Random,
        audience=audience,
        suffix=suffix,
        ending=ending,
    )


def _forget(world_of: Callable[[Runtime], World], asked: _Asked) -> None:
    """After a failure topics stay, for a look at them."""
    with suppress(GlasslogError):
        run_asyncio(lambda runtime: forget(world_of(runtime), asked.scenario))


def _command(backend: Backend, asked: _Asked) -> str:
    options = [word for option in backend.options.items() for word in option]
    return command_line(["glasslog", "chaos", "run", *asked.words, *options])


# --- files --------------------------------------------------------------------------------------------


@contextmanager
def _writable(option: str, path: Path | None) -> Iterator[None]:
    """Found out before anything is broken; a file that is there keeps what it has until the end."""
    if path is not None:
        try:
            path.open("a", encoding="utf-8").close()
        except OSError as error:
            raise CommandError(f"{option} {path}: {error.strerror}") from None
    yield
