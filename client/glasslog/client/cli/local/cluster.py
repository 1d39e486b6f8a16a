"""A local cluster: real nodes as background processes of this machine, under one directory.

Used by the ``glasslog local`` commands, by the demo and by tests. All methods are synchronous; those that
wait say so, and an asyncio program runs them in a thread. Refuses to know anything of topics and records.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

from glasslog.client.cli.errors import CommandError, Interrupted
from glasslog.client.cli.local import layout, plan, probe, processes, proxies, state
from glasslog.client.cli.local.lock import LOCK_FILE, directory_lock
from glasslog.client.cli.local.logs import begin, last_words
from glasslog.client.cli.local.processes import Condition
from glasslog.client.cli.local.state import ClusterState, NodeState, Proxies

DIRECTORY_VARIABLE = "GLASSLOG_DIR"
DEFAULT_BROKERS = 3
DEFAULT_CONTROLLERS = 3
NODE_COMMAND = (sys.executable, "-P", "-m", "glasslog.node", "--config")
"""``-P``: a file in the current folder must not stand in for a module."""

_READY_POLL_S = 0.02
_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0
_ABANDON_TIMEOUT_S = 2.0
"""For nodes that never became a cluster: there is little to hand over."""


def default_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """``GLASSLOG_DIR``, else ``glasslog/local`` in the user's state folder as XDG has it."""
    if named := environment.get(DIRECTORY_VARIABLE):
        return Path(named)
    home = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "glasslog" / "local"


