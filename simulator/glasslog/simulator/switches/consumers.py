"""Bugs of consumers."""

from contextlib import AbstractContextManager

from glasslog.client.fetcher import Fetcher
from glasslog.simulator.switches.switch import Switch, patched
from glasslog.v1.broker_pb2 import FetchRequest


def _unnoticed_truncation() -> AbstractContextManager[None]:
    encode = vars(Fetcher)["_encode_one"]

    def encode_one(*arguments: object) -> FetchRequest.Partition:
        asked: FetchRequest.Partition = encode(*arguments)
        asked.ClearField("last_fetched_epoch")
        return asked

    return patched(Fetcher, "_encode_one", encode_one)


UNNOTICED_TRUNCATION = Switch(
    name="unnoticed-truncation",
    description="A consumer names only the offset it is at, not the epoch of what it read before.",
    origin="KIP-320",
    bug=_unnoticed_truncation,
    scenario="truncated-consumer",
    seeds=2,
)
