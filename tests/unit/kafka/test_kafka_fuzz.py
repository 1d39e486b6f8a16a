"""Requests of every type and version, sound and damaged, against a whole broker on virtual time.

Each is answered in its own layout or closes its connection; the rest of the broker is none the worse.
``FUZZ_INPUTS`` in the environment says how many are tried: a hundred thousand where ``CI`` is set, for about
a minute of a core; fewer elsewhere.
"""

import asyncio
import os
import random
from collections import Counter

import pytest
from glasslog.broker.kafka import fetch, produce
from glasslog.broker.kafka.codec import INT32, Reader
from glasslog.broker.kafka.headers import encode_request_header
from glasslog.common.runtime.protocols import FrameConnection

from tests.unit.broker_shell.test_broker_server import HOST, Started, run
from tests.unit.kafka.kafka_messages import LAYOUTS, random_message
from tests.unit.kafka.test_kafka_data_codecs import fetch_request, kafka_python, produce_request

SEEDS = 10
INPUTS = int(os.environ.get("FUZZ_INPUTS", "100000" if "CI" in os.environ else "5000")) // SEEDS
"""Of each seed."""
_EXTREMES = (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff\xff\xff\xff\x0f")


class Client:
    """Keeps the last frame it got."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.is_closed = False
        self.event = asyncio.Event()

    def on_frame(self, frame: memoryview) -> None:
        self.frames.append(bytes(frame))
        self.event.set()

    def on_closed(self, error: Exception | None) -> None:
        self.is_closed = True
        self.event.set()


class Sound:
    """Random requests that are as they should be."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._produce = kafka_python("producer", "ProduceRequest")
        self._fetch = kafka_python("consumer.fetch", "FetchRequest")
        self._kinds = [*sorted(LAYOUTS), "Produce", "Fetch"]

    def next(self) -> tuple[str, int, bytes]:
        """Name, version and body."""
        chance = self._chance
        name = chance.choice(self._kinds)
        if name == "Produce":
            version = chance.randrange(produce.MIN_VERSION, produce.MAX_VERSION + 1)
            return name, version, produce_request(version, self._produce)
        if name == "Fetch":
            version = chance.randrange(fetch.MIN_VERSION, fetch.MAX_VERSION + 1)
            return name, version, fetch_request(version, self._fetch)
        layout = LAYOUTS[name]
        version = chance.randrange(layout.min_version, layout.max_version + 1)
        message = random_message(layout.request, version, chance)
        return name, version, bytes(layout.encode_request(message, version))


def header(name: str, version: int, number: int) -> bytes:
    key = {"Produce": produce.API_KEY, "Fetch": fetch.API_KEY}.get(name)
    flexible_from = {"Produce": produce.FLEXIBLE_FROM, "Fetch": fetch.FLEXIBLE_FROM}.get(name)
    if key is None or flexible_from is None:
        key, flexible_from = LAYOUTS[name].key, LAYOUTS[name].flexible_from
    whole = encode_request_header(key, version, correlation_id=number, client_id="fuzz")
    return whole if version >= flexible_from else whole[:-1]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Some bytes are others, a number is extreme, or the end is missing."""
    changed = bytearray(data)
    match chance.randrange(4):
        case 0:
            return data[: chance.randrange(len(data) + 1)]
        case 1:
            position = chance.randrange(len(data))
            extreme = chance.choice(_EXTREMES)
            changed[position : position + len(extreme)] = extreme
        case 2:
            for _ in range(chance.randrange(1, 5)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
        case _:
            position = chance.randrange(len(data))
            changed[position:position] = chance.randbytes(chance.randrange(1, 9))
    return bytes(changed)


def check_answer(name: str, version: int, number: int, frame: bytes) -> None:
    """An answer to a sound request has its number and its layout."""
    assert INT32.unpack_from(frame)[0] == number
    if name in LAYOUTS:
        layout = LAYOUTS[name]
        body = frame[5 if version >= layout.flexible_from else 4 :]
        reader = Reader(memoryview(body))
        layout.decode_response(reader, version)
        assert reader.left_bytes == 0


async def dialled(started: Started) -> tuple[FrameConnection, Client]:
    client = Client()
    transport = started.world.runtime("client").transport
    connection = await transport.dial_frames(
        f"{HOST}:9092", client, timeout_ms=1_000, max_frame_bytes=1 << 24
    )
    return connection, client


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_every_request_is_answered_or_closes_its_connection(seed: int) -> None:
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()

    async def scenario(started: Started) -> None:
        _, task = await started.ready()
        sound = Sound(chance)
        connection, client = await dialled(started)
        for number in range(INPUTS):
            name, version, body = sound.next()
            is_damaged = chance.random() < 0.7
            head = header(name, version, number)
            whole = head + body
            frame = damaged(whole, chance) if is_damaged else whole
            client.event.clear()
            client.frames.clear()
            connection.send((frame,))
            try:
                async with asyncio.timeout(0.5):
                    await client.event.wait()
            except TimeoutError:
                # A damaged one may wait for long, or be a Produce that wants no answer.
                assert is_damaged or name == "Fetch", (name, version, body)
                client.is_closed = True
                outcomes["waits"] += 1
            assert not task.done()
            if client.frames and not is_damaged:
                check_answer(name, version, number, client.frames[0])
            outcomes["answered" if client.frames else "closed"] += 1
            outcomes[name] += 1
            if client.is_closed:
                assert is_damaged or name == "Fetch", (name, version, body)
                connection.close()
                connection, client = await dialled(started)
        await well_behaved(started)

    run(scenario)
    assert min(outcomes["answered"], outcomes["closed"]) > INPUTS // 5
    assert len(outcomes) > len(LAYOUTS)


async def well_behaved(started: Started) -> None:
    """Another client is served as if nothing had been."""
    connection, client = await dialled(started)
    connection.send((encode_request_header(18, 0, correlation_id=7, client_id="other")[:-1],))
    async with asyncio.timeout(1):
        await client.event.wait()
    assert INT32.unpack_from(client.frames[0])[0] == 7
