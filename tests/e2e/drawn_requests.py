"""Requests of Kafka's protocol drawn at random, sound and senseless, the same ones for two clusters.

Every value comes from a pool that belongs to its field: what exists, what does not, what can not be.  Where
two clusters differ, as in the ids of topics and members, a pool holds each cluster's own at the same place:
one seed draws the same request for both.  No array names a thing twice and none is empty: what Kafka answers
then is an accident of the maps that it puts them into.
"""

import dataclasses
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, get_args, get_type_hints

from glasslog.log.records import encode_batch

BATCH = bytes(encode_batch([(1_700_000_000_000 + n, b"key", b"value %d" % n, ()) for n in range(3)]))
_BAD_CHECKSUM = BATCH[:17] + b"\0\0\0\0" + BATCH[21:]
_OLD_FORMAT = BATCH[:16] + b"\1" + BATCH[17:]

TOPICS = ("orders", "single", "compacted")
GROUPS = ("readers", "workers")
_NEW = ("new-0", "new-1", "new-2")
_IMPOSSIBLE = ("", ".", "no spaces", "x" * 250)


@dataclass
class Known:
    """What a cluster has given names to: the same things in the same order for both."""

    topic_ids: dict[str, uuid.UUID] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    log_dirs: tuple[str, ...] = ()


NOT_DRAWN: Mapping[str, str] = {
    "AddRaftVoter": "would change the quorum under test",
    "RemoveRaftVoter": "would change the quorum under test",
    "UnregisterBroker": "would stop the only broker",
    "UpdateFeatures": "the features are each system's own",
    "AlterPartitionReassignments": "one broker has nowhere to move a partition to; refusals are drawn alone",
}

_POOLS: Mapping[str, Sequence[object]] = {
    "entity_type": ("user", "client-id", "client-id", "planet"),
    "entity_name": ("one", "two"),
    "match_type": (0, 1, 2, 9),
    "match": ("one", None),
    "remove": (False, False, True),
    "acks": (1, -1, 1, -1, 7),
    "broker_ids": (1, 1, 5),
    "cluster_id": (None,),
    "committed_leader_epoch": (-1, 0),
    "committed_metadata": ("", "note", None),
    "committed_offset": (0, 3, -1, 1 << 40),
    "config_operation": (0, 0, 1, 2, 3, 9),
    "configuration_keys": ("retention.ms", "cleanup.policy", "min.insync.replicas", "no.such.key"),
    "coordinator_keys": (*GROUPS, ""),
    "count": (4, 6, 1, 0, -1, 3),
    "current_leader_epoch": (-1, -1, 0, 0, 7),
    "election_type": (0, 1, 0, 1, 5),
    "endpoint_type": (1, 1, 9),
    "fetch_offset": (0, 3, 1, 10_000, -1),
    "generation_id": (1, 0, -1, 99),
    "generation_id_or_member_epoch": (-1, -1, 1, 0, 99),
    "group_id": (*GROUPS, *GROUPS, "unheard-of", ""),
    "group_instance_id": (None, None, None, "fixed"),
    "groups": (*GROUPS, "unheard-of", ""),
    "groups_names": ("unheard-of", "gone", ""),
    "index": (0, 0, 1, 9, -1),
    "isolation_level": (0, 1, 0, 1),
    "key": (*GROUPS, ""),
    "key_type": (0, 0, 0, 1, 9),
    "last_fetched_epoch": (-1, -1, 0),
    "leader_epoch": (0, 1, -1, 7),
    "log_start_offset": (-1, 0),
    "max_bytes": (1 << 20, 100, 1),
    "max_wait": (timedelta(0), timedelta(milliseconds=20)),
    "member_epoch": (-1,),
    "min_bytes": (0, 1),
    "num_partitions": (1, 2, -1, 0, -7),
    "offset": (0, 1, -1, 1 << 40, -7),
    "partition": (0, 0, 1, 9, -1),
    "partition_index": (0, 0, 1, 9, -1),
    "partition_indexes": (0, 1, 9, -1),
    "partition_max_bytes": (1 << 20, 100, 1, 0),
    "partitions": (0, 1, 9, -1),
    "producer_epoch": (-1, -1, 0),
    "producer_id": (-1, -1, 7),
    "protocol_name": (None, "range", "other"),
    "protocol_type": ("consumer", "consumer", "connect", ""),
    "rack_id": ("", "rack-a"),
    "reason": (None, "because"),
    "rebalance_timeout": (timedelta(milliseconds=100), timedelta(0)),
    "records": (BATCH, BATCH, BATCH, _BAD_CHECKSUM, _OLD_FORMAT, BATCH[:-5], b"", BATCH * 2),
    "replica_epoch": (-1,),
    "replica_id": (-1,),
    "replica_state": (),
    "replicas": (5,),
    "replication_factor": (1, 1, -1, 0, 3, -7),
    "resource_name": (*TOPICS, "1", "1", "", "missing", "9", "one"),
    "resource_type": (2, 2, 2, 4, 4, 8, 0, 99),
    "response_partition_limit": (2000, 2, 1),
    "retention_time": (timedelta(milliseconds=-1),),
    "session_epoch": (-1, -1, -1, 0, 3),
    "session_id": (0, 0, 0, 12345),
    "session_timeout": (timedelta(minutes=1), timedelta(milliseconds=1), timedelta(days=20)),
    "states_filter": ("Stable", "Empty", "Nonsense", "Dead", "stable"),
    "timeout": (timedelta(seconds=5),),
    "timestamp": (-1, -2, -3, -4, -5, -9, 0, 1_700_000_000_001, 1 << 45),
    "transaction_timeout": (timedelta(minutes=1),),
    "types_filter": ("classic", "consumer", "Nonsense"),
}
_POOLS_OF: Mapping[tuple[str, str], Sequence[object]] = {
    ("AlterConfigs", "name"): ("retention.ms", "cleanup.policy", "no.such.key", "", "min.insync.replicas"),
    ("IncrementalAlterConfigs", "name"): (
        "retention.ms",
        "cleanup.policy",
        "no.such.key",
        "max.message.bytes",
    ),
    ("AlterConfigs", "value"): ("1000", "delete", "compact", "soon", "", None, "-5"),
    ("IncrementalAlterConfigs", "value"): ("1000", "delete", "compact", "soon", "", None, "-5"),
    ("CreateTopics", "value"): ("1000", "delete", "compact", "soon", "", None),
    # When a group with a new member is complete is a matter of each one's clock: both have members already.
    ("JoinGroup", "member_id"): ("nobody",),
    ("InitProducerId", "transactional_id"): (None, None, ""),
    ("Produce", "transactional_id"): (None,),
    ("AlterClientQuotas", "key"): ("producer_byte_rate", "request_percentage", "no.such.key"),
    ("AlterClientQuotas", "value"): (1024.0, 50.0, -1.0, 0.0),
    ("JoinGroup", "name"): ("range", "sticky"),
    ("DescribeQuorum", "topic_name"): ("__cluster_metadata", "orders"),
    ("ElectLeaders", "topic"): (*TOPICS, "missing", ""),
}
_SETTINGS = ("retention.ms", "cleanup.policy", "no.such.key", "min.insync.replicas")


