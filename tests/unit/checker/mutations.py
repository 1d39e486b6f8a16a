"""Ways to break an honest history, each of which must show as its anomaly. Refuses to know the checker.

Each takes a history apart and returns a broken one, or nothing where it has no place to do it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random

from glasslog.checker.operations import UNKNOWN_OFFSET, Acks, History, Outcome, Poll, Send, Step, Transfer

Records = list[tuple[int, str]]
Mutation = Callable[[History, Random], History | None]


def transfers(history: History) -> list[Transfer]:
    return [each for each in history.operations if isinstance(each, Transfer)]


def replaced(history: History, *changed: Transfer) -> History:
    by_index = {each.index: each for each in changed}
    operations = [by_index.get(each.index, each) for each in history.operations]
    return History(operations=operations, end=history.end)


def with_records(transfer: Transfer, change: Callable[[str, Records], Records]) -> Transfer:
    """Every poll of an operation with its records of each key changed."""
    steps: list[Step] = [
        step
        if isinstance(step, Send)
        else Poll({key: tuple(change(key, list(records))) for key, records in step.records.items()})
        for step in transfer.steps
    ]
    return replace(transfer, steps=tuple(steps))


def drain_of(history: History) -> Transfer:
    (drain,) = (each for each in transfers(history) if each.is_drain)
    return drain


def in_drain(history: History, key: str, change: Callable[[Records], Records]) -> History:
    changed = with_records(
        drain_of(history), lambda each, records: change(records) if each == key else records
    )
    return replaced(history, changed)


def drained(history: History) -> Iterator[tuple[str, Records]]:
    for poll in drain_of(history).polls():
        for key, records in poll.records.items():
            yield key, list(records)


def promised(history: History) -> dict[tuple[str, str], Transfer]:
    """The writers of values that must survive."""
    return {
        (send.key, send.value): transfer
        for transfer in transfers(history)
        if transfer.outcome is Outcome.OK and transfer.acks is Acks.ALL
        for send in transfer.sends()
        if send.offset != UNKNOWN_OFFSET
    }


def chosen(random: Random, candidates: Sequence[History]) -> History | None:
    return random.choice(candidates) if candidates else None


def _without(history: History, key: str, value: str) -> History:
    def change(each: str, records: Records) -> Records:
        return [record for record in records if (each, record[1]) != (key, value)]

    return replaced(history, *(with_records(transfer, change) for transfer in transfers(history)))


def lose_from_the_middle(history: History, random: Random) -> History | None:
    must = promised(history)
    sites = [
        (key, value)
        for key, records in drained(history)
        for _, value in records[:-1]
        if (key, value) in must and sum(value == other for _, other in records) == 1
    ]
    return _without(history, *random.choice(sites)) if sites else None


def lose_the_last(history: History, random: Random) -> History | None:
    must = promised(history)
    sites = [(key, records[-1][1]) for key, records in drained(history) if records]
    sites = [site for site in sites if site in must]
    return _without(history, *random.choice(sites)) if sites else None


def forget_in_the_drain(history: History, random: Random) -> History | None:
    """What a consumer had read is cut off at the end of the log."""
    seen = {
        (key, *record)
        for transfer in transfers(history)
        if not transfer.is_drain
        for poll in transfer.polls()
        for key, records in poll.records.items()
        for record in records
    }
    sites = [key for key, records in drained(history) if records and (key, *records[-1]) in seen]
    return chosen(random, [in_drain(history, key, lambda records: records[:-1]) for key in sites])


def overwrite(history: History, random: Random) -> History | None:
    sites = [
        (key, place)
        for key, records in drained(history)
        for place, (offset, value) in enumerate(records)
        if (key, value) in promised(history)
    ]
    if not sites:
        return None
    key, place = random.choice(sites)
    return in_drain(
        history, key, lambda records: [*records[:place], (records[place][0], "other"), *records[place + 1 :]]
    )


def double(history: History, random: Random) -> History | None:
    must = promised(history)
    sites = [
        (key, value) for key, records in drained(history) for _, value in records if (key, value) in must
    ]
    if not sites:
        return None
    key, value = random.choice(sites)
    return in_drain(history, key, lambda records: [*records, (records[-1][0] + 1, value)])


def invent(history: History, random: Random) -> History | None:
    key, records = random.choice([*drained(history)])
    after = records[-1][0] + 1 if records else 0
    return in_drain(history, key, lambda records: [*records, (after, "ghost")])


def fail_a_writer(history: History, random: Random) -> History | None:
    read = {(key, value) for key, records in drained(history) for _, value in records}
    sites = [writer for site, writer in promised(history).items() if site in read]
    return chosen(random, [replaced(history, replace(writer, outcome=Outcome.FAIL)) for writer in sites])


def read_own_send(history: History, random: Random) -> History | None:
    changed = [
        replace(each, steps=(*each.steps, Poll({send.key: ((send.offset, send.value),)})))
        for each in transfers(history)
        if each.is_transaction
        for send in each.sends()
        if send.offset != UNKNOWN_OFFSET
    ]
    return chosen(random, [replaced(history, each) for each in changed])


def skip_within_a_poll(history: History, random: Random) -> History | None:
    sites = [key for key, records in drained(history) if len(records) > 2]
    candidates = [in_drain(history, key, lambda records: [records[0], *records[2:]]) for key in sites]
    # What nobody else holds on to is no longer known to have been there.
    must = promised(history)
    kept = [
        candidate
        for key, candidate in zip(sites, candidates, strict=True)
        if (key, dict(drained(history))[key][1][1]) in must
    ]
    return chosen(random, kept)


def go_back_within_a_poll(history: History, random: Random) -> History | None:
    sites = [key for key, records in drained(history) if records]
    return chosen(random, [in_drain(history, key, lambda records: [*records, records[0]]) for key in sites])


def _followed(history: History) -> Iterator[tuple[Transfer, Transfer, str]]:
    """Two polls of one consumer that follow each other in a key, with nothing else in between."""
    last: dict[tuple[str, str], Transfer] = {}
    for operation in history.operations:
        if not isinstance(operation, Transfer):
            last = {at: each for at, each in last.items() if at[0] != operation.process}
            continue
        if operation.is_transaction:
            continue
        for poll in operation.polls():
            for key, records in poll.records.items():
                if not records:
                    continue
                if (operation.process, key) in last:
                    yield last[operation.process, key], operation, key
                if operation.outcome is Outcome.OK:
                    last[operation.process, key] = operation


def _without_first(transfer: Transfer, key: str) -> Transfer:
    return with_records(transfer, lambda each, records: records[1:] if each == key else records)


def skip_between_polls(history: History, random: Random) -> History | None:
    must = promised(history)
    candidates = [
        replaced(history, _without_first(after, key))
        for _, after, key in _followed(history)
        for poll in after.polls()
        if len(poll.records.get(key, ())) > 1 and (key, poll.records[key][0][1]) in must
    ]
    return chosen(random, candidates)


def go_back_between_polls(history: History, random: Random) -> History | None:
    sites = [*_followed(history)]
    if not sites:
        return None
    before, after, key = random.choice(sites)
    again = next(poll.records[key][-1] for poll in before.polls() if poll.records.get(key))
    return replaced(
        history, with_records(after, lambda each, records: [again, *records] if each == key else records)
    )


def swap_two_sends(history: History, random: Random) -> History | None:
    """A producer says that it sent first what is behind in the log."""
    last: dict[tuple[str, str], Transfer] = {}
    sites: list[tuple[Transfer, Transfer]] = []
    for transfer in transfers(history):
        keys = {send.key for send in transfer.sends()}
        is_plain = transfer.outcome is Outcome.OK and transfer.is_idempotent and not transfer.polls()
        for key in sorted(keys) if is_plain else ():
            if (transfer.process, key) in last:
                sites.append((last[transfer.process, key], transfer))
            last[transfer.process, key] = transfer
    if not sites:
        return None
    first, second = random.choice(sites)
    return replaced(history, replace(first, steps=second.steps), replace(second, steps=first.steps))


def reverse_an_operation(history: History, random: Random) -> History | None:
    candidates = []
    for transfer in transfers(history):
        keys = [send.key for send in transfer.sends()]
        is_plain = transfer.outcome is Outcome.OK and transfer.is_idempotent
        if is_plain and len(keys) > len(set(keys)) and not transfer.polls():
            candidates.append(replaced(history, replace(transfer, steps=transfer.steps[::-1])))
    return chosen(random, candidates)


def read_the_future(history: History, random: Random) -> History | None:
    """A poll that had ended before a send began has read its value."""
    changed: list[Transfer] = []
    for (key, value), writer in promised(history).items():
        earlier = [
            each
            for each in transfers(history)
            if each.polls() and each.end_ms < writer.start_ms and each.outcome is Outcome.OK
        ]
        for reader in earlier[-1:]:
            offset = next(send.offset for send in writer.sends() if (send.key, send.value) == (key, value))
            changed.append(replace(reader, steps=(*reader.steps, Poll({key: ((offset, value),)}))))
    return chosen(random, [replaced(history, each) for each in changed])


MUTATIONS: tuple[tuple[Mutation, str], ...] = (
    (lose_from_the_middle, "lost-write"),
    (lose_from_the_middle, "unseen"),
    (lose_the_last, "unseen"),
    (forget_in_the_drain, "vanished"),
    (overwrite, "inconsistent-offsets"),
    (double, "duplicate"),
    (invent, "never-sent"),
    (fail_a_writer, "G1a"),
    (read_own_send, "precommitted-read"),
    (skip_within_a_poll, "int-poll-skip"),
    (go_back_within_a_poll, "int-nonmonotonic-poll"),
    (skip_between_polls, "poll-skip"),
    (go_back_between_polls, "nonmonotonic-poll"),
    (swap_two_sends, "nonmonotonic-send"),
    (reverse_an_operation, "int-nonmonotonic-send"),
    (read_the_future, "G1c"),
)
"""What each mutation must show as."""
