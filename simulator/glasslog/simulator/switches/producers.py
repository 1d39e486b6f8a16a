"""Bugs in how repeated batches are recognized."""

from contextlib import AbstractContextManager

from glasslog.broker.partition.leader_state import Eligibility, LeaderState, LeaderTerms
from glasslog.broker.partition.partition import Partition
from glasslog.log.producer_state import ProducerStates
from glasslog.simulator.switches.switch import Switch, instead_of, patched


def _forgotten_producers() -> AbstractContextManager[None]:
    lead = Partition.become_leader

    @instead_of(Partition.become_leader)
    def become_leader(
        self: Partition,
        terms: LeaderTerms,
        *,
        min_insync_replicas: int,
        lag_time_max_ms: int,
        eligible: Eligibility,
        now_ms: int,
    ) -> LeaderState:
        self.log._producers = ProducerStates()
        return lead(
            self,
            terms,
            min_insync_replicas=min_insync_replicas,
            lag_time_max_ms=lag_time_max_ms,
            eligible=eligible,
            now_ms=now_ms,
        )

    return patched(Partition, "become_leader", become_leader)


FORGOTTEN_PRODUCERS = Switch(
    name="forgotten-producers",
    description="A new leader knows nothing of what idempotent producers sent to its predecessor.",
    origin="redpanda 3039",
    bug=_forgotten_producers,
    scenario="retried-batches",
    seeds=2,
)
