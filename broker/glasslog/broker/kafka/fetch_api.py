"""Kafka's Fetch as a listener serves it: sessions around the broker's one way of fetching.

This module knows how a wire request becomes reads and what of their outcome an incremental answer mentions;
it refuses to know logs and roles.  Only registered brokers may fetch as replicas, each in its newest
incarnation (KIP-903).
"""

from collections.abc import Callable, Sequence

from glasslog.broker.client_quotas import NOT_THROTTLED, ClientQuotas, Throttled
from glasslog.broker.fetch_path import FetchPath, FetchTerms, Target
from glasslog.broker.kafka.connection import Api, RequestCall
from glasslog.broker.kafka.fetch import (
    API_KEY,
    FLEXIBLE_FROM,
    IDS_FROM,
    MAX_VERSION,
    MIN_VERSION,
    FetchAnswer,
    FetchCall,
    PartitionAnswer,
    decode_request,
    encode_response,
)
from glasslog.broker.kafka.node_addresses import NodeAddress, addresses_of
from glasslog.broker.partition.fetch_session import (
    NO_SESSION,
    FetchSession,
    FetchSessionCache,
    FullFetch,
    IncrementalFetch,
    RefusedFetch,
    Told,
)
from glasslog.broker.partition.purgatory import DelayedFetch
from glasslog.broker.partition.reads import PartitionAsk, PartitionKey, ReadOutcome
from glasslog.broker.replicas import Replicas
from glasslog.broker.requests import ANY_REPLICA, Consumer, Follower, IsolationLevel
from glasslog.broker.session_visit import SessionVisit
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.ids import NO_BROKER_EPOCH, NO_NODE, NodeId, TopicPartition

_MAX_SESSION_ID = 0x7FFF_FFFF


class FetchApi:
    """See the module."""

    def __init__(self, *, replicas: Replicas, path: FetchPath, quotas: ClientQuotas) -> None:
        self._replicas = replicas
        self._quotas = quotas
        self._path = path
        random = replicas.runtime.random
        self._followers: dict[NodeId, Follower] = {}
        self.sessions = FetchSessionCache(
            slots=replicas.config.max_incremental_fetch_session_cache_slots,
            new_id=lambda: random.randrange(_MAX_SESSION_ID) + 1,
        )

    def api(self) -> Api:
        """What the listener is given."""
        return Api(
            key=API_KEY,
            name="Fetch",
            min_version=MIN_VERSION,
            max_version=MAX_VERSION,
            flexible_from=FLEXIBLE_FROM,
            handle=self.handle,
        )

    def handle(self, call: RequestCall) -> None:
        """Answer one request, now or when there is something to tell."""
        request = decode_request(call.reader, call.header.api_version)
        error = self._check(request)
        if error is not ErrorCode.NONE:
            _respond(call, FetchAnswer(error, NO_SESSION, ()))
            return
        context = self.sessions.open(
            session_id=request.session_id,
            session_epoch=request.session_epoch,
            asks=request.asks,
            forgotten=request.forgotten,
            is_replica=request.replica_id not in (NO_NODE, ANY_REPLICA),
            now_ms=self._replicas.runtime.clock.now_ms(),
        )
        match context:
            case IncrementalFetch(session=session):
                if _is_mixed(session, call):
                    self.sessions.close(session.session_id)
                    _respond(call, FetchAnswer(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR, NO_SESSION, ()))
                else:
                    self._start(call, request, session, is_full=False)
            case RefusedFetch(error=refusal):
                _respond(call, FetchAnswer(refusal, NO_SESSION, ()))
            case FullFetch(session=None):
                self._start_listed(call, request)
            case FullFetch(session=FetchSession() as session):
                self._start(call, request, session, is_full=True)

    def _check(self, request: FetchCall) -> ErrorCode:
        """Whether whoever asks may ask at all."""
        if request.replica_id in (NO_NODE, ANY_REPLICA):
            return ErrorCode.NONE if request.isolation_level in (0, 1) else ErrorCode.INVALID_REQUEST
        broker = self._replicas.image.brokers.get(request.replica_id)
        if broker is None:
            return ErrorCode.BROKER_ID_NOT_REGISTERED
        if NO_BROKER_EPOCH < request.broker_epoch < broker.broker_epoch:
            return ErrorCode.STALE_BROKER_EPOCH
        return ErrorCode.NONE

    def _start_listed(self, call: RequestCall, request: FetchCall) -> None:
        keys, terms = list(request.asks), self._terms(request, call.client_id)

        def on_done(outcomes: Sequence[ReadOutcome]) -> None:
            throttled = self._throttle(call, terms, outcomes)
            if throttled.is_withheld:
                self._withhold(call, NO_SESSION, throttled)
            else:
                self._tell(call, _answer(keys, outcomes, None, is_full=True), throttled)

        source = self._path.listed(terms, [self._target(*each) for each in request.asks.items()])
        waiting = self._path.start(terms, source, on_done)
        if waiting is not None:
            self._let_wait(call, waiting, NO_SESSION, lambda: None)

    def _start(self, call: RequestCall, request: FetchCall, session: FetchSession, *, is_full: bool) -> None:
        terms = self._terms(request, call.client_id)
        visit = SessionVisit(session, replicas=self._replicas, terms=terms, find=self._target)

        def on_done(outcomes: Sequence[ReadOutcome]) -> None:
            throttled = self._throttle(call, terms, outcomes)
            if not throttled.is_withheld:
                visit.answered(outcomes)
                self._tell(call, _answer(visit.keys, outcomes, session, is_full=is_full), throttled)
                return
            visit.given_up()
            if is_full:
                self.sessions.close(session.session_id)
            self._withhold(call, NO_SESSION if is_full else session.session_id, throttled)

        waiting = self._path.start(terms, visit, on_done)
        if waiting is not None:
            self._let_wait(call, waiting, session.session_id, visit.given_up)

    def _let_wait(
        self, call: RequestCall, operation: DelayedFetch, session_id: int, on_given_up: Callable[[], None]
    ) -> None:
        def give_up() -> None:
            operation.cancel()
            on_given_up()

        def hurry() -> None:
            # Nothing rather than what there is: the request behind this one asks for the same records.
            give_up()
            _respond(call, FetchAnswer(ErrorCode.NONE, session_id, ()))

        call.hurry = hurry
        call.cancel = give_up

    def _throttle(self, call: RequestCall, terms: FetchTerms, outcomes: Sequence[ReadOutcome]) -> Throttled:
        """Replicas have throttles of their own, and what mends a log is not to wait either."""
        reader = terms.reader
        if isinstance(reader, Follower) or reader.any_replica:
            return NOT_THROTTLED
        throttled = NOT_THROTTLED
        if self._quotas.is_active:
            size_bytes = sum(len(outcome.records) for outcome in outcomes)
            throttled = self._quotas.fetched(call.client_id, size_bytes)
        return throttled._replace(delay_ms=call.throttle(throttled.delay_ms))

    def _withhold(self, call: RequestCall, session_id: int, throttled: Throttled) -> None:
        """Nothing for now: the client asks for the same again when it may."""
        _respond(call, FetchAnswer(ErrorCode.NONE, session_id, (), throttled.delay_ms))

    def _tell(self, call: RequestCall, answer: FetchAnswer, throttled: Throttled) -> None:
        nodes = self._leaders_of(answer, call.listener)
        if nodes or throttled.delay_ms:
            answer = answer._replace(nodes=nodes, throttle_time_ms=throttled.delay_ms)
        _respond(call, answer)

    def _terms(self, request: FetchCall, client_id: str) -> FetchTerms:
        reader: Consumer | Follower
        if request.replica_id in (NO_NODE, ANY_REPLICA):
            level = IsolationLevel(request.isolation_level)
            is_any = request.replica_id == ANY_REPLICA
            reader = Consumer(isolation_level=level, rack=request.rack, any_replica=is_any)
        else:
            reader = self._follower(request)
        max_bytes = request.max_bytes
        if self._quotas.is_active and isinstance(reader, Consumer):
            max_bytes = min(max_bytes, self._quotas.fetch_limit_bytes(client_id))
        return FetchTerms(reader, request.max_wait_ms, request.min_bytes, max_bytes)

    def _follower(self, request: FetchCall) -> Follower:
        known = self._followers.get(request.replica_id)
        if known is None or known.broker_epoch != request.broker_epoch:
            known = Follower(replica_id=request.replica_id, broker_epoch=request.broker_epoch)
            self._followers[request.replica_id] = known
        return known

    def _target(self, key: PartitionKey, ask: PartitionAsk) -> Target:
        topic, index = key
        if isinstance(topic, str):
            try:
                return ask, self._replicas.get(TopicPartition(topic, index))
            except GlasslogError as error:
                return ask, error
        partition = self._replicas.find_by_key(key)
        if partition is not None:
            return ask, partition
        image = self._replicas.image
        if topic in image.topics and image.partition_by_id(topic, index) is None:
            return ask, GlasslogError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no partition {index}")
        if topic not in image.topics:
            return ask, GlasslogError(ErrorCode.UNKNOWN_TOPIC_ID, f"topic id {topic.hex()} is unknown")
        return ask, GlasslogError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "the partition is not on this broker")

    def _leaders_of(self, answer: FetchAnswer, listener: str) -> Sequence[NodeAddress]:
        leaders = [each.leader_id for each in answer.partitions if each.leader_id != NO_NODE]
        return addresses_of(self._replicas.image, leaders, listener) if leaders else ()


