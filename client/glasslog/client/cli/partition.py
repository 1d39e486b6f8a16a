"""``glasslog partition``: moves partitions between brokers. Translates for ``Admin`` and back into tables.

Refuses to know how a plan is made (``reassignment_plan``).
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click
from glasslog.client import reassignment_file
from glasslog.client.cli import directory_moves
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.directory_moves import Misplaced
from glasslog.client.cli.errors import CommandError, UsageError
from glasslog.client.cli.moves import (
    assignment_of,
    carry_out,
    count,
    follow,
    joined,
    lift_for,
    show_moves,
    sizes_of,
)
from glasslog.client.cli.options import bootstrap_option, format_option
from glasslog.client.cli.output import Format, Json, note, print_json, print_table
from glasslog.client.reassignment_plan import Assignment, Move, balanced
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition

if TYPE_CHECKING:
    from glasslog.client.admin import Admin, LogDirDescription, TopicDescription
    from glasslog.client.reassignments import PartitionReassignment

Moving: TypeAlias = "Mapping[TopicPartition, PartitionReassignment]"


@click.group("partition")
def partition() -> None:
    """Move partitions between brokers, and see what is on its way."""


# --- reassign ---------------------------------------------------------------------------------------------


@partition.command("reassign")
@click.option("--plan", is_flag=True, help="Propose a balanced, rack-aware plan.")
@click.option("--brokers", metavar="ID,ID...", help="With --plan: use these only. Default: all that are up.")
@click.option("--topics", metavar="NAME,NAME...", help="With --plan: only these topics. Default: all.")
@click.option("--plan-file", type=click.Path(), help="Take the plan from here (Kafka's JSON; -: stdin).")
@click.option("--execute", is_flag=True, help="Do it. Without it the moves are only shown.")
@click.option("--watch", is_flag=True, help="With --execute: return when all is moved.")
@click.option(
    "--throttle",
    type=click.IntRange(1),
    metavar="BYTES",
    help="With --execute: each broker copies so many per second at most.",
)
@click.option("--save-current", type=click.Path(), help="Write the way back here before moving anything.")
@bootstrap_option
@format_option
def reassign(
    plan: bool,
    brokers: str | None,
    topics: str | None,
    plan_file: str | None,
    execute: bool,
    watch: bool,
    throttle: int | None,
    save_current: str | None,
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """Show where partitions would go, and with --execute move them.

    With --format json the plan is printed as Kafka's tools write and read it.

    \b
    glasslog partition reassign --plan
    glasslog partition reassign --plan --brokers 2,3,4 --format json > plan.json
    glasslog partition reassign --plan-file plan.json --execute --watch --throttle 10000000
    """
    if plan == (plan_file is not None):
        raise UsageError("give either --plan or --plan-file FILE")
    if plan_file is not None and (brokers or topics):
        raise UsageError(
            "--brokers and --topics choose what --plan proposes; a plan from a file is taken whole"
        )
    if not execute and (watch or throttle is not None):
        raise UsageError("--watch and --throttle go with --execute")
    plan_read = None if plan_file is None else _read_plan(plan_file)
    targets, wishes = (None, {}) if plan_read is None else (plan_read.replicas, plan_read.directories)
    wanted = None if brokers is None else _broker_ids(brokers)
    names = None if topics is None else [name for name in topics.split(",") if name]

    moves, sizes = run_admin(bootstrap, lambda admin: _prepared(admin, targets, wanted, names))
    show_moves(moves, sizes, output_format)
    astray = run_admin(bootstrap, lambda admin: directory_moves.misplaced(admin, wishes)) if wishes else []
    for each in astray:
        note(str(each))
    if save_current is not None:
        current = {move.partition: move.before for move in moves}
        Path(save_current).write_text(reassignment_file.written(current), encoding="utf-8")
    if execute and wishes:
        # Before the brokers get their replicas: they are made there at once then.
        run_admin(bootstrap, lambda admin: directory_moves.wish(admin, wishes))
    if execute and moves:
        run_admin(
            bootstrap, lambda admin: carry_out(admin, moves, is_watched=watch, bytes_per_second=throttle)
        )
    elif watch and targets:
        run_admin(bootstrap, lambda admin: follow(admin, list(targets)))
    elif (moves or astray) and not execute and output_format == "text":
        note("Nothing has been moved: --execute does it.")
    if watch and wishes:
        run_admin(bootstrap, lambda admin: directory_moves.follow(admin, wishes))


async def _prepared(
    admin: "Admin",
    targets: Assignment | None,
    wanted: Sequence[NodeId] | None,
    names: Sequence[str] | None,
) -> tuple[tuple[Move, ...], Mapping[TopicPartition, int]]:
    found = await admin.describe_topics(names or ())
    cluster = await admin.describe_cluster()
    racks = {broker.node_id: broker.rack for broker in cluster.brokers}
    current = assignment_of(found)
    if targets is None:
        usable = _usable(racks, wanted)
        _note_absent(current, usable, racks)
        moves = balanced(current, usable)
    else:
        missing = [str(name) for name in targets if name not in current]
        if missing:
            raise CommandError(f"the plan names what is not there: {', '.join(missing)}")
        moves = tuple(
            Move(partition=name, before=current[name], after=target)
            for name, target in sorted(targets.items())
            if current[name] != target
        )
    return moves, await sizes_of(admin, [broker.node_id for broker in cluster.brokers]) if moves else {}


def _usable(racks: Mapping[NodeId, str], wanted: Sequence[NodeId] | None) -> dict[NodeId, str]:
    if wanted is None:
        return dict(racks)
    absent = [node for node in wanted if node not in racks]
    if absent:
        raise CommandError(f"not up, so that nothing can be moved there: broker {joined(absent)}")
    return {node: racks[node] for node in wanted}


def _note_absent(current: Assignment, usable: Mapping[NodeId, str], racks: Mapping[NodeId, str]) -> None:
    holding = {node for replicas in current.values() for node in replicas}
    absent = sorted(node for node in holding if node not in usable and node not in racks)
    if absent:
        note(f"Broker {joined(absent)} is not up; the plan moves away what it holds.")


# --- verify, list, cancel ---------------------------------------------------------------------------------


@partition.command("verify")
@click.option("--plan-file", type=click.Path(), required=True, help="The plan (Kafka's JSON; -: stdin).")
@click.option("--watch", is_flag=True, help="Wait until none of them moves any more.")
@bootstrap_option
@format_option
def verify(plan_file: str, watch: bool, bootstrap: str | None, output_format: Format) -> None:
    """Say of each partition of a plan whether it is there. Exit status 1 while one is not.

    When all are, limits that `reassign --throttle` has set on copies are lifted.

    \b
    glasslog partition verify --plan-file plan.json
    glasslog partition verify --plan-file plan.json --watch
    """
    plan = _read_plan(plan_file)
    targets, wishes = plan.replicas, plan.directories

    async def ask(admin: "Admin") -> "tuple[list[TopicDescription], Moving, list[Misplaced]]":
        if watch:
            await follow(admin, targets)
            await directory_moves.follow(admin, wishes)
        moving = await admin.list_partition_reassignments(targets)
        return await admin.describe_topics(), moving, await directory_moves.misplaced(admin, wishes)

    topics, moving, astray = run_admin(bootstrap, ask)
    current = assignment_of(topics)
    states = {name: _state(name, target, current, name in moving) for name, target in sorted(targets.items())}
    for each in astray:
        if states[each.name] == _THERE:
            state = f"in {each.path}" if each.lag is None else f"moving from {each.path}"
            states[each.name] = f"broker {each.node}: {state}"
    if output_format == "json":
        print_json([{**_named(name), "state": state} for name, state in states.items()])
    else:
        print_table(
            ("partition", "planned", "state"),
            [(str(name), targets[name], state) for name, state in states.items()],
        )
    if any(state != _THERE for state in states.values()):
        sys.exit(1)
    run_admin(bootstrap, lambda admin: lift_for(admin, targets))


_THERE = "there"


def _state(name: TopicPartition, target: tuple[NodeId, ...], current: Assignment, is_moving: bool) -> str:
    if name not in current:
        return "no such partition"
    if current[name] != target:
        return f"elsewhere: {joined(current[name])}"
    return "moving" if is_moving else _THERE


@partition.command("directories")
@click.option("--brokers", metavar="ID,ID...", help="Of these only. Default: of all that are up.")
@bootstrap_option
@format_option
def directories(brokers: str | None, bootstrap: str | None, output_format: Format) -> None:
    """Show brokers' data directories, what lies in them, and what moves into them from another one.

    A plan whose log_dirs name directories moves replicas there: `reassign --plan-file`.

    \b
    glasslog partition directories
    """
    wanted = None if brokers is None else _broker_ids(brokers)

    async def ask(admin: "Admin") -> "dict[NodeId, list[LogDirDescription]]":
        up = [each.node_id for each in (await admin.describe_cluster()).brokers]
        return {node: await admin.describe_log_dirs(node) for node in wanted or sorted(up)}

    directory_moves.show(run_admin(bootstrap, ask), output_format)


@partition.command("list")
@bootstrap_option
@format_option
def list_(bootstrap: str | None, output_format: Format) -> None:
    """Show the partitions that are being moved.

    \b
    glasslog partition list
    """

    async def ask(admin: "Admin") -> "tuple[Moving, list[TopicDescription]]":
        moving = await admin.list_partition_reassignments()
        return moving, await admin.describe_topics() if moving else []

    moving, topics = run_admin(bootstrap, ask)
    in_sync = {
        TopicPartition(topic.name, each.partition): each.isr for topic in topics for each in topic.partitions
    }
    if output_format == "json":
        print_json([_json(name, each, in_sync.get(name, ())) for name, each in sorted(moving.items())])
        return
    rows = [
        (str(name), each.target_replicas, each.adding_replicas, each.removing_replicas, in_sync.get(name, ()))
        for name, each in sorted(moving.items())
    ]
    print_table(("partition", "goes to", "adding", "removing", "isr"), rows)


@partition.command("cancel")
@click.argument("names", metavar="TOPIC-PARTITION...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Whatever is being moved.")
@bootstrap_option
def cancel(names: tuple[str, ...], everything: bool, bootstrap: str | None) -> None:
    """Move partitions back to where they came from, for example `cancel orders-0 orders-1`.

    \b
    glasslog partition cancel orders-0 orders-1
    glasslog partition cancel --all
    """
    if everything == bool(names):
        raise UsageError("name partitions, or give --all")
    named = [_partition_of(name) for name in names]

    async def work(admin: "Admin") -> None:
        chosen = list(await admin.list_partition_reassignments()) if everything else named
        refused = await admin.alter_partition_reassignments(dict.fromkeys(chosen))
        for name in chosen:
            print(f"{name}: {refused[name]}" if name in refused else f"{name} stays where it was.")
        if refused:
            raise CommandError(f"{count(len(refused), 'partition')} of {len(chosen)} refused, see above")

    run_admin(bootstrap, work)


# --- words and numbers ------------------------------------------------------------------------------------


def _read_plan(path: str) -> reassignment_file.Plan:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} can not be read: {error}") from error
    return reassignment_file.read(text)


def _broker_ids(text: str) -> list[NodeId]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{text!r} is not ID,ID...", param_hint="--brokers")
    return [NodeId(int(part)) for part in dict.fromkeys(parts)]


def _partition_of(text: str) -> TopicPartition:
    topic, dash, number = text.rpartition("-")
    if not dash or not topic or not number.isdecimal():
        raise click.BadParameter(f"{text!r} is not TOPIC-PARTITION")
    return TopicPartition(topic, int(number))


def _json(name: TopicPartition, each: "PartitionReassignment", isr: Sequence[NodeId]) -> Json:
    return {
        **_named(name),
        "replicas": list(each.replicas),
        "adding_replicas": list(each.adding_replicas),
        "removing_replicas": list(each.removing_replicas),
        "isr": list(isr),
    }


def _named(name: TopicPartition) -> dict[str, Json]:
    return {"topic": name.topic, "partition": name.partition}


# --- elect ------------------------------------------------------------------------------------------------


@partition.command("elect")
@click.argument("places", metavar="[TOPIC-PARTITION]...", nargs=-1)
@click.option("--preferred", is_flag=True, help="The first of the replicas, if it is in sync (default).")
@click.option("--unclean", is_flag=True, help="Anybody, where nobody leads: RECORDS MAY BE LOST.")
@click.option("--all", "everywhere", is_flag=True, help="Wherever it is needed.")
@bootstrap_option
@format_option
def elect(
    places: tuple[str, ...],
    preferred: bool,
    unclean: bool,
    everywhere: bool,
    bootstrap: str | None,
    output_format: Format,
) -> None:
    """Elect leaders of partitions. That none was needed is no failure; that none could be is.

    \b
    glasslog partition elect --all
    glasslog partition elect orders-3 --unclean
    """
    from glasslog.client.elections import ElectionType

    if preferred and unclean:
        raise UsageError("--preferred and --unclean exclude each other")
    if everywhere == bool(places):
        raise UsageError("name partitions as TOPIC-PARTITION, or give --all")
    kind = ElectionType.UNCLEAN if unclean else ElectionType.PREFERRED
    wanted = None if everywhere else [_partition_of(place) for place in places]
    found = run_admin(bootstrap, lambda admin: admin.elect_leaders(kind, wanted))
    rows = [(str(place), _election_said(error)) for place, error in sorted(found.items())]
    if output_format == "json":
        print_json([{"partition": place, "result": said} for place, said in rows])
    elif rows:
        print_table(("partition", "result"), rows)
    else:
        print("No partition needs it.")
    if any(error is not None and error.code is not ErrorCode.ELECTION_NOT_NEEDED for error in found.values()):
        raise CommandError("not every leader could be elected")


def _election_said(error: GlasslogError | None) -> str:
    if error is None:
        return "elected"
    return "not needed" if error.code is ErrorCode.ELECTION_NOT_NEEDED else f"{error.code.name}: {error}"
