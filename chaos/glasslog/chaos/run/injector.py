"""Does the faults of a plan when they are due, to whoever they hit then, and undoes each when it is over.

A node that something is being done to already is left to it.  Refuses to know how a backend breaks nodes, and
what becomes of the cluster.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from glasslog.chaos.backends.backend import PROCESS_KINDS, Backend
from glasslog.chaos.run.chronicle import Chronicle
from glasslog.chaos.run.watching import Watcher
from glasslog.chaos.scenario.model import Fault, FaultKind
from glasslog.chaos.scenario.targets import ClusterView, Draws, OfPartition, Target, resolve
from glasslog.chaos.scenario.timetable import Due
from glasslog.common.errors import GlasslogError

SLOW_PERIOD_MS = 100


class Injector:
    """``run`` the plan to its end; ``heal`` afterwards, however it ended.

    ``names`` are those of the scenario's topics on the cluster.
    """

    def __init__(
        self,
        backend: Backend,
        chronicle: Chronicle,
        watcher: Watcher,
        *,
        names: Mapping[str, str],
        draws_of: Callable[[str], Draws],
        now_ms: Callable[[], float],
        recovery_ms: int,
        tell: Callable[[str], None],
    ) -> None:
        self._backend = backend
        self._chronicle = chronicle
        self._watcher = watcher
        self._names = names
        self._draws_of = draws_of
        self._now_ms = now_ms
        self._recovery_ms = recovery_ms
        self._tell = tell
        self._busy: set[str] = set()
        self.failures: list[str] = []
        """Faults that could not be done, or not be undone: the run has not tested what it was meant to."""

        self._at_work: set[asyncio.Future[None]] = set()

    async def run(self, plan: Sequence[Due]) -> None:
        """Every fault of the plan, each in a task of its own; returns when the last is undone."""
        async with asyncio.TaskGroup() as group:
            for due in plan:
                await asyncio.sleep(max(0.0, due.at_ms - self._now_ms()) / 1000)
                group.create_task(self._do(due))

    async def heal(self) -> None:
        """Undo whatever is left. Raises what the backend raises."""
        await asyncio.gather(*self._at_work, return_exceptions=True)
        await self._backend.heal()

    async def _whole(self, work: Awaitable[None]) -> None:
        """What was begun on a node is carried to its end: when this is cancelled, ``heal`` waits for it."""
        task = asyncio.ensure_future(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        await asyncio.shield(task)

    async def _all(self, begin: Callable[[str], Awaitable[None]], names: Sequence[str]) -> None:
        await asyncio.gather(*(self._whole(begin(name)) for name in names))

    async def _do(self, due: Due) -> None:
        await self._watcher.look()
        fault, view = due.fault, self._chronicle.view
        draws = self._draws_of(f"target {due.line} {due.at_ms}")
        if view is None:
            self._leave_out(fault, "nothing is known of the cluster")
            return
        found = resolve(self._on_cluster(fault.target), view, draws)
        names = tuple(name for name in found if name not in self._busy)
        if not names:
            self._leave_out(fault, f"{', '.join(found)} has another fault" if found else "nobody is it now")
            return
        others = self._others(fault, names, view, draws)
        self._busy.update(names)
        label = f"{fault.kind} {', '.join(names)} ({fault.target})"
        number = self._chronicle.begun(label, names, self._now_ms())
        self._tell(label)
        try:
            await self._carry_out(due, names, others)
        except GlasslogError as error:
            self.failures.append(f"{label}: {error}")
            self._note(f"{label}: {error}")
        finally:
            self._busy.difference_update(names)
        text = f"{', '.join(names)}: {fault.kind} is over"
        self._chronicle.ended(number, text, self._now_ms())
        self._tell(text)

    def _on_cluster(self, target: Target) -> Target:
        """With its topic's name on the cluster."""
        match target:
            case OfPartition():
                return replace(target, topic=self._names[target.topic])
            case _:
                return target

    def _leave_out(self, fault: Fault, why: str) -> None:
        self._note(f"left out: {fault}: {why}")

    def _note(self, text: str) -> None:
        self._chronicle.note(text, self._now_ms())
        self._tell(text)

    def _others(self, fault: Fault, names: Sequence[str], view: ClusterView, draws: Draws) -> tuple[str, ...]:
        wanted = (
            tuple(node.name for node in view.nodes)
            if fault.others is None
            else resolve(self._on_cluster(fault.others), view, draws)
        )
        return tuple(name for name in wanted if name not in names)

    # --- kinds ------------------------------------------------------------------------------------------

    async def _carry_out(self, due: Due, names: Sequence[str], others: Sequence[str]) -> None:
        backend, fault = self._backend, due.fault
        if fault.kind not in PROCESS_KINDS:
            await self._whole(backend.disturb(fault, names, others))
            await self._until(due.end_ms)
            await self._whole(backend.calm(fault, names, others))
            return
        match fault.kind:
            case FaultKind.RESTART:
                await self._restart(names)
            case FaultKind.SLOW:
                await self._slow(names, fault.share, due.end_ms)
            case FaultKind.PAUSE:
                await self._while_away(names, backend.pause, backend.resume, due.end_ms)
            case FaultKind.STOP:
                await self._while_away(names, backend.stop, backend.start, due.end_ms)
            case _:
                await self._while_away(names, backend.kill, backend.start, due.end_ms)

    async def _until(self, at_ms: float) -> None:
        await asyncio.sleep(max(0.0, at_ms - self._now_ms()) / 1000)

    async def _while_away(
        self,
        names: Sequence[str],
        begin: Callable[[str], Awaitable[None]],
        end: Callable[[str], Awaitable[None]],
        end_ms: int,
    ) -> None:
        await self._all(begin, names)
        await self._until(end_ms)
        await self._all(end, names)

    async def _slow(self, names: Sequence[str], share: float, end_ms: int) -> None:
        frozen_s = SLOW_PERIOD_MS * share / 1000
        while self._now_ms() < end_ms:
            await self._all(self._backend.pause, names)
            await asyncio.sleep(frozen_s)
            await self._all(self._backend.resume, names)
            await asyncio.sleep(SLOW_PERIOD_MS / 1000 - frozen_s)

    async def _restart(self, names: Sequence[str]) -> None:
        """One after the other: the next one goes when the one before is in sync again."""
        for name in names:
            await self._whole(self._backend.stop(name))
            await self._whole(self._backend.start(name))
            took_ms = await self._watcher.until_well(within_ms=self._recovery_ms)
            self._note(f"{name} was restarted, and in sync after {took_ms / 1000:.1f} s")
