"""Anomalies of single values: where they are, who read them, and what became of their writers.

Refuses to know the order of operations.
"""

from collections.abc import Iterator

from glasslog.checker.anomalies import Anomaly, Kind, indices
from glasslog.checker.logs import KeyLog, Logs
from glasslog.checker.operations import UNKNOWN_OFFSET, Acks, Outcome, Send, Transfer

_AT_LEAST_ONCE = "its producer was not idempotent"


def check_values(logs: Logs) -> Iterator[Anomaly]:
    """Partition by partition, then what needs the final drain."""
    for key, log in logs:
        yield from _inconsistent_offsets(key, log)
        yield from _duplicates(key, log)
        yield from _never_sent(key, log)
        yield from _lost_writes(key, log, logs)
        yield from _unseen(key, log)
    yield from _aborted_reads(logs)
    yield from _precommitted_reads(logs)
    yield from _vanished(logs)
    yield from _unseen_by_groups(logs)


def _writers(log: KeyLog, *values: str) -> list[Transfer]:
    return [log.writers[value][0] for value in values if value in log.writers]


def _inconsistent_offsets(key: str, log: KeyLog) -> Iterator[Anomaly]:
    for offset in sorted(log.values_at):
        values = tuple(log.values_at[offset])
        if len(values) > 1:
            yield Anomaly(
                kind=Kind.INCONSISTENT_OFFSETS,
                key=key,
                detail=f"offset {offset} holds {' and '.join(values)}",
                values=values,
                offsets=(offset,),
                operations=indices(_writers(log, *values)),
            )


def _duplicates(key: str, log: KeyLog) -> Iterator[Anomaly]:
    for value, offsets in log.offsets_of.items():
        if len(offsets) > 1:
            writers = _writers(log, value)
            is_careless = any(not writer.is_idempotent for writer in writers)
            yield Anomaly(
                kind=Kind.DUPLICATE,
                key=key,
                detail=f"{value} is at offsets {', '.join(map(str, offsets))}",
                values=(value,),
                offsets=tuple(offsets),
                operations=indices(writers),
                allowed=_AT_LEAST_ONCE if is_careless else "",
            )


def _never_sent(key: str, log: KeyLog) -> Iterator[Anomaly]:
    for value, offsets in log.offsets_of.items():
        if value not in log.writers:
            yield Anomaly(
                kind=Kind.NEVER_SENT,
                key=key,
                detail=f"{value} at offset {offsets[0]} was never sent there",
                values=(value,),
                offsets=tuple(offsets),
                operations=indices([log.read_ok[value]] if value in log.read_ok else []),
            )


def _lost_writes(key: str, log: KeyLog, logs: Logs) -> Iterator[Anomaly]:
    bound, reader = -1, None
    for value, transfer in log.read_ok.items():
        index = log.first_index(value)
        if index is not None and index > bound:
            bound, reader = index, transfer
    for value, (writer, send) in log.writers.items():
        last = log.last_index(value)
        if value in log.read_ok or last is None or last > bound or reader is None:
            continue
        if logs.must_have_committed(writer, send):
            highest = max(log.offsets_of[log.by_index[bound]])
            what = f"{value}, {_place(send)}, was never read"
            yield Anomaly(
                kind=Kind.LOST_WRITE,
                key=key,
                detail=f"{what}, but offset {highest} was, by {reader.process}",
                values=(value,),
                offsets=tuple(log.offsets_of[value]),
                operations=indices((writer, reader)),
            )


def _place(send: Send) -> str:
    return "acknowledged" if send.offset == UNKNOWN_OFFSET else f"acknowledged at offset {send.offset}"


def _unseen(key: str, log: KeyLog) -> Iterator[Anomaly]:
    for value, (writer, send) in log.writers.items():
        is_promised = writer.outcome is Outcome.OK and writer.acks is Acks.ALL
        if is_promised and value not in log.read_ok:
            yield Anomaly(
                kind=Kind.UNSEEN,
                key=key,
                detail=f"{value}, {_place(send)}, was never read",
                values=(value,),
                offsets=() if send.offset == UNKNOWN_OFFSET else (send.offset,),
                operations=(writer.index,),
            )


def _aborted_reads(logs: Logs) -> Iterator[Anomaly]:
    for key, log in logs:
        for value, reader in log.read_ok.items():
            writer = log.writers.get(value)
            if writer is not None and writer[0].outcome is Outcome.FAIL:
                yield Anomaly(
                    kind=Kind.ABORTED_READ,
                    key=key,
                    detail=f"{value} was read by {reader.process}, but {writer[0].process} failed to send it",
                    values=(value,),
                    offsets=tuple(log.offsets_of[value]),
                    operations=indices((writer[0], reader)),
                )


def _precommitted_reads(logs: Logs) -> Iterator[Anomaly]:
    for transfer in logs.transfers:
        if not transfer.is_transaction:
            continue
        own = {(send.key, send.value) for send in transfer.sends()}
        for poll in transfer.polls():
            for key, records in poll.records.items():
                for offset, value in records:
                    if (key, value) in own:
                        yield Anomaly(
                            kind=Kind.PRECOMMITTED_READ,
                            key=key,
                            detail=f"{transfer.process} read {value} in the transaction that sent it",
                            values=(value,),
                            offsets=(offset,),
                            operations=(transfer.index,),
                        )


def _vanished(logs: Logs) -> Iterator[Anomaly]:
    """Whatever one consumer read was committed, so the drain must find it at the same place."""
    end = logs.history.end
    drained = frozenset() if end is None else frozenset(end.drained)
    last = {
        (key, offset, value)
        for transfer in logs.transfers
        if transfer.is_drain
        for poll in transfer.polls()
        for key, records in poll.records.items()
        for offset, value in records
    }
    told: set[tuple[str, int, str]] = set()
    for transfer in logs.transfers:
        for poll in transfer.polls():
            for key, records in poll.records.items():
                for offset, value in records if key in drained else ():
                    what = (key, offset, value)
                    if what in last or what in told:
                        continue
                    told.add(what)
                    yield Anomaly(
                        kind=Kind.VANISHED,
                        key=key,
                        detail=f"{transfer.process} read {value} at offset {offset}, the final drain did not",
                        values=(value,),
                        offsets=(offset,),
                        operations=(transfer.index,),
                    )


def _unseen_by_groups(logs: Logs) -> Iterator[Anomaly]:
    end = logs.history.end
    for group in () if end is None else end.groups:
        read = {
            (key, value)
            for transfer in logs.transfers
            if transfer.group == group and transfer.outcome is Outcome.OK
            for poll in transfer.polls()
            for key, records in poll.records.items()
            for _, value in records
        }
        for key, log in logs:
            for value, (writer, send) in log.writers.items():
                is_promised = writer.outcome is Outcome.OK and writer.acks is Acks.ALL
                if is_promised and (key, value) not in read:
                    yield Anomaly(
                        kind=Kind.UNSEEN_BY_GROUP,
                        key=key,
                        detail=f"{value}, {_place(send)}, was never read by group {group}",
                        values=(value,),
                        operations=(writer.index,),
                    )
