"""One of two clusters that are compared: a connection to it, and what it has given names to."""

import dataclasses
import io
import json
import socket
import struct
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, get_args, get_type_hints

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from tests.e2e.compared_answers import Json, plain
from tests.e2e.drawn_requests import BATCH, GROUPS, TOPICS, Known

CLOSED = "closed"
PRODUCE, METADATA, FIND_COORDINATOR, JOIN_GROUP, SYNC_GROUP = 0, 3, 10, 11, 14
API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID, DESCRIBE_LOG_DIRS = 18, 19, 22, 35
_ANSWER_S = 5.0
_READY_S = 30.0
_NO_ERROR = "none (0)"
_SUBSCRIPTION = b"\0\0\0\0\0\1\0\6orders\0\0\0\0"


class Side:
    """See the module. ``known`` and ``names`` fill as the cluster tells its ids."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.known = Known()
        self.names: dict[str, str] = {}
        self._port = port
        self._socket: socket.socket | None = None
        self._number = 0

    def ask(self, key: int, version: int, request: Any) -> Json:
        """The answer as plain values by field, or that the connection was closed."""
        try:
            answer = self._answer(key, version, request)
        except TimeoutError:
            self.close()
            return "no answer"
        except (OSError, EOFError):
            self.close()
            return CLOSED
        return plain(answer, self.names)

    def _answer(self, key: int, version: int, request: Any) -> Any:
        self._number += 1
        frame = self._exchange(_encoded(key, version, request, self._number))
        schema = load_response_schema(key, version)
        _, header_bytes = entity_reader(schema.__header_schema__)(frame, 0)
        answer, size_bytes = entity_reader(schema)(frame, header_bytes)
        assert header_bytes + size_bytes == len(frame), (self.name, schema, frame)
        return answer

    def _exchange(self, frame: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_ANSWER_S)
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)
        (length,) = struct.unpack(">i", self._receive(4))
        return self._receive(length)

    def _receive(self, length: int) -> bytes:
        assert self._socket is not None
        data = b""
        while len(data) < length:
            more = self._socket.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # --- what both sides begin with ---

    def prepare(self) -> None:
        """Topics, records in one of them, and groups with a member each."""
        self._until(self._has_topics, "its topics")
        self._until(self._gives_producer_ids, "ids for producers")
        for index in (0, 1):
            self._until(partial(self._produced, index), "records")
        for group in GROUPS:
            self._until(partial(self._joined, group), f"group {group}")
            self._until(partial(self._synced, group), f"an assignment for {group}")
        answer = self._answer(DESCRIBE_LOG_DIRS, 2, message(DESCRIBE_LOG_DIRS, 2, {"topics": None}))
        self.known.log_dirs = tuple(each.log_dir for each in answer.results)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _READY_S
        while not condition():
            assert time.monotonic() < deadline, f"{self.name} has not got {what} within {_READY_S:g} s"
            time.sleep(0.05)

    def _has_topics(self) -> bool:
        created = {
            "topics": [
                {
                    "name": name,
                    "num_partitions": 3 if name == "orders" else 1,
                    "replication_factor": 1,
                    "configs": [{"name": "cleanup.policy", "value": "compact"}]
                    if name == "compacted"
                    else [],
                }
                for name in TOPICS
            ]
        }
        self.ask(CREATE_TOPICS, 7, message(CREATE_TOPICS, 7, created))
        answer = self.ask(METADATA, 12, message(METADATA, 12, {}))
        if answer == CLOSED or not set(TOPICS) <= {each["name"] for each in answer["topics"]}:
            return False
        for name in TOPICS:
            (topic_id,) = (each["topic_id"] for each in answer["topics"] if each["name"] == name)
            self.known.topic_ids[name] = uuid.UUID(topic_id)
        self.names |= {str(topic_id): f"id of {name}" for name, topic_id in self.known.topic_ids.items()}
        self.names[answer["cluster_id"]] = "the cluster's id"
        return True

    def _gives_producer_ids(self) -> bool:
        answer = self.ask(INIT_PRODUCER_ID, 4, message(INIT_PRODUCER_ID, 4, {}))
        return bool(answer != CLOSED and answer["error_code"] == _NO_ERROR)

    def _produced(self, index: int) -> bool:
        data = [{"name": "orders", "partition_data": [{"index": index, "records": BATCH}]}]
        answer = self.ask(PRODUCE, 9, message(PRODUCE, 9, {"acks": -1, "topic_data": data}))
        return _NO_ERROR in json.dumps(answer)

    def _joined(self, group: str) -> bool:
        """One member, in generation 1."""
        asked = message(FIND_COORDINATOR, 3, {"key": group, "key_type": 0})
        found = self.ask(FIND_COORDINATOR, 3, asked)
        if found == CLOSED or found["error_code"] != _NO_ERROR:
            return False
        wishes = {
            "group_id": group,
            "session_timeout": timedelta(minutes=10),
            "rebalance_timeout": timedelta(minutes=1),
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": _SUBSCRIPTION}],
        }
        joined = self.ask(JOIN_GROUP, 3, message(JOIN_GROUP, 3, wishes))
        if joined == CLOSED or joined["error_code"] != _NO_ERROR:
            return False
        self.known.members[group] = member = joined["member_id"]
        self.names[member] = f"member of {group}"
        return bool(joined["generation_id"] == 1)

    def _synced(self, group: str) -> bool:
        member = self.known.members[group]
        synced = {
            "group_id": group,
            "generation_id": 1,
            "member_id": member,
            "assignments": [{"member_id": member, "assignment": b"opaque"}],
        }
        return bool(self.ask(SYNC_GROUP, 2, message(SYNC_GROUP, 2, synced))["error_code"] == _NO_ERROR)

    def versions(self) -> dict[int, tuple[int, int]]:
        """By the key of each API: the oldest and the newest that is served."""
        asked = {"client_software_name": "comparison", "client_software_version": "1"}
        answer = self.ask(API_VERSIONS, 3, message(API_VERSIONS, 3, asked))
        return {each["api_key"]: (each["min_version"], each["max_version"]) for each in answer["api_keys"]}


# --- requests ---------------------------------------------------------------------------------------------


def message(key: int, version: int, values: Mapping[str, Any]) -> Any:
    """A request of kio's with these values by field; arrays of records as sequences of such mappings."""
    return _built(load_request_schema(key, version), values)


