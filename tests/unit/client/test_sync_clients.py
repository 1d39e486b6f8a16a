"""The clients for plain scripts, against a fake broker over real gRPC on loopback."""

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from glasslog.client import admin as asyncio_admin
from glasslog.client import consumer as asyncio_consumer
from glasslog.client import producer as asyncio_producer
from glasslog.client.admin import NewTopic
from glasslog.client.options import ConsumerKeywords
from glasslog.client.sync import Admin, Consumer, Producer
from glasslog.client.types import RecordMetadata
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import TopicPartition
from glasslog.common.runtime.memory.world import MemoryWorld
from glasslog.common.runtime.production.start import production_runtime
from glasslog.common.runtime.production.thread import LoopThread
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.records import encode_batch

from tests.unit.client.fake_broker import FakeBroker

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
DEADLINE_S = 20.0
GROUP = ConsumerKeywords(auto_offset_reset="earliest", heartbeat_interval_ms=50)


class RealWorld(MemoryWorld):
    """For the fake broker: every host is this machine."""

    def runtime(self, host: str) -> Runtime:
        return production_runtime()


class Hosted(FakeBroker):
    """A fake broker on the loop that blocking clients share; it holds it as they do."""

    def __init__(self) -> None:
        super().__init__(RealWorld(seed=1), "127.0.0.1")
        self.port = 0
        self.thread = LoopThread()
        self.create("t", 2)

    async def start(self) -> None:
        await super().start()
        assert self._listener is not None
        self.port = self._listener.port

    def put(self, partition: int, numbers: Sequence[int]) -> None:
        batch = bytes(encode_batch([(1_000, None, b"%d" % number, ()) for number in numbers]))
        self.logs["t"][partition].append(batch)

    def committed(self) -> dict[tuple[str, int], int]:
        return {key: item.offset for key, item in self.groups["g"].offsets.items()}


@pytest.fixture
def broker() -> Iterator[Hosted]:
    hosted = Hosted()
    hosted.thread.acquire()
    hosted.thread.run(hosted.start)
    yield hosted
    hosted.thread.run(hosted.stop)
    hosted.thread.release()
    assert not [thread for thread in threading.enumerate() if "glasslog" in thread.name], "a thread is left"


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("blocking", "namesake"),
    [
        (Producer, asyncio_producer.Producer),
        (Consumer, asyncio_consumer.Consumer),
        (Admin, asyncio_admin.Admin),
    ],
)
def test_names_and_arguments_are_the_same(blocking: type, namesake: type) -> None:
    """What fails here was added to one of the two only: see ``glasslog.client.blocking``."""
    internal = {"serialized", "send_serialized", "send_at_once", "positions"}
    names = {name for name in dir(namesake) if not name.startswith("_")} - internal
    assert names == {name for name in dir(blocking) if not name.startswith("_")}
    for name in sorted(names):
        ours, theirs = getattr(blocking, name), getattr(namesake, name)
        if callable(theirs):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
            assert ours.__doc__ or not theirs.__doc__
    assert list(inspect.signature(blocking).parameters) == list(inspect.signature(namesake).parameters)


def test_records_are_sent_and_read(broker: Hosted) -> None:
    with Producer(broker.address) as producer:
        deliveries = [producer.send("t", b"%d" % number, key=b"k") for number in range(10_000)]
        first, last = deliveries[0].result(), deliveries[-1].result()
        assert (first.topic, last.offset - first.offset) == ("t", 9_999), "in the order they were sent"
        assert all(delivery.done() for delivery in deliveries)
        (run,) = producer.send_many("t", [b"x", b"y"], partition=1 - first.partition).result()
        assert run.record_count == 2
        assert len(producer.partitions_for("t")) == 2
        assert producer.stats.records_acked == 10_002
    with Consumer(bootstrap_servers=broker.address, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("t", first.partition)])
        found = [record.value for _, record in zip(range(10_000), consumer, strict=False)]
        assert found == [b"%d" % number for number in range(10_000)]


