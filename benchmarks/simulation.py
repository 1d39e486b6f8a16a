"""How fast the simulator is: virtual seconds per second of processor time, in one process.

Three controllers and three brokers under a steady load, and the drawn mix of faults that CI runs.
Knows the simulator by what it is asked for.
"""

import asyncio
import time
from collections.abc import Sequence

from glasslog.common.ids import TopicPartition
from glasslog.simulator.clients import RecordingConsumer, RecordingProducer
from glasslog.simulator.request import Request
from glasslog.simulator.run import run as run_simulation
from glasslog.simulator.scenarios.scenario import Scenario
from glasslog.simulator.stage import Stage

from benchmarks.report import Figure, Line

_PARTITIONS = 3
_PRODUCERS = 2
_PAUSE_MS = 100
_LOAD_MS, _QUICK_LOAD_MS = 30_000, 3_000
_SEEDS, _QUICK_SEEDS = 12, 2
_FAULTY_MS, _QUICK_FAULTY_MS = 30_000, 2_000


def run(*, quick: bool) -> Sequence[Line]:
    """The steady load first, then drawn seeds."""
    load_ms = _QUICK_LOAD_MS if quick else _LOAD_MS
    faulty_ms = _QUICK_FAULTY_MS if quick else _FAULTY_MS
    steady = [Request(seed=1, scenario=_steady(load_ms))]
    drawn = [Request(seed=seed, faulty_ms=faulty_ms) for seed in range(_QUICK_SEEDS if quick else _SEEDS)]
    records_per_s = _PRODUCERS * 1000 // _PAUSE_MS
    return [
        Figure(
            what="3 controllers, 3 brokers, steady load",
            value=_speed(steady),
            unit="virtual s/s",
            aim=">= 20",
            note=f"{records_per_s} records/s with acks=all, each a batch of its own, read by two consumers",
        ),
        Figure(
            what=f"drawn clusters and faults, {len(drawn)} seeds of {faulty_ms / 1000:g} s",
            value=_speed(drawn),
            unit="virtual s/s",
            aim=">= 8",
            note="200 seeds in under 8 minutes on two cores",
        ),
    ]


def _speed(requests: Sequence[Request]) -> float:
    virtual_s = 0.0
    began = time.process_time()
    for request in requests:
        outcome = run_simulation(request)
        if outcome.failure:
            raise RuntimeError(f"{request.command()}: {outcome.failure}")
        virtual_s += outcome.virtual_ms / 1000
    return virtual_s / (time.process_time() - began)


def _steady(load_ms: int) -> Scenario:
    async def script(stage: Stage) -> None:
        partitions = await stage.create_topic("kept", partitions=_PARTITIONS)
        alone = stage.clients.consumer("alone")
        alone.assign(partitions)
        readers = [stage.clients.consumer("member", "kept", group="readers"), alone]
        work = [asyncio.create_task(_read(reader)) for reader in readers]
        async with asyncio.TaskGroup() as group:
            for number in range(_PRODUCERS):
                producer = stage.clients.producer(f"producer-{number}")
                group.create_task(_write(stage, producer, partitions, load_ms))
        for task, reader in zip(work, readers, strict=True):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await reader.consumer.close()

    return Scenario(name="steady", description="A steady load and no fault.", origin="", script=script)


async def _write(
    stage: Stage, producer: RecordingProducer, partitions: Sequence[TopicPartition], load_ms: int
) -> None:
    async with producer:
        for _ in range(load_ms // _PAUSE_MS):
            await producer.send(stage.random.choice(partitions))
            await stage.wait(stage.random.uniform(0, 2 * _PAUSE_MS))
        await producer.flush()


async def _read(reader: RecordingConsumer) -> None:
    await reader.consumer.start()
    while True:
        await reader.poll(timeout_ms=500)