def _answer(
    keys: Sequence[PartitionKey],
    outcomes: Sequence[ReadOutcome],
    session: FetchSession | None,
    *,
    is_full: bool,
) -> FetchAnswer:
    partitions = []
    for key, outcome in zip(keys, outcomes, strict=True):
        is_news = session is None or session.is_news(
            key,
            Told(outcome.high_watermark, outcome.log_start_offset),
            has_records=len(outcome.records) > 0,
            is_answer=outcome.is_answer,
        )
        if is_news or is_full:
            partitions.append(_partition_answer(key, outcome))
    return FetchAnswer(ErrorCode.NONE, _session_id(session), partitions)


def _partition_answer(key: PartitionKey, outcome: ReadOutcome) -> PartitionAnswer:
    return PartitionAnswer(
        key,
        outcome.error,
        outcome.high_watermark,
        outcome.last_stable_offset,
        outcome.log_start_offset,
        outcome.diverging_epoch,
        outcome.leader_id,
        outcome.leader_epoch,
        outcome.preferred_read_replica,
        records=outcome.records,
        aborted_transactions=outcome.aborted_transactions,
    )


def _session_id(session: FetchSession | None) -> int:
    return NO_SESSION if session is None else session.session_id


def _is_mixed(session: FetchSession, call: RequestCall) -> bool:
    """Whether a session of topic names goes on with ids or the other way round.

    What it held before this request, which comes first, is of one kind: it was let in here.
    """
    for topic, _ in session.partitions:
        return isinstance(topic, str) is not (call.header.api_version < IDS_FROM)
    return False


def _respond(call: RequestCall, answer: FetchAnswer) -> None:
    version = call.header.api_version
    call.respond(encode_response(answer, version), has_flexible_header=version >= FLEXIBLE_FROM)
