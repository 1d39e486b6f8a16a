"""Bugs of the group coordinator."""

from contextlib import AbstractContextManager

from glasslog.broker import replica_manager
from glasslog.broker.requests import ACKS_LEADER
from glasslog.simulator.switches.switch import Switch, patched


def _unreplicated_commits() -> AbstractContextManager[None]:
    return patched(replica_manager, "ACKS_ALL", ACKS_LEADER)


UNREPLICATED_COMMITS = Switch(
    name="unreplicated-commits",
    description="A coordinator says that a position is committed once its own log has it.",
    origin="KIP-1041",
    bug=_unreplicated_commits,
    scenario="dying-coordinators",
    seeds=2,
)