class LocalCluster:
    """The cluster of one directory, running or not. Cheap to make; every call reads the state afresh.

    ``command`` starts a node when the path of its settings is appended.
    """

    def __init__(self, directory: Path, *, command: Sequence[str] = NODE_COMMAND) -> None:
        self.directory = directory.expanduser().absolute()
        self._command = tuple(command)
        if set(str(self.directory)) & {",", "\n"}:
            raise CommandError(
                f"{self.directory}: a cluster's folder can not have a comma or a new line in its name"
            )

    # --- what there is ---

    def state(self) -> ClusterState:
        """Raises ``CommandError`` when no cluster was ever started here."""
        found = state.load(self.directory)
        if found is None:
            raise CommandError(f"there is no cluster in {self.directory}; `glasslog local up` starts one")
        return found

    def nodes(self) -> tuple[NodeState, ...]:
        return self.state().nodes

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """``host:port`` of the GRPC listener of every broker, dead ones too."""
        return tuple(node.address("GRPC") for node in self.state().brokers)

    def is_running(self) -> bool:
        """Whether any process of it lives."""
        found = state.load(self.directory)
        return found is not None and bool(_alive(found.nodes))

    def condition(self, name: str) -> Condition:
        return _condition(self._node(name))

    def readiness(self, name: str) -> probe.Readiness:
        """What the node says of itself; answers within about half a second."""
        return probe.ask(self._node(name).address("HTTP"))

    def is_ready(self, name: str) -> bool:
        return self.readiness(name).ready

    # --- the whole cluster ---

    def up(
        self,
        *,
        brokers: int | None = None,
        controllers: int | None = None,
        settings: Mapping[str, str] | None = None,
        timeout_s: float = _READY_TIMEOUT_S,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> ClusterState:
        """Start every node and wait until the cluster is healthy; on the data that is there already, if any.

        ``None`` for a number or the settings: as last time, else the defaults. ``cancelled`` is asked every
        few ms. Raises ``CommandError`` (also when one already runs), ``ConfigError``, ``Interrupted`` once
        cancelled. After any of them no process of this call is left.
        """
        layout.check_settings(settings or {})
        with self._locked(create=True):
            before = state.load(self.directory)
            if before is not None and (alive := _alive(before.nodes)):
                raise CommandError(self._already_running(alive))
            if before is not None:
                # Those of a cluster whose nodes are all dead would keep their ports.
                processes.terminate(_marks_of_proxies(before), timeout_s=_ABANDON_TIMEOUT_S)
            planned = self._plan(before, brokers=brokers, controllers=controllers, settings=settings)
            return self._start_all(planned, timeout_s=timeout_s, cancelled=cancelled)

    def down(self, *, delete: bool = False, timeout_s: float = _STOP_TIMEOUT_S) -> tuple[str, ...]:
        """Stop brokers, then controllers; waits. Returns the names of those that had to be killed.

        ``delete`` removes what ``up`` made, and nothing else. Raises ``CommandError`` without a cluster.
        """
        self.state()
        with self._locked():
            found = self.state()
            stubborn = self._stop_all(found, timeout_s=timeout_s)
            if delete:
                self._delete(found)
            return stubborn

    # --- one node ---

    def kill(self, name: str) -> None:
        """SIGKILL; waits the few ms until the system has taken it down."""
        processes.kill([self._process(name)])

    def stop(self, name: str, *, timeout_s: float = _STOP_TIMEOUT_S) -> bool:
        """SIGTERM, wait; False when it took a SIGKILL after ``timeout_s``."""
        stubborn = processes.terminate([self._process(name)], timeout_s=timeout_s)
        with self._locked():
            self._forget_processes([name])
        return not stubborn

    def pause(self, name: str) -> None:
        """SIGSTOP: it keeps its connections and does nothing. Waits until that is so."""
        self._switch(name, signal.SIGSTOP, Condition.PAUSED)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._switch(name, signal.SIGCONT, Condition.RUNNING)

    def start(self, name: str) -> None:
        """Start one node, without waiting for it to be ready. Raises ``CommandError`` if it runs."""
        with self._locked():
            found = self.state()
            node = found.node(name)
            if _condition(node) is not Condition.GONE:
                raise CommandError(f"{name} already runs (process {node.process and node.process.pid})")
            self._start_one(found, node)

    def add_controller(
        self,
        *,
        timeout_s: float = _READY_TIMEOUT_S,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> NodeState:
        """Start one controller more, which follows the quorum without a vote; waits until it is ready.

        Raises ``CommandError`` when the cluster does not run, or the node never gets ready; then it is gone.
        """
        self.state()
        with self._locked():
            before = self.state()
            if not _alive(before.controllers):
                raise CommandError(
                    f"no controller runs in {self.directory} that another could join; "
                    f"`glasslog local up` starts the cluster"
                )
            node = plan.new_controller(before)
            planned = replace(before, nodes=(*before.controllers, node, *before.brokers))
            try:
                started = self._start_one(planned, node).node(node.name)
                self._wait_ready([started], timeout_s=timeout_s, cancelled=cancelled)
            except BaseException:
                self._forget_controller(before, node)
                raise
            return started

    def restart(
        self,
        name: str,
        *,
        timeout_s: float = _READY_TIMEOUT_S,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Stop the node if it runs, start it, wait until it is ready; ``CommandError`` if it never is."""
        if self.condition(name) is not Condition.GONE:
            self.stop(name)
        if cancelled():
            raise Interrupted
        self.start(name)
        self.wait_ready([name], timeout_s=timeout_s, cancelled=cancelled)

    def wait_ready(
        self,
        names: Collection[str],
        *,
        timeout_s: float = _READY_TIMEOUT_S,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until the nodes are ready. Raises ``CommandError`` when one dies or takes too long."""
        self._wait_ready([self._node(name) for name in names], timeout_s=timeout_s, cancelled=cancelled)

    # --- what is between the nodes of a cluster that is broken on purpose ---

    @property
    def proxies(self) -> Proxies | None:
        """The process that has a proxy for every link, if the cluster was started with chaos.enabled."""
        return self.state().proxies

    def trouble_of_proxies(self) -> str:
        """Why nothing can be done between nodes, or nodes do not reach each other; empty if all is well."""
        match self.state().proxies:
            case None:
                return ""
            case found if proxies.condition(found) is not Condition.RUNNING:
                return (
                    f"the process of the proxies between the nodes ({proxies.NAME}) does not run; "
                    f"`glasslog local down` and `up` starts it again"
                )
            case found if not (answer := proxies.readiness(found)).ready:
                return f"the proxies between the nodes do not answer: {answer.reason}"
        return ""

    def restore_proxies(self) -> None:
        """Start the proxies' process if there should be one and it is gone; resume it if it is paused."""
        with self._locked():
            found = self.state()
            if found.proxies is None:
                return
            match proxies.condition(found.proxies):
                case Condition.GONE:
                    self._start_proxies(found)
                case Condition.PAUSED:
                    processes.send(_marks_of_proxies(found)[0], signal.SIGCONT)
                case Condition.RUNNING:
                    pass

    def wait_proxies(self, *, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Until they answer, if there are any. Raises ``CommandError`` when they do not."""
        self._wait_proxies(self.state(), timeout_s=timeout_s, cancelled=lambda: False)

    # --- starting ---

    def _plan(
        self,
        before: ClusterState | None,
        *,
        brokers: int | None,
        controllers: int | None,
        settings: Mapping[str, str] | None,
    ) -> ClusterState:
        if before is None:
            before = ClusterState(cluster_id=plan.new_cluster_id(), settings={}, nodes=())
        else:
            self._check_shape(before, brokers=brokers, controllers=controllers)
        wanted_brokers = brokers or len(before.brokers) or DEFAULT_BROKERS
        wanted_controllers = controllers or len(before.controllers) or DEFAULT_CONTROLLERS
        nodes = (
            *plan.take(before.controllers, wanted_controllers, "controller"),
            *plan.take(before.brokers, wanted_brokers, "broker"),
        )
        chosen = before.settings if settings is None else dict(settings)
        return plan.with_ports(replace(before, settings=chosen, nodes=nodes))

    def _check_shape(self, before: ClusterState, *, brokers: int | None, controllers: int | None) -> None:
        way_out = "`glasslog local down --delete` removes it, --dir names another folder"
        known = len(before.controllers)
        if controllers is not None and controllers != known:
            raise CommandError(
                f"{self.directory} holds a cluster of {known} controllers, and `up` can not change that: "
                f"`glasslog local add-controller` starts one more while it runs, {way_out}"
            )
        if brokers is not None and brokers < len(before.brokers):
            known = len(before.brokers)
            raise CommandError(
                f"{self.directory} holds the data of {known} brokers, more than {brokers}: {way_out}"
            )

    def _start_all(
        self, planned: ClusterState, *, timeout_s: float, cancelled: Callable[[], bool]
    ) -> ClusterState:
        state.save(self.directory, planned)
        started = planned
        try:
            started = self._start_proxies(started)
            for node in planned.nodes:
                started = self._start_one(started, node)
            self._wait_proxies(started, timeout_s=timeout_s, cancelled=cancelled)
            self._wait_ready(started.nodes, timeout_s=timeout_s, cancelled=cancelled)
        except BaseException:
            self._abandon(started)
            raise
        return started

    def _start_proxies(self, current: ClusterState) -> ClusterState:
        """If it has any."""
        if current.proxies is None:
            return current
        started = proxies.start(self.directory, current, current.proxies)
        current = replace(current, proxies=started)
        try:
            state.save(self.directory, current)
        except BaseException:
            processes.kill(_marks_of_proxies(current))
            raise
        return current

    def _start_one(self, current: ClusterState, node: NodeState) -> ClusterState:
        path = layout.write_properties(self.directory, current, node)
        output = layout.log_file(self.directory, node)
        begin(output)
        process = processes.spawn(
            [*self._command, str(path)],
            output=output,
            folder=layout.folder(self.directory, node),
            environment=layout.environment_for_nodes(os.environ),
        )
        started = current.with_node(replace(node, process=process))
        try:
            state.save(self.directory, started)
        except BaseException:
            processes.kill([process])
            raise
        return started

    def _wait_proxies(
        self, started: ClusterState, *, timeout_s: float, cancelled: Callable[[], bool]
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while started.proxies is not None and not (answer := proxies.readiness(started.proxies)).ready:
            if proxies.condition(started.proxies) is Condition.GONE:
                said = proxies.last_words_of(self.directory)
                raise CommandError(f"{proxies.NAME} did not start: {said}")
            if cancelled():
                raise Interrupted
            if time.monotonic() >= deadline:
                raise CommandError(f"not ready after {timeout_s:g} s: {proxies.NAME}: {answer.reason}")
            time.sleep(_READY_POLL_S)

    def _wait_ready(
        self, nodes: Iterable[NodeState], *, timeout_s: float, cancelled: Callable[[], bool]
    ) -> None:
        deadline = time.monotonic() + timeout_s
        waiting = {node.name: node for node in nodes}
        while waiting:
            reasons: dict[str, str] = {}
            for node in tuple(waiting.values()):
                self._require_alive(node)
                answer = probe.ask(node.address("HTTP"))
                if answer.ready:
                    del waiting[node.name]
                reasons[node.name] = answer.reason
            if cancelled():
                raise Interrupted
            if waiting and time.monotonic() >= deadline:
                said = "; ".join(f"{name}: {reasons[name]}" for name in waiting)
                raise CommandError(f"not ready after {timeout_s:g} s: {said}")
            if waiting:
                time.sleep(_READY_POLL_S)

    def _require_alive(self, node: NodeState) -> None:
        if _condition(node) is Condition.GONE:
            output = layout.log_file(self.directory, node)
            raise CommandError(f"{node.name} did not start: {last_words(output)}")

    # --- stopping ---

    def _abandon(self, started: ClusterState) -> None:
        """Take down what a failed or cancelled start left, all at once, and remember that it is down."""
        marks = [node.process for node in started.nodes if node.process is not None]
        processes.terminate([*marks, *_marks_of_proxies(started)], timeout_s=_ABANDON_TIMEOUT_S)
        state.save(self.directory, _without_processes(started))

    def _stop_all(self, found: ClusterState, *, timeout_s: float) -> tuple[str, ...]:
        stubborn: list[str] = []
        for nodes in (found.brokers, found.controllers):
            by_mark = {node.process: node.name for node in nodes if node.process is not None}
            killed = processes.terminate(by_mark, timeout_s=timeout_s)
            stubborn += [by_mark[mark] for mark in killed]
        if processes.terminate(_marks_of_proxies(found), timeout_s=timeout_s):
            stubborn.append(proxies.NAME)
        state.save(self.directory, _without_processes(found))
        return tuple(stubborn)

    def _delete(self, found: ClusterState) -> None:
        for node in found.nodes:
            path = layout.folder(self.directory, node)
            if path.is_dir():
                shutil.rmtree(path)
        proxies.remove(self.directory)
        (self.directory / state.STATE_FILE).unlink(missing_ok=True)
        (self.directory / LOCK_FILE).unlink(missing_ok=True)
        with suppress(OSError):
            self.directory.rmdir()

    def _forget_processes(self, names: Collection[str]) -> None:
        current = self.state()
        for name in names:
            current = current.with_node(replace(current.node(name), process=None))
        state.save(self.directory, current)

    def _forget_controller(self, before: ClusterState, node: NodeState) -> None:
        """One that never joined: its process, its data and its name."""
        known = {each.name: each for each in self.state().nodes}
        mark = known.get(node.name, node).process
        if mark is not None:
            processes.terminate([mark], timeout_s=_ABANDON_TIMEOUT_S)
        shutil.rmtree(layout.folder(self.directory, node), ignore_errors=True)
        state.save(self.directory, before)

    # --- small things ---

    def _locked(self, *, create: bool = False) -> AbstractContextManager[None]:
        return directory_lock(self.directory, create=create)

    def _node(self, name: str) -> NodeState:
        return self.state().node(name)

    def _process(self, name: str) -> processes.ProcessMark:
        node = self._node(name)
        if node.process is None or _condition(node) is Condition.GONE:
            raise CommandError(f"{name} does not run; `glasslog local restart {name}` starts it")
        return node.process

    def _switch(self, name: str, number: signal.Signals, wanted: Condition) -> None:
        mark = self._process(name)
        processes.send(mark, number)
        processes.wait_until(mark, wanted)

    def _already_running(self, alive: Sequence[NodeState]) -> str:
        names = ", ".join(node.name for node in alive)
        return f"a cluster already runs in {self.directory} ({names}); `glasslog local down` stops it"


def _condition(node: NodeState) -> Condition:
    return Condition.GONE if node.process is None else processes.condition(node.process)


def _alive(nodes: Iterable[NodeState]) -> tuple[NodeState, ...]:
    return tuple(node for node in nodes if _condition(node) is not Condition.GONE)


def _without_processes(found: ClusterState) -> ClusterState:
    without = None if found.proxies is None else replace(found.proxies, process=None)
    return replace(found, nodes=tuple(replace(node, process=None) for node in found.nodes), proxies=without)


def _marks_of_proxies(found: ClusterState) -> list[processes.ProcessMark]:
    mark = None if found.proxies is None else found.proxies.process
    return [] if mark is None else [mark]
