"""What waits completes once: by its event, by a change of role, or by its deadline."""

from collections.abc import Sequence

from glasslog.broker.partition.partition import ByteLedger
from glasslog.broker.partition.purgatory import DelayedFetch, DelayedProduce, Purgatory
from glasslog.common.errors import ErrorCode
from hypothesis import given
from hypothesis import strategies as st

NONE, LATE = ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT


class Answers:
    """What was answered, in order."""

    def __init__(self) -> None:
        self.given: list[list[ErrorCode]] = []

    def __call__(self, errors: Sequence[ErrorCode]) -> None:
        self.given.append(list(errors))


def park_produce(
    purgatory: Purgatory[str], answers: Answers, *, deadline_ms: int = 100, **required: int
) -> DelayedProduce:
    operation = DelayedProduce(len(required), deadline_ms=deadline_ms, on_done=answers)
    for index, (name, offset) in enumerate(required.items()):
        purgatory.produces.watch(name, offset, operation, index)
    purgatory.park(operation)
    return operation


def new_purgatory(max_operations: int = 100) -> Purgatory[str]:
    return Purgatory(max_operations=max_operations)


def test_a_produce_waits_for_all_its_partitions() -> None:
    purgatory, answers = new_purgatory(), Answers()
    park_produce(purgatory, answers, a=5, b=7)
    purgatory.produces.complete_up_to("a", 4, NONE)
    purgatory.produces.complete_up_to("a", 5, NONE)
    assert answers.given == []
    purgatory.produces.complete_up_to("b", 9, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
    assert answers.given == [[NONE, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND]]
    purgatory.expire(1_000)
    assert len(answers.given) == 1


def test_what_is_late_times_out_and_the_rest_keeps_its_outcome() -> None:
    purgatory, answers = new_purgatory(), Answers()
    park_produce(purgatory, answers, a=5, b=7)
    purgatory.produces.complete_up_to("a", 5, NONE)
    assert purgatory.next_deadline_ms() == 100
    purgatory.expire(99)
    assert answers.given == []
    purgatory.expire(100)
    assert answers.given == [[NONE, LATE]]
    purgatory.produces.complete_up_to("b", 9, NONE)
    assert len(answers.given) == 1
    assert len(purgatory.produces) == 0
    assert purgatory.next_deadline_ms() is None


def test_a_timed_out_produce_does_not_hold_up_those_behind_it() -> None:
    purgatory, late, next_one = new_purgatory(), Answers(), Answers()
    park_produce(purgatory, late, deadline_ms=10, a=9, b=9)
    park_produce(purgatory, next_one, a=5)
    purgatory.expire(10)
    purgatory.produces.complete_up_to("a", 5, NONE)
    assert next_one.given == [[NONE]]


def test_a_change_of_role_answers_everybody() -> None:
    purgatory, answers, fetched = new_purgatory(), Answers(), []
    park_produce(purgatory, answers, a=5)
    fetch = DelayedFetch(1, deadline_ms=100, on_done=lambda: fetched.append("fetch"))
    purgatory.appended.watch("a", fetch, total_bytes=0)
    purgatory.park(fetch)
    purgatory.complete_all("a", ErrorCode.NOT_LEADER_OR_FOLLOWER)
    assert answers.given == [[ErrorCode.NOT_LEADER_OR_FOLLOWER]]
    assert fetched == ["fetch"]


def test_a_fetch_counts_the_bytes_of_all_its_partitions() -> None:
    purgatory, done = new_purgatory(), []
    fetch = DelayedFetch(100, deadline_ms=50, on_done=lambda: done.append(1))
    purgatory.committed.watch("a", fetch, total_bytes=1_000)
    purgatory.committed.watch("b", fetch, total_bytes=0)
    purgatory.committed.on_readable("a", total_bytes=1_060)
    purgatory.committed.on_readable("a", total_bytes=1_060)
    assert not done
    purgatory.committed.on_readable("b", total_bytes=40)
    assert done == [1]
    purgatory.committed.on_readable("b", total_bytes=80)
    purgatory.expire(50)
    assert done == [1]


def test_a_cancelled_fetch_is_never_answered() -> None:
    purgatory, done = new_purgatory(), []
    fetch = DelayedFetch(1, deadline_ms=50, on_done=lambda: done.append(1))
    purgatory.appended.watch("a", fetch, total_bytes=0)
    purgatory.park(fetch)
    fetch.cancel()
    purgatory.appended.on_readable("a", total_bytes=10)
    purgatory.expire(50)
    assert not done


def test_the_number_of_those_who_wait_is_bounded() -> None:
    purgatory, answers = new_purgatory(max_operations=3), Answers()
    for offset in range(1, 4):
        assert not purgatory.is_full
        park_produce(purgatory, answers, a=offset)
    assert purgatory.is_full
    purgatory.produces.complete_up_to("a", 1, NONE)
    assert not purgatory.is_full


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(1, 40)), min_size=1, max_size=30),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), max_size=30),
)
def test_everything_completes_exactly_once(
    parked: list[tuple[int, int, int]], events: list[tuple[str, int]]
) -> None:
    purgatory = new_purgatory()
    all_answers = []
    reached = {"a": 0, "b": 0}
    for first, second, deadline_ms in parked:
        answers = Answers()
        all_answers.append((answers, first, second))
        park_produce(purgatory, answers, deadline_ms=deadline_ms, a=first, b=second)
    for now_ms, (name, offset) in enumerate(events):
        reached[name] = max(reached[name], offset)
        purgatory.produces.complete_up_to(name, reached[name], NONE)
        purgatory.expire(now_ms)
    for answers, first, second in all_answers:
        assert len(answers.given) <= 1
        if answers.given == [[NONE, NONE]]:
            assert first <= reached["a"]
            assert second <= reached["b"]
    purgatory.expire(1_000)
    assert all(len(answers.given) == 1 for answers, _, _ in all_answers)


def test_the_ledger_knows_committed_bytes_exactly() -> None:
    ledger = ByteLedger()
    for end in range(1, 11):
        ledger.on_append(end, 10)
    ledger.on_high_watermark(4)
    assert (ledger.appended, ledger.committed) == (100, 40)
    ledger.on_high_watermark(10)
    assert ledger.committed == 100


def test_the_ledger_stays_small_while_the_high_watermark_stands_still() -> None:
    ledger = ByteLedger()
    for end in range(1, 5_001):
        ledger.on_append(end, 1)
    ledger.on_high_watermark(4_999)
    assert ledger.committed <= 4_999
    ledger.on_high_watermark(5_000)
    assert ledger.committed == 5_000
