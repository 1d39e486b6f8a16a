"""Both sides of incremental fetch sessions (KIP-227), alone and against each other."""

from itertools import count

from glasslog.broker.partition.fetch_session import (
    EVICTABLE_AFTER_MS,
    NO_SESSION,
    FetchContext,
    FetchSession,
    FetchSessionCache,
    FullFetch,
    IncrementalFetch,
    RefusedFetch,
    Told,
    next_epoch,
)
from glasslog.broker.partition.fetch_session_handler import FetchSessionHandler, SessionRequest
from glasslog.broker.partition.reads import PartitionAsk, PartitionKey
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import TopicId
from hypothesis import given
from hypothesis import strategies as st

TOPIC = TopicId(b"topic-id-0000001")


def key(number: int) -> PartitionKey:
    return TOPIC, number


def ask(offset: int) -> PartitionAsk:
    return PartitionAsk(offset, 1000, 0, 0, 0)


def cache(slots: int = 10) -> FetchSessionCache:
    numbers = count(1)
    return FetchSessionCache(slots=slots, new_id=lambda: next(numbers))


def open_with(
    sessions: FetchSessionCache, request: SessionRequest, *, is_replica: bool = True, now_ms: int = 0
) -> FetchContext:
    return sessions.open(
        session_id=request.session_id,
        session_epoch=request.session_epoch,
        asks=request.asks,
        forgotten=request.forgotten,
        is_replica=is_replica,
        now_ms=now_ms,
    )


def full(number: int = 0) -> SessionRequest:
    return SessionRequest(session_id=0, session_epoch=0, asks={key(number): ask(0)}, forgotten=())


def session_of(context: FetchContext) -> FetchSession:
    assert isinstance(context, FullFetch | IncrementalFetch)
    assert context.session is not None
    return context.session


def test_only_news_is_told() -> None:
    session = session_of(open_with(cache(), full()))
    assert session.is_news(key(0), Told(5, 0), has_records=False, is_answer=False)
    assert not session.is_news(key(0), Told(5, 0), has_records=False, is_answer=False)
    assert session.is_news(key(0), Told(5, 0), has_records=True, is_answer=False)
    assert session.is_news(key(0), Told(6, 0), has_records=False, is_answer=False)
    assert session.is_news(key(0), Told(6, 1), has_records=False, is_answer=False)
    assert session.is_news(key(0), Told(6, 1), has_records=False, is_answer=True)
    assert session.is_news(key(0), Told(6, 1), has_records=False, is_answer=False)


def test_a_partition_that_gave_records_is_served_last_next_time() -> None:
    request = SessionRequest(
        session_id=0, session_epoch=0, asks={key(n): ask(0) for n in range(3)}, forgotten=()
    )
    news = session_of(open_with(cache(), request)).news
    assert list(news.pending) == [key(0), key(1), key(2)]
    news.settle(key(0), is_quiet=False, is_served=True)
    assert list(news.pending) == [key(1), key(2), key(0)]


def test_a_partition_that_could_give_more_keeps_its_turn_and_a_quiet_one_waits_for_news() -> None:
    request = SessionRequest(
        session_id=0, session_epoch=0, asks={key(n): ask(0) for n in range(3)}, forgotten=()
    )
    sessions = cache()
    session = session_of(open_with(sessions, request))
    session.news.settle(key(0), is_quiet=True, is_served=False)
    session.news.settle(key(1), is_quiet=False, is_served=False)
    session.news.settle(key(2), is_quiet=True, is_served=False)
    assert list(session.news.pending) == [key(1)]
    next_one = SessionRequest(
        session_id=session.session_id, session_epoch=1, asks={key(2): ask(5)}, forgotten=(key(1),)
    )
    open_with(sessions, next_one)
    assert list(session.news.pending) == [key(2)]


def test_an_unknown_session_and_a_wrong_epoch_are_refused() -> None:
    sessions = cache()
    first = session_of(open_with(sessions, full()))
    wrong_epoch = SessionRequest(session_id=first.session_id, session_epoch=7, asks={}, forgotten=())
    assert open_with(sessions, wrong_epoch) == RefusedFetch(error=ErrorCode.INVALID_FETCH_SESSION_EPOCH)
    unknown = SessionRequest(session_id=99, session_epoch=1, asks={}, forgotten=())
    assert open_with(sessions, unknown) == RefusedFetch(error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)


def test_a_full_request_closes_the_session_it_names() -> None:
    sessions = cache()
    first = session_of(open_with(sessions, full()))
    again = SessionRequest(session_id=first.session_id, session_epoch=0, asks={key(0): ask(0)}, forgotten=())
    second = session_of(open_with(sessions, again))
    assert second.session_id != first.session_id
    assert len(sessions) == 1
    final = SessionRequest(session_id=second.session_id, session_epoch=-1, asks={}, forgotten=())
    assert open_with(sessions, final) == FullFetch(session=None)
    assert len(sessions) == 0


