"""``glasslog cluster decommission`` and ``unregister``: brokers that leave for good.

Translates for ``Admin``; refuses to know how a plan is made (``reassignment_plan``).
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click
from glasslog.client.cli.connect import run_admin
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.moves import assignment_of, carry_out, show_moves, sizes_of
from glasslog.client.cli.options import bootstrap_option
from glasslog.client.cli.output import note
from glasslog.client.reassignment_plan import Move, drained
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, TopicPartition

if TYPE_CHECKING:
    from glasslog.client.admin import Admin

_POLL_MS = 300
_ROUNDS = 10
"""Topics may be made on the broker while it is emptied; after so many rounds somebody has to stop that."""


@click.command("decommission")
@click.argument("broker", type=click.IntRange(0))
@click.option("--execute", is_flag=True, help="Do it. Without it the moves are only shown.")
@click.option("--drain-only", is_flag=True, help="Return once it holds nothing, while it still runs.")
@bootstrap_option
def decommission(broker: int, execute: bool, drain_only: bool, bootstrap: str | None) -> None:
    """Take broker BROKER out of the cluster for good.

    All that it holds moves to other brokers, on other racks where there are enough. Then stop it; once it is
    gone the cluster forgets it.

    \b
    glasslog cluster decommission 4              what would move where
    glasslog cluster decommission 4 --execute    do it
    """
    moves, sizes = run_admin(bootstrap, lambda admin: _planned(admin, NodeId(broker)))
    if moves:
        show_moves(moves, sizes, "text")
    if not execute:
        note("Nothing has been done: --execute does it.")
        return
    run_admin(bootstrap, lambda admin: _drain(admin, NodeId(broker)))
    print(f"Broker {broker} holds nothing any more.")
    if not drain_only:
        run_admin(bootstrap, lambda admin: _forget(admin, NodeId(broker)))
        print(f"Broker {broker} is unregistered.")


@click.command("unregister")
@click.argument("broker", type=click.IntRange(0))
@click.option("--force", is_flag=True, help="Even if it is alive or holds replicas.")
@bootstrap_option
def unregister(broker: int, force: bool, bootstrap: str | None) -> None:
    """Have the cluster forget broker BROKER, which is gone and holds nothing.

    \b
    glasslog cluster unregister 4
    """
    run_admin(bootstrap, lambda admin: admin.unregister_broker(broker, force=force))
    print(f"Broker {broker} is unregistered.")


async def _planned(admin: "Admin", broker: NodeId) -> tuple[tuple[Move, ...], Mapping[TopicPartition, int]]:
    current = assignment_of(await admin.describe_topics())
    cluster = await admin.describe_cluster()
    racks = {each.node_id: each.rack for each in cluster.brokers if each.node_id != broker}
    moves = drained(current, racks, leaving=broker)
    return moves, await sizes_of(admin, [each.node_id for each in cluster.brokers]) if moves else {}


async def _drain(admin: "Admin", broker: NodeId) -> None:
    for _ in range(_ROUNDS):
        moves, _sizes = await _planned(admin, broker)
        if moves:
            await carry_out(admin, moves, is_watched=True)
        elif not await _is_holding(admin, broker):
            return
        else:
            await asyncio.sleep(_POLL_MS / 1_000)
    raise CommandError(f"broker {broker} got new partitions again and again; make no topics meanwhile")


async def _is_holding(admin: "Admin", broker: NodeId) -> bool:
    """Whether a partition is still on its way from there: somebody else has asked for that."""
    topics = await admin.describe_topics()
    return any(broker in each.replicas for topic in topics for each in topic.partitions)


async def _forget(admin: "Admin", broker: NodeId) -> None:
    """Once it is gone. A broker that was stopped is alive to the controller for a moment longer."""
    if await _is_up(admin, broker):
        note(f"Stop broker {broker} now: once it is gone it is forgotten. (Ctrl-C leaves that for later.)")
    while True:
        try:
            return await admin.unregister_broker(broker)
        except GlasslogError as error:
            if error.code is not ErrorCode.INVALID_REQUEST or "alive" not in str(error):
                raise
        await asyncio.sleep(_POLL_MS / 1_000)


async def _is_up(admin: "Admin", broker: NodeId) -> bool:
    return any(each.node_id == broker for each in (await admin.describe_cluster()).brokers)
