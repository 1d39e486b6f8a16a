"""What a history tells about the partitions' logs: which values were seen at which offset, by whom.

The log of a key holds what any poll returned, even in a failed operation, and what must have committed.
Refuses to judge.
"""

from collections.abc import Iterator
from functools import cached_property

from glasslog.checker.operations import UNKNOWN_OFFSET, Acks, History, Outcome, Send, Transfer


class KeyLog:
    """One partition. Sets are dicts without values, so that their order is that of the history."""

    def __init__(self) -> None:
        self.values_at: dict[int, dict[str, None]] = {}
        self.offsets_of: dict[str, list[int]] = {}
        """By value, ascending once ``finish`` was called."""

        self.index_of: dict[int, int] = {}
        """The dense rank of each offset that holds something: transaction markers leave gaps."""

        self.read_ok: dict[str, Transfer] = {}
        """What ok polls read, and the first that did."""

        self.writers: dict[str, tuple[Transfer, Send]] = {}

    def note(self, offset: int, value: str) -> None:
        values = self.values_at.setdefault(offset, {})
        if value not in values:
            values[value] = None
            self.offsets_of.setdefault(value, []).append(offset)

    def finish(self) -> None:
        for offsets in self.offsets_of.values():
            offsets.sort()
        self.index_of = {offset: index for index, offset in enumerate(sorted(self.values_at))}

    def first_index(self, value: str) -> int | None:
        offsets = self.offsets_of.get(value)
        return None if offsets is None else self.index_of[offsets[0]]

    def last_index(self, value: str) -> int | None:
        offsets = self.offsets_of.get(value)
        return None if offsets is None else self.index_of[offsets[-1]]

    @cached_property
    def by_index(self) -> list[str]:
        """One value for each index; the first seen where there are several."""
        return [next(iter(self.values_at[offset])) for offset in sorted(self.values_at)]


class Logs:
    """All partitions of a history, and who wrote what."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.transfers = [each for each in history.operations if isinstance(each, Transfer)]
        self.by_key: dict[str, KeyLog] = {}
        for transfer in self.transfers:
            self._note_polls(transfer)
        for transfer in self.transfers:
            self._note_sends(transfer)
        for log in self.by_key.values():
            log.finish()

    def of(self, key: str) -> KeyLog:
        found = self.by_key.get(key)
        if found is None:
            found = self.by_key[key] = KeyLog()
        return found

    def __iter__(self) -> Iterator[tuple[str, KeyLog]]:
        return iter(sorted(self.by_key.items()))

    def must_have_committed(self, transfer: Transfer, send: Send) -> bool:
        """Acknowledged by all; or perhaps done, and an ok poll read it (or its transaction's other sends)."""
        match transfer.outcome:
            case Outcome.FAIL:
                return False
            case Outcome.OK if transfer.acks is Acks.ALL:
                return True
            case _:
                together = transfer.sends() if transfer.is_transaction else [send]
                return any(each.value in self.of(each.key).read_ok for each in together)

    def _note_polls(self, transfer: Transfer) -> None:
        is_ok = transfer.outcome is Outcome.OK
        for poll in transfer.polls():
            for key, records in poll.records.items():
                log = self.of(key)
                for offset, value in records:
                    log.note(offset, value)
                    if is_ok:
                        log.read_ok.setdefault(value, transfer)

    def _note_sends(self, transfer: Transfer) -> None:
        for send in transfer.sends():
            log = self.of(send.key)
            log.writers[send.value] = (transfer, send)
            is_known = send.offset != UNKNOWN_OFFSET and transfer.acks is Acks.ALL
            if is_known and self.must_have_committed(transfer, send):
                log.note(send.offset, send.value)