def _identity(item: object) -> object:
    """What no two items of an array share."""
    if hasattr(item, "entity"):
        return str(item.entity)
    for name in (
        "name",
        "topic",
        "topic_name",
        "group_id",
        "resource_name",
        "member_id",
        "entity_type",
        *_NUMBERS,
    ):
        if hasattr(item, name):
            return getattr(item, name) or getattr(item, "topic_id", "")
    return item


_NUMBERS = ("partition_index", "partition", "index", "topic_id", "feature", "broker_ids")


_NEVER_NULL = ("name", "topic_name", "records")
"""Kafka never answers a Produce without records."""


class Draw:
    """Draws requests of ``schemas`` (kio's classes) from one seed for the cluster that ``known`` is of."""

    def __init__(self, seed: str, known: Known) -> None:
        self._chance = random.Random(seed)
        self._known = known

    def request(self, api: str, schema: type[Any]) -> Any:
        """One message."""
        return self._record(api, schema)

    def _record(self, api: str, schema: type[Any]) -> Any:
        hints = get_type_hints(schema)
        values = {}
        for item in dataclasses.fields(schema):
            if item.name == "replica_state":
                continue
            values[item.name] = self._value(api, schema.__name__, item, hints[item.name])
        return schema(**values)

    def _value(self, api: str, owner: str, item: "dataclasses.Field[Any]", hint: Any) -> object:
        arguments = get_args(hint)
        chance = self._chance
        may_be_null = type(None) in arguments and "uuid" not in str(item.metadata.get("kafka_type"))
        if may_be_null:
            (hint,) = (each for each in arguments if each is not type(None))
            arguments = get_args(hint)
            is_plain = not arguments and not dataclasses.is_dataclass(hint)
            if chance.random() < 0.2 and not (is_plain and item.name in _NEVER_NULL):
                return None
        if arguments and arguments[-1] is Ellipsis:
            count = chance.choice((1, 1, 1, 2, 2, 3))
            drawn = [self._one(api, owner, item.name, arguments[0]) for _ in range(count)]
            return tuple({_identity(each): each for each in drawn}.values())
        return self._one(api, owner, item.name, hint)

    def _one(self, api: str, owner: str, name: str, hint: Any) -> object:
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            return self._record(api, hint)
        return self._chance.choice(self._pool(api, owner, name, hint))

    def _pool(self, api: str, owner: str, name: str, hint: Any) -> Sequence[object]:
        if (api, name) in _POOLS_OF and not (owner.startswith("Creatable") and name == "name"):
            return _POOLS_OF[api, name]
        if name == "topic_id":
            # Kafka's own mishap: a Fetch of the id that stands for none is an UNKNOWN_SERVER_ERROR.
            none = () if api == "Fetch" else (None,)
            return (*self._known.topic_ids.values(), uuid.UUID(int=77), *none)
        if name == "member_id":
            return (*self._known.members.values(), "", "nobody")
        if name == "path":
            return (*self._known.log_dirs, "/no/such/folder", "")
        if owner == "CreatableTopicConfig":
            return _SETTINGS
        if name in ("name", "topic", "topic_name", "topic_names"):
            return self._topics(api)
        if name in _POOLS:
            return _POOLS[name]
        if hint is bool:
            return (False, True)
        if hint is bytes:
            return (b"", b"opaque")
        raise AssertionError(f"{api}: nothing is known of {owner}.{name}")

    def _topics(self, api: str) -> Sequence[str]:
        if api == "CreateTopics":
            return (*_NEW, *_NEW, *TOPICS, *_IMPOSSIBLE)
        if api == "DeleteTopics":
            return (*_NEW, "missing", "")
        if api == "CreatePartitions":
            return (*_NEW, "missing", "")
        # Kafka fails when a topic without a name is to be described.
        nameless = () if api == "DescribeTopicPartitions" else ("",)
        return (*TOPICS, *TOPICS, *_NEW, "missing", *nameless)
