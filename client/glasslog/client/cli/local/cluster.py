"""A local cluster: real nodes as background processes of this machine, under one directory.

Used by the ``glasslog local`` commands, by the demo and by tests. All methods are synchronous; those that
wait say so, and an asyncio program runs them in a thread. Refuses to know anything of topics and records.
"""

import base64
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
from glasslog.client.cli.local import layout, ports, probe, processes, state
from glasslog.client.cli.local.lock import LOCK_FILE, directory_lock
from glasslog.client.cli.local.logs import begin, last_words
from glasslog.client.cli.local.processes import Condition
from glasslog.client.cli.local.state import ClusterState, NodeState, Role

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
            node = _new_controller(before)
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
            before = ClusterState(cluster_id=_new_cluster_id(), settings={}, nodes=())
        else:
            self._check_shape(before, brokers=brokers, controllers=controllers)
        wanted_brokers = brokers or len(before.brokers) or DEFAULT_BROKERS
        wanted_controllers = controllers or len(before.controllers) or DEFAULT_CONTROLLERS
        nodes = (
            *_take(before.controllers, wanted_controllers, "controller"),
            *_take(before.brokers, wanted_brokers, "broker"),
        )
        return replace(
            before, settings=before.settings if settings is None else dict(settings), nodes=_with_ports(nodes)
        )

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
            for node in planned.nodes:
                started = self._start_one(started, node)
            self._wait_ready(started.nodes, timeout_s=timeout_s, cancelled=cancelled)
        except BaseException:
            self._abandon(started)
            raise
        return started

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
        processes.terminate(marks, timeout_s=_ABANDON_TIMEOUT_S)
        state.save(self.directory, _without_processes(started))

    def _stop_all(self, found: ClusterState, *, timeout_s: float) -> tuple[str, ...]:
        stubborn: list[str] = []
        for nodes in (found.brokers, found.controllers):
            by_mark = {node.process: node.name for node in nodes if node.process is not None}
            killed = processes.terminate(by_mark, timeout_s=timeout_s)
            stubborn += [by_mark[mark] for mark in killed]
        state.save(self.directory, _without_processes(found))
        return tuple(stubborn)

    def _delete(self, found: ClusterState) -> None:
        for node in found.nodes:
            path = layout.folder(self.directory, node)
            if path.is_dir():
                shutil.rmtree(path)
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
    return replace(found, nodes=tuple(replace(node, process=None) for node in found.nodes))


def _take(known: Sequence[NodeState], count: int, role: Role) -> tuple[NodeState, ...]:
    """The nodes that are known, and new ones up to ``count``; ports come later."""
    make = layout.broker if role == "broker" else layout.controller
    new = tuple(make(number, {}) for number in range(len(known) + 1, count + 1))
    return (*known, *new)


def _new_controller(known: ClusterState) -> NodeState:
    """One more, with ports that no node has. Raises ``CommandError`` when there are too many."""
    number = len(known.controllers) + 1
    if number > layout.MAX_NODES_PER_ROLE:
        raise CommandError(f"a local cluster has at most {layout.MAX_NODES_PER_ROLE} controllers")
    used = [port for node in known.nodes for port in node.ports.values()]
    listeners = layout.LISTENERS["controller"]
    found = ports.free_ports(len(listeners), besides=used)
    return replace(layout.controller(number, dict(zip(listeners, found, strict=True))), joins=True)


def _with_ports(nodes: Sequence[NodeState]) -> tuple[NodeState, ...]:
    """Each node with a port for each listener: the one it had, if that is still free."""
    kept = {
        (node.name, listener): port
        for node in nodes
        for listener, port in node.ports.items()
        if ports.is_free(port)
    }
    wanted = [(node.name, listener) for node in nodes for listener in layout.LISTENERS[node.role]]
    missing = [place for place in wanted if place not in kept]
    kept |= zip(missing, ports.free_ports(len(missing), besides=kept.values()), strict=True)
    return tuple(
        replace(
            node,
            process=None,
            ports={listener: kept[node.name, listener] for listener in layout.LISTENERS[node.role]},
        )
        for node in nodes
    )


def _new_cluster_id() -> str:
    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode("ascii")
