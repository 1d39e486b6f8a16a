"""``glasslog demo``: a cluster of its own in a temporary folder, one run, the verdict, no traces."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import click
from glasslog.client.cli.demo.plan import Kill
from glasslog.client.cli.demo.run import DemoPlan, Outcome, run_demo
from glasslog.client.cli.demo.screen import make_screen
from glasslog.client.cli.demo.source import Source, folder, standard_library
from glasslog.client.cli.ending import Ending, orderly_ending
from glasslog.client.cli.local.cluster import DEFAULT_BROKERS, DEFAULT_CONTROLLERS, LocalCluster
from glasslog.common.runtime.production.start import run


@click.command()
@click.option(
    "--input",
    "input_folder",
    type=click.Path(path_type=Path),
    help="Folder whose files go through the cluster, line by line.  [default: Python's standard library]",
)
@click.option(
    "--kill",
    type=click.Choice([kill.value for kill in Kill]),
    default=Kill.LEADER.value,
    show_default=True,
    help="Whom to kill with SIGKILL half-way, and start again later.",
)
@click.option(
    "--corrupt", is_flag=True, hidden=True, help="Falsify one consumed record: the verdict must be FAILED."
)
def demo(input_folder: Path | None, kill: str, corrupt: bool) -> int:
    """Write real input through a cluster, kill a node half-way, and prove that nothing was lost or doubled.

    Every line of every file is one record, keyed by its file's path, in a topic with 6 partitions and 3
    replicas, written with acks=all. A group of three consumers reads it meanwhile; each file is put together
    again and its SHA-256 compared. Exit status 0 only if everything is there, once, in order.

    \b
    glasslog demo
    glasslog demo --kill controller
    """
    source = standard_library() if input_folder is None else folder(input_folder)
    plan = DemoPlan(source=source, kill=Kill(kill), corrupt=corrupt)
    where = Path(tempfile.mkdtemp(prefix="glasslog-demo-"))
    keep = True
    with orderly_ending() as ending:
        cluster = LocalCluster(where)
        try:
            outcome = _run(cluster, plan, ending)
            keep = not outcome.passed and not corrupt
        except BaseException:
            keep = not ending()
            raise
        finally:
            _clean_up(cluster, keep=keep)
    if keep:
        click.echo(f"The nodes' logs and data are kept in {where}")
    return 0 if outcome.passed else 1


def _run(cluster: LocalCluster, plan: DemoPlan, ending: Ending) -> Outcome:
    click.echo(
        f"Starting {DEFAULT_CONTROLLERS} controllers and {DEFAULT_BROKERS} brokers on three racks "
        f"in {cluster.directory}"
    )
    cluster.up(cancelled=ending)
    source = plan.source
    click.echo(
        f"Writing {len(source.paths):,} files ({source.total_bytes / 1e6:.1f} MB) of {source.root}, "
        f"one record a line; half-way: kill {plan.kill.value}"
    )
    screen = make_screen()
    try:
        outcome = run(lambda runtime: run_demo(runtime, cluster, plan, screen, ending))
    finally:
        screen.close()
    print_verdict(source, outcome)
    return outcome


def _clean_up(cluster: LocalCluster, *, keep: bool) -> None:
    with suppress(Exception):
        cluster.down(delete=not keep)
    if not keep:
        shutil.rmtree(cluster.directory, ignore_errors=True)


def print_verdict(source: Source, outcome: Outcome) -> None:
    """The last words, for people; the exit status says the same to scripts."""
    comparison, stats = outcome.comparison, outcome.stats
    rate = comparison.records / max(outcome.data_phase_s, 1e-3)
    rows = [
        (
            "files",
            f"{comparison.files:,}, SHA-256 equal for {comparison.files - len(comparison.differences):,}",
        ),
        (
            "records",
            f"{comparison.records:,} in {outcome.data_phase_s:.1f} s: {rate:,.0f} records/s end to end",
        ),
        ("bytes", f"{comparison.size_bytes:,}"),
        ("lost", f"{comparison.lost:,}"),
        ("doubled", f"{comparison.doubled:,}"),
        ("re-delivered", f"{comparison.redelivered:,} (the same offset again after a rebalance: allowed)"),
        ("longest stall", f"{stats.longest_stall_ms / 1000:.2f} s of the producer on one partition"),
        ("exit status", "0: PASSED" if outcome.passed else "1: FAILED"),
    ]
    click.echo("")
    for name, text in rows:
        click.echo(f"  {name:<14} {text}")
    for difference in comparison.differences[:10]:
        click.echo(f"  differs        {difference}")
    if not outcome.healed:
        click.echo("  not healed     not every replica came back into its ISR")
