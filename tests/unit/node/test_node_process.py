"""A node's life with stand-ins for its roles: readiness, orderly end, and failures said in one line."""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterable

import pytest
from glasslog.common.config import parse
from glasslog.common.errors import ConfigError, InvariantViolation, StorageError
from glasslog.common.node_config import NodeConfig
from glasslog.common.runtime.memory.loop import run_virtual
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.node.metrics import Metric, gauge
from glasslog.node.process import Node, explain, first_cause, is_expected
from glasslog.node.roles import Role, build

CLUSTER = "A" * 22


def config(**changes: str) -> NodeConfig:
    values = {
        "node.id": "1",
        "process.roles": "broker,controller",
        "cluster.id": CLUSTER,
        "http.listener": "node:9644",
        "listeners": "GRPC://node:9192,KAFKA://node:9092,CONTROLLER://node:9093",
        "controller.quorum.voters": "1@node:9093",
        "log.dirs": "/data",
    }
    return parse(NodeConfig, values | {key.replace("_", "."): text for key, text in changes.items()})


class FakeRole:
    def __init__(self, name: str, events: list[str]) -> None:
        self._name = name
        self._events = events
        self._stopping = asyncio.Event()
        self.lack = "starting"
        self.lag = ""
        self.failure: Exception | None = None

    @property
    def name(self) -> str:
        return self._name

    async def run(self, on_ready: Callable[[], None]) -> None:
        self._events.append(f"{self._name} starts")
        await asyncio.sleep(0.1)
        self.lack = ""
        on_ready()
        if self.failure is not None:
            raise self.failure
        try:
            await self._stopping.wait()
            await asyncio.sleep(1)
            self._events.append(f"{self._name} ends")
        except asyncio.CancelledError:
            self._events.append(f"{self._name} is cut")
            raise

    def stop(self) -> None:
        self._events.append(f"{self._name} is asked to stop")
        self._stopping.set()

    def missing(self) -> str:
        return self.lack

    def behind(self) -> str:
        return self.lack or self.lag

    def metrics(self) -> Iterable[Metric]:
        yield gauge(f"{self._name}_lives", "test", 1)


class Stage:
    """A node of two fake roles, and what happened to them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.controller = FakeRole("controller", self.events)
        self.broker = FakeRole("broker", self.events)
        self.termination = asyncio.Event()
        self.runtime = MemoryWorld().runtime("node")
        roles: list[Role] = [self.controller, self.broker]
        self.node = Node(
            runtime=self.runtime, config=config(), roles=roles, termination=self._wait_for_termination
        )

    async def _wait_for_termination(self) -> None:
        await self.termination.wait()

    async def get(self, path: str) -> tuple[int, str]:
        answer = await self.node.answer(path)
        return answer.status, answer.body.decode().strip()


def play(body: Callable[[Stage, asyncio.Task[None]], Awaitable[None]]) -> None:
    async def main() -> None:
        stage = Stage()
        running = asyncio.create_task(stage.node.run())
        try:
            await body(stage, running)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run_virtual(main, timeout_ms=60_000)


def test_ready_only_when_every_role_is() -> None:
    async def body(stage: Stage, running: asyncio.Task[None]) -> None:
        await asyncio.sleep(0.01)
        assert await stage.get("/livez") == (200, "alive")
        assert await stage.get("/readyz") == (503, "controller: starting\nbroker: starting")
        await asyncio.sleep(0.2)
        assert await stage.get("/readyz") == (200, "ready")
        stage.broker.lack = "fenced"
        assert await stage.get("/readyz") == (503, "broker: fenced")
        assert await stage.get("/insyncz") == (503, "broker: fenced")
        stage.broker.lack, stage.broker.lag = "", "3 of its replicas not in sync"
        assert await stage.get("/readyz") == (200, "ready")
        assert await stage.get("/insyncz") == (503, "broker: 3 of its replicas not in sync")
        stage.broker.lag = ""
        assert await stage.get("/insyncz") == (200, "ready")
        status, text = await stage.get("/metrics")
        assert status == 200
        assert text.endswith("\nbroker_lives 1")
        assert (await stage.get("/elsewhere"))[0] == 404

    play(body)


def test_the_broker_stops_before_the_controller() -> None:
    async def body(stage: Stage, running: asyncio.Task[None]) -> None:
        await asyncio.sleep(0.2)
        stage.termination.set()
        await asyncio.sleep(0.5)
        assert await stage.get("/readyz") == (503, "stopping")
        await running
        assert stage.events[2:] == [
            *("broker is asked to stop", "broker ends"),
            *("controller is asked to stop", "controller ends"),
        ]

    play(body)


def test_a_role_that_fails_takes_the_node_down() -> None:
    async def body(stage: Stage, running: asyncio.Task[None]) -> None:
        stage.broker.failure = StorageError("/data belongs to somebody else")
        with pytest.raises(StorageError, match="somebody else"):
            await running
        assert stage.events[-1] == "controller is cut"

    play(body)


def test_a_role_that_just_ends_is_a_bug() -> None:
    async def body(stage: Stage, running: asyncio.Task[None]) -> None:
        await asyncio.sleep(0.2)
        stage.controller.stop()
        with pytest.raises(InvariantViolation, match="controller 1 ended although nobody asked"):
            await running

    play(body)


def test_a_taken_port_names_listener_and_address() -> None:
    taken = OSError(errno.EADDRINUSE, "can not listen on node:9092: Address already in use")
    assert explain(taken, config()) == "listener KAFKA: can not listen on node:9092: Address already in use"
    http = OSError(errno.EADDRINUSE, "can not listen on node:9644: Address already in use")
    assert explain(http, config()).startswith("http.listener: can not listen on node:9644")
    assert explain(OSError(errno.EIO, "Input/output error"), config()) == "Input/output error"


def test_every_error_is_a_sentence() -> None:
    assert explain(StorageError("the text"), config()) == "the text"
    assert explain(InvariantViolation("two leaders"), config()).endswith("rather than limp on: two leaders")
    assert explain(KeyError("x"), config()) == "stopped by an unexpected KeyError: 'x'"
    assert is_expected(StorageError("x"))
    assert not is_expected(InvariantViolation("x"))


def test_the_first_cause_is_found_in_groups() -> None:
    cause = StorageError("first")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [cause, KeyError("later")])])
    assert first_cause(group) is cause


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cluster_id": ""}, "cluster.id is missing"),
        ({"listeners": "GRPC:x"}, "listeners: 'GRPC:x' is not PROTOCOL://host:port"),
        ({"controller_quorum_voters": "1"}, "controller.quorum.voters: '1' is not id@host:port"),
        ({"controller_quorum_voters": "7@node:9093"}, "but not this controller, node.id=1"),
        ({"listeners": "GRPC://node:1,KAFKA://node:2"}, "a controller needs one as CONTROLLER://host:port"),
    ],
)
def test_settings_that_do_not_fit_leave_the_data_directory_usable(changes: dict[str, str], text: str) -> None:
    async def main() -> None:
        world = MemoryWorld()
        with pytest.raises(ConfigError) as caught:
            build(world.runtime("node"), config(**changes))
        assert text in str(caught.value)
        build(world.runtime("node"), config())

    run_virtual(main)


def test_both_roles_share_the_folder_they_both_use() -> None:
    async def main() -> None:
        world = MemoryWorld()
        roles = build(world.runtime("node"), config())
        assert [role.name for role in roles] == ["controller", "broker"]
        with pytest.raises(StorageError, match="in use by another process"):
            build(world.runtime("node"), config())

    run_virtual(main)
