"""``glasslog simulate``: runs seeds and shows what became of them. Refuses to know what a run does."""

import logging
import secrets

import click
from glasslog.client.cli.errors import UsageError
from glasslog.simulator.run import FAULTY_MS, Outcome, run_seed

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
def simulate(seed: int | None, seeds: str | None, duration_s: float) -> int:
    """Run a whole cluster under faults in this process, on virtual time, and check everything all along.

    The same seed gives the same run, always. Exit status 1 when a check fails.
    """
    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds exclude each other")
    numbers = _numbers(seeds) if seeds else [secrets.randbelow(_LARGEST_DRAWN_SEED) if seed is None else seed]
    # Nodes under faults have much to log, and formatting it takes longer than all else.
    logging.disable()
    failed = 0
    for number in numbers:
        outcome = run_seed(number, faulty_ms=round(duration_s * 1000))
        failed += bool(outcome.failure)
        click.echo(_line(outcome))
    return int(failed > 0)


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