def test_what_fails_is_raised_where_somebody_looks(broker: Hosted) -> None:
    heard: list[RecordMetadata | GlasslogError] = []
    with Producer(broker.address) as producer:
        with pytest.raises(TypeError, match="value must be bytes"):
            producer.send("t", "text")
        broker.faults["Produce"] = [ErrorCode.INVALID_RECORD] * 2
        with pytest.raises(GlasslogError, match="INVALID_RECORD"):
            producer.send("t", b"v", partition=0).result()
        producer.send("t", b"v", partition=0).add_done_callback(heard.append)
        producer.send("t", b"v", partition=7)
        with pytest.raises(GlasslogError, match="there is no partition 7"):
            producer.flush()
        producer.flush()
        assert [error.code for error in heard if isinstance(error, GlasslogError)] == [
            ErrorCode.INVALID_RECORD
        ]
    with pytest.raises(GlasslogError, match="the producer is closed"):
        producer.send("t", b"late")
    with pytest.raises(GlasslogError, match="was started before"):
        producer.start()


def test_a_block_that_fails_gives_up_what_is_not_sent(broker: Hosted) -> None:
    deliveries = []

    def work() -> None:
        with Producer(broker.address, linger_ms=60_000) as producer:
            deliveries.append(producer.send("t", b"v"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert broker.values("t") + broker.values("t", 1) == []


def test_records_not_handed_out_count_as_unread(broker: Hosted) -> None:
    """The consumer takes many at once from its loop: a commit in the middle is of what was handed out."""
    broker.put(0, range(100))
    with Consumer("t", bootstrap_servers=broker.address, group_id="g", **GROUP) as consumer:
        for record in consumer:
            if record.offset == 9:
                break
        assert consumer.position(T0) == 10
        assert consumer.lag(T0) == 90
        consumer.commit()
        assert broker.committed()["t", 0] == 10
        consumer.pause(T0)
        assert consumer.poll(timeout_ms=50) == []
        consumer.resume(T0)
        assert next(consumer).offset == 10
        consumer.seek(T0, 42)
        assert next(consumer).offset == 42
        assert [record.offset for record in consumer.poll(2)] == [43, 44]
        assert next(consumer).offset == 45
    assert broker.committed()["t", 0] == 46, "closing commits what was handed out"


def test_what_a_failing_block_was_at_is_read_again(broker: Hosted) -> None:
    broker.put(0, range(100))

    def work() -> None:
        with Consumer("t", bootstrap_servers=broker.address, group_id="g", **GROUP) as consumer:
            for record in consumer:
                if record.offset == 9:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert broker.committed()["t", 0] == 9


@pytest.mark.parametrize("method", ["poll", "poll_batches", "__next__"])
def test_records_that_an_interrupt_kept_from_the_caller_are_unread(
    broker: Hosted, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Ctrl-C may come when the loop has taken records and the caller has not got them: then nobody has."""
    broker.put(0, range(100))
    with Consumer("t", bootstrap_servers=broker.address, group_id="g", **GROUP) as consumer:
        until(lambda: consumer.assignment != () or consumer.poll(1, timeout_ms=50) != [], "it has joined")
        offset = consumer.position(T0)
        run = LoopThread.run

        def interrupted(thread: LoopThread, work: Any, calls: Any = None) -> None:
            run(thread, work, calls)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(LoopThread, "run", interrupted)
            with pytest.raises(KeyboardInterrupt):
                getattr(consumer, method)()
        assert consumer.position(T0) == offset
        consumer.commit()
        assert broker.committed()["t", 0] == offset
        assert next(consumer).offset == offset


class Listener:
    """Commits in its callbacks, as one does, on the thread that polls."""

    def __init__(self) -> None:
        self.consumer: Consumer | None = None
        self.told: list[str] = []
        self.threads: set[int] = set()

    def _tell(self, what: str) -> None:
        self.told.append(what)
        self.threads.add(threading.get_ident())

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        if self.consumer is not None:
            self.consumer.commit()
        self._tell("revoked")

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._tell("assigned")

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._tell("lost")


def test_listeners_run_on_the_thread_that_polls_and_may_commit(broker: Hosted) -> None:
    listener = Listener()
    broker.put(0, range(5))
    with Consumer(
        "t",
        bootstrap_servers=broker.address,
        group_id="g",
        listener=listener,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        heartbeat_interval_ms=50,
    ) as consumer:
        listener.consumer = consumer
        assert [next(consumer).offset for _ in range(5)] == list(range(5))
    assert listener.told == ["assigned", "revoked"]
    assert listener.threads == {threading.get_ident()}
    assert broker.committed()["t", 0] == 5


def test_a_listener_that_raises_is_heard_by_the_poll(broker: Hosted) -> None:
    class Broken(Listener):
        def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
            raise ValueError("no room")

    with (
        Consumer("t", bootstrap_servers=broker.address, group_id="g", listener=Broken(), **GROUP) as consumer,
        pytest.raises(ValueError, match="no room"),
    ):
        consumer.poll(timeout_ms=5_000)


def test_admin_waits_for_its_answers(broker: Hosted) -> None:
    with Admin(broker.address) as admin:
        admin.create_topics([NewTopic(name="new", partitions=3, replication_factor=1)])
        assert admin.list_topics() == ["new", "t"]
        with pytest.raises(GlasslogError, match="TOPIC_ALREADY_EXISTS"):
            admin.create_topics([NewTopic(name="new", partitions=3, replication_factor=1)])
    with pytest.raises(GlasslogError, match="the admin is closed"):
        admin.list_topics()
    with pytest.raises(GlasslogError, match="the admin is not started"):
        Admin(broker.address).list_topics()


def test_a_start_that_fails_leaves_no_thread() -> None:
    with pytest.raises(GlasslogError, match="no broker could be reached"):
        Admin("127.0.0.1:1", bootstrap_timeout_ms=100).start()
    assert not [thread for thread in threading.enumerate() if "glasslog" in thread.name]


SCRIPT = """
import signal, sys
from glasslog.client.sync import Consumer
signal.signal(signal.SIGINT, signal.default_int_handler)
consumer = Consumer("t", bootstrap_servers=sys.argv[1], group_id="g", heartbeat_interval_ms=50)
{body}
"""
INTERRUPTED = """
try:
    with consumer:
        consumer.poll(timeout_ms=0)
        print("polling", flush=True)
        consumer.poll(timeout_ms=600_000)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
FORGOTTEN = """
consumer.start()
consumer.poll(timeout_ms=500) or print("polled", flush=True)
"""


def script(broker: Hosted, body: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body=body), broker.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


def test_ctrl_c_ends_a_wait_and_the_member_leaves(broker: Hosted) -> None:
    process = script(broker, INTERRUPTED)
    assert process.stdout is not None
    assert process.stdout.readline() == "polling\n"
    until(lambda: "g" in broker.groups and bool(broker.groups["g"].assignments), "it has joined")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")
    assert broker.groups["g"].members == {}, "it has left the group"


def test_a_script_that_forgets_to_close_ends_and_leaves_the_group(broker: Hosted) -> None:
    process = script(broker, FORGOTTEN)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, err) == (0, "polled\n", "")
    assert broker.groups["g"].members == {}


def test_many_threads_may_send(broker: Hosted) -> None:
    with Producer(broker.address) as producer:
        threads = [
            threading.Thread(target=lambda: [producer.send("t", b"v", partition=0) for _ in range(2_000)])
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        producer.flush()
        assert producer.stats.records_acked == 6_000


def test_a_full_buffer_is_told_and_the_rest_goes_through(broker: Hosted) -> None:
    with Producer(broker.address, buffer_memory=2_000, max_block_ms=20_000) as producer:
        for _ in range(500):
            producer.send("t", b"v" * 100, partition=0)
        producer.flush()
    assert len(broker.values("t")) == 500


def test_the_loop_is_of_no_use_once_nobody_holds_it() -> None:
    thread = LoopThread()
    thread.acquire()
    other = LoopThread()
    other.acquire()

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    thread.release()
    thread.release()
    assert other.run(answer) == 42
    other.release()
    assert not [each for each in threading.enumerate() if "glasslog" in each.name]
