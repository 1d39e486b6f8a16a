"""Takes ISR changes from leaders to the controller and its answers back.

This module knows that a change is repeated until it is decided or overtaken; it refuses to know when a change
is right.  Source: KIP-497.
"""

import asyncio
import logging

from glasslog.broker.partition.isr import (
    AlterPartitionOutcome,
    AlterPartitionSender,
    IsrProposal,
    PendingExpand,
)
from glasslog.broker.partition.leader_state import AfterOutcome, LeaderState
from glasslog.broker.partition.partition import Partition
from glasslog.broker.replicas import Replicas
from glasslog.common.errors import ErrorCode, GlasslogError, InvariantViolation

_LOGGER = logging.getLogger(__name__)

RETRY_BACKOFF_MS = 50


class IsrChanges:
    """See the module. Changes are rare, so each is a task, at most one per partition and leadership."""

    def __init__(self, *, replicas: Replicas, sender: AlterPartitionSender) -> None:
        self._replicas = replicas
        self._sender = sender
        self._tasks: set[asyncio.Task[None]] = set()

    def propose(self, partition: Partition, proposal: IsrProposal) -> None:
        """Ask for ``proposal``, which ``partition``'s leader waits for."""
        state = partition.role
        if not isinstance(state, LeaderState):
            return
        _LOGGER.info("%s: ISR %s -> %s is asked for", partition.name, list(state.isr), list(proposal.new_isr))
        task = asyncio.get_running_loop().create_task(
            self._carry(partition, state, proposal), name=f"ISR change of {partition.name}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, InvariantViolation):
            self._replicas.on_fatal(error)
        elif error is not None:
            _LOGGER.error("%s failed", task.get_name(), exc_info=error)

    async def _carry(self, partition: Partition, state: LeaderState, proposal: IsrProposal) -> None:
        is_expand = isinstance(state.isr_state, PendingExpand)
        while partition.role is state and state.is_pending(proposal):
            outcome = await self._ask(partition, proposal)
            if partition.role is not state:
                return
            if outcome is not None:
                self._count(partition, outcome, is_expand=is_expand)
                after = state.on_outcome(proposal, outcome)
                self._replicas.on_isr_changed(partition)
                if after is not AfterOutcome.RETRY:
                    return
            await asyncio.sleep(RETRY_BACKOFF_MS / 1000)

    async def _ask(self, partition: Partition, proposal: IsrProposal) -> AlterPartitionOutcome | None:
        try:
            return await self._sender.submit(
                partition.topic_id,
                partition.name.partition,
                proposal.leader_epoch,
                proposal.partition_epoch,
                proposal.new_isr,
                proposal.new_isr_broker_epochs,
            )
        except GlasslogError as error:
            _LOGGER.info("%s: the ISR change did not reach a controller: %s", partition.name, error)
            return None

    def _count(self, partition: Partition, outcome: AlterPartitionOutcome, *, is_expand: bool) -> None:
        counters = self._replicas.counters
        if outcome.error is ErrorCode.NONE:
            counters.isr_expands += is_expand
            counters.isr_shrinks += not is_expand
            _LOGGER.info("%s: ISR is %s", partition.name, list(outcome.isr))
        else:
            counters.isr_changes_refused += 1
            _LOGGER.info("%s: the controller answers %s", partition.name, outcome.error.name)

    def close(self) -> None:
        """Give up whatever is under way."""
        for task in list(self._tasks):
            task.cancel()