def _built(schema: Any, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(schema)
    made: dict[str, Any] = {}
    for item in dataclasses.fields(schema):
        hint = hints[item.name]
        if item.name in values:
            made[item.name] = _value(hint, values[item.name])
        elif item.default is dataclasses.MISSING:
            made[item.name] = _nothing(hint)
    return schema(**made)


def _value(hint: Any, value: Any) -> Any:
    kinds = [each for each in get_args(hint) if dataclasses.is_dataclass(each)]
    return tuple(_built(kinds[0], each) for each in value) if kinds else value


def _nothing(hint: Any) -> Any:
    """What a field without a default has when nothing is said."""
    arguments = get_args(hint)
    if type(None) in arguments:
        return None
    if arguments:
        return ()
    if "Timedelta" in str(hint):
        return timedelta(seconds=5)
    return {bool: False, str: "", bytes: b""}.get(hint, 0)


def _encoded(key: int, version: int, request: Any, number: int) -> bytes:
    header_schema: Any = type(request).__header_schema__
    values: dict[str, Any] = {
        "request_api_key": key,
        "request_api_version": version,
        "correlation_id": number,
        "client_id": "comparison",
    }
    header = header_schema(**{each.name: values[each.name] for each in dataclasses.fields(header_schema)})
    out = io.BytesIO()
    entity_writer(header_schema)(out, header)
    entity_writer(type(request))(out, request)
    return out.getvalue()