def test_the_cache_is_bounded_and_replicas_come_first() -> None:
    sessions = cache(slots=2)
    consumer = session_of(open_with(sessions, full(), is_replica=False))
    session_of(open_with(sessions, full(), is_replica=True))
    assert open_with(sessions, full(), is_replica=False) == FullFetch(session=None)
    session_of(open_with(sessions, full(), is_replica=True))
    gone = SessionRequest(session_id=consumer.session_id, session_epoch=1, asks={}, forgotten=())
    assert isinstance(open_with(sessions, gone), RefusedFetch)
    assert open_with(sessions, full(), is_replica=True) == FullFetch(session=None)
    late = open_with(sessions, full(), is_replica=False, now_ms=EVICTABLE_AFTER_MS)
    assert session_of(late).session_id
    assert len(sessions) == 2


def test_epochs_go_round_without_touching_the_one_that_opens() -> None:
    assert next_epoch(0) == 1
    assert next_epoch(0x7FFF_FFFF) == 1


def test_the_handler_names_only_what_changed() -> None:
    handler = FetchSessionHandler()
    handler.want(key(0), ask(0))
    handler.want(key(1), ask(0))
    first = handler.next_request(0)
    assert (first.session_epoch, set(first.asks)) == (0, {key(0), key(1)})
    assert not handler.is_established
    handler.on_response(0, session_id=7, error=ErrorCode.NONE)
    handler.want(key(1), ask(5))
    handler.want(key(0), ask(0))
    handler.forget(key(0))
    second = handler.next_request(1)
    assert (second.session_id, second.session_epoch) == (7, 1)
    assert (dict(second.asks), second.forgotten) == ({key(1): ask(5)}, (key(0),))
    assert not handler.has_changes


def test_a_partition_forgotten_and_wanted_again_is_named() -> None:
    handler = FetchSessionHandler()
    handler.want(key(0), ask(0))
    handler.next_request(0)
    handler.on_response(0, session_id=7, error=ErrorCode.NONE)
    handler.forget(key(0))
    handler.want(key(0), ask(0))
    request = handler.next_request(1)
    assert (dict(request.asks), request.forgotten) == ({key(0): ask(0)}, ())


def test_answers_to_a_session_given_up_are_ignored() -> None:
    """Two requests were under way when the leader had lost the session: the second refusal must not end the
    new session that the first one led to."""
    handler = FetchSessionHandler()
    handler.want(key(0), ask(0))
    handler.next_request(0)
    handler.on_response(0, session_id=7, error=ErrorCode.NONE)
    handler.next_request(1)
    handler.next_request(2)
    assert handler.on_response(1, session_id=0, error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    assert handler.next_request(3).session_epoch == 0
    assert not handler.on_response(2, session_id=0, error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    assert handler.on_response(3, session_id=8, error=ErrorCode.NONE)
    assert (handler.next_request(4).session_id, handler.is_established) == (8, True)


def test_a_leader_without_room_is_asked_fully_each_time() -> None:
    handler = FetchSessionHandler()
    handler.want(key(0), ask(0))
    handler.next_request(0)
    handler.on_response(0, session_id=NO_SESSION, error=ErrorCode.NONE)
    assert not handler.is_established
    assert set(handler.next_request(1).asks) == {key(0)}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("want"), st.integers(0, 4), st.integers(0, 9)),
            st.tuples(st.just("forget"), st.integers(0, 4), st.just(0)),
            st.tuples(st.just("send"), st.just(0), st.just(0)),
            st.tuples(st.just("lose"), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_leader_and_fetcher_agree_on_what_is_fetched(steps: list[tuple[str, int, int]]) -> None:
    sessions, handler = cache(), FetchSessionHandler()
    wanted: dict[PartitionKey, PartitionAsk] = {}
    for number, (step, partition, offset) in enumerate([*steps, ("send", 0, 0), ("send", 0, 0)]):
        match step:
            case "want":
                wanted[key(partition)] = ask(offset)
                handler.want(key(partition), ask(offset))
            case "forget":
                wanted.pop(key(partition), None)
                handler.forget(key(partition))
            case "lose":
                sessions = cache()
            case _ if wanted:
                context = open_with(sessions, handler.next_request(number))
                if isinstance(context, RefusedFetch):
                    handler.on_response(number, session_id=0, error=context.error)
                else:
                    session = session_of(context)
                    handler.on_response(number, session_id=session.session_id, error=ErrorCode.NONE)
                    assert session.partitions == wanted


def test_a_partition_asked_for_anew_is_mentioned_again() -> None:
    """A fetcher that has two requests under way drops an answer that does not fit its log any more, and with
    it a high watermark that the leader then counted as told: the follower's stood still until the next one.
    """
    session = session_of(open_with(cache(), full()))
    told = Told(5, 0)
    assert session.is_news(key(0), told, has_records=False, is_answer=False)
    assert not session.is_news(key(0), told, has_records=False, is_answer=False)
    session.update({key(0): ask(5)}, ())
    assert session.is_news(key(0), told, has_records=False, is_answer=False)
