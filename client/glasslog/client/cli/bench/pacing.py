"""Sends at a steady rate, whatever happens, and notes when each record was acknowledged. Judges nothing."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from glasslog.client.producer import Producer
from glasslog.client.types import RecordMetadata
from glasslog.common.errors import GlasslogError

_TICK_S = 0.001


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One record's: partition, and times in seconds of a clock that only goes forward."""

    partition: int
    sent_s: float
    acked_s: float


class PacedSender:
    """Sends ``rate`` records a second to the partitions in turn until ``stop`` is set.

    A record's time begins when it is handed to the producer, and the rate never waits for answers.
    """

    def __init__(self, producer: Producer, *, topic: str, partitions: int, rate: int, value: bytes) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._rate = rate
        self._value = value
        self.acknowledged: list[Acknowledgement] = []
        self.failures: list[GlasslogError] = []

    async def send_for(self, duration_s: float) -> None:
        """Send for so long, then wait for the last acknowledgement. Raises the first ``GlasslogError``."""
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(duration_s, stop.set)
        await self.send_until(stop)

    async def send_until(self, stop: asyncio.Event) -> None:
        """As ``send_for``, until ``stop`` is set."""
        started, sent = time.perf_counter(), 0
        while not stop.is_set():
            due = int((time.perf_counter() - started) * self._rate)
            for number in range(sent, due):
                await self._send(number % self._partitions)
            sent = max(sent, due)
            await asyncio.sleep(_TICK_S)
        await self._producer.flush()
        if self.failures:
            raise self.failures[0]

    async def _send(self, partition: int) -> None:
        sent_s = time.perf_counter()
        delivery = await self._producer.send(self._topic, self._value, partition=partition)
        delivery.add_done_callback(self._noting(partition, sent_s))

    def _noting(self, partition: int, sent_s: float) -> Callable[[RecordMetadata | GlasslogError], None]:
        def note(outcome: RecordMetadata | GlasslogError) -> None:
            if isinstance(outcome, GlasslogError):
                self.failures.append(outcome)
            else:
                self.acknowledged.append(Acknowledgement(partition, sent_s, time.perf_counter()))

        return note
