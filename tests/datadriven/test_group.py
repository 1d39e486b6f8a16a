"""Runs the scripts in ``group/`` on a coordinator's core: requests of members in, answers and records out.

Wall time is one million milliseconds ahead of the script's clock.  Commands:
  coordinator [delay=0] [retention=1000] [check=100] [max=9]     a fresh one; the log is empty
  join id=a [session=100] [rebalance=500] [protocols=range] [topics=t] [instance=i] [type=consumer]
                                          twice for a newcomer, as KIP-394 asks
  sync id=a [assign=a:t-0,b:t-1]          the leader brings assignments
  heartbeat id=a [generation=1]
  leave id=a
  commit [id=a] [generation=1] t-0=5 ...  without id: from outside of the group
  fetch                                   what is committed
  delete group | delete t-0 ...           forget the group; forget offsets
  advance ms=10                           time passes; whatever is due happens
  hold | store [error=NAME]               records wait to be stored; the first of them is
  restart                                 another coordinator takes over from the log
  group                                   state and members
"""

from pathlib import Path

import pytest
from glasslog.broker.group.core import GroupShard
from glasslog.broker.group.effects import Append, Response
from glasslog.broker.group.records import GroupLogRecord, GroupRecord, OffsetRecord
from glasslog.broker.group.types import (
    CommitRequest,
    CommittedOffset,
    GroupLimits,
    JoinRequest,
    JoinResponse,
    LeavingMember,
    MemberIdentity,
    SyncRequest,
    SyncResponse,
)
from glasslog.client.consumer_protocol import Subscription, encode_subscription
from glasslog.common.errors import ErrorCode
from glasslog.common.ids import Offset, TopicPartition

from tests.datadriven.scripts import run_script

SCRIPTS = sorted((Path(__file__).parent / "group").glob("*.txt"))
WALL_OFFSET_MS = 1_000_000


def partition_of(text: str) -> TopicPartition:
    topic, _, number = text.rpartition("-")
    return TopicPartition(topic, int(number))


def name_of(partition: TopicPartition) -> str:
    return f"{partition.topic}-{partition.partition}"


def told(record: GroupLogRecord) -> str:
    match record:
        case OffsetRecord(partition=partition, committed=None):
            return f"forget offset {name_of(partition)}"
        case OffsetRecord(partition=partition, committed=CommittedOffset() as committed):
            return f"offset {name_of(partition)}={committed.offset} at {committed.commit_timestamp_ms}"
        case GroupRecord(value=None):
            return "forget group"
        case GroupRecord(value=value) if value is not None:
            members = ",".join(member.member_id for member in value.members) or "nobody"
            return f"group generation {value.generation_id} at {value.state_timestamp_ms}: {members}"
    raise AssertionError(record)


class GroupScript:
    """One script's coordinator. What the log takes is told at once, answers when they leave."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.limits = self.limits_of({})
        self.shard = GroupShard(self.limits)
        self.log: list[GroupLogRecord] = []
        self.waiting: list[Append] = []
        self.is_held = False
        self.waiters: dict[int, str] = {}
        self.introduced: set[str] = set()
        self.generation = 0
        self.lines: list[str] = []

    def limits_of(self, given: dict[str, str]) -> GroupLimits:
        return GroupLimits(
            initial_rebalance_delay_ms=int(given.get("delay", "0")),
            min_session_timeout_ms=1,
            max_session_timeout_ms=1_000_000,
            max_group_size=int(given.get("max", "9")),
            max_offset_metadata_bytes=8,
            offsets_retention_ms=int(given.get("retention", "1000")),
            offsets_retention_check_interval_ms=int(given.get("check", "100")),
        )

    def execute(self, command: str) -> str:
        name, *words = command.split()
        given = {word.partition("=")[0]: word.partition("=")[2] for word in words}
        self.lines = []
        self.run(name, given)
        self.drain()
        return "\n".join(self.lines)

    def run(self, name: str, given: dict[str, str]) -> None:
        match name:
            case "coordinator":
                self.__init__()  # type: ignore[misc]  # begins anew
                self.limits = self.limits_of(given)
                self.shard = GroupShard(self.limits)
                self.shard.on_loaded(0, WALL_OFFSET_MS)
            case "join":
                self.join(given)
            case "sync":
                self.sync(given)
            case "heartbeat":
                self.lines.append(self.shard.heartbeat(self.identity(given), self.now_ms).name)
            case "leave":
                leaving = LeavingMember(member_id=given["id"])
                self.lines.append(self.shard.leave("g", (leaving,), self.now_ms)[0].name)
            case "commit":
                self.commit(given)
            case "fetch":
                for partition, committed in self.shard.all_committed("g"):
                    self.lines.append(f"{name_of(partition)}={committed.offset}")
            case "delete":
                self.delete(given)
            case "advance":
                self.advance(self.now_ms + int(given["ms"]))
            case "hold":
                self.is_held = True
            case "store":
                self.store(ErrorCode[given.get("error", "NONE")])
            case "restart":
                self.restart()
            case "group":
                self.describe()
            case _:
                raise ValueError(f"no such command: {name}")

    def waiter(self, who: str) -> int:
        number = len(self.waiters)
        self.waiters[number] = who
        return number

    def join(self, given: dict[str, str]) -> None:
        member, instance = given["id"], given.get("instance", "")
        topics = tuple(given.get("topics", "t").split(","))
        metadata = encode_subscription(Subscription(topics=topics))
        known = member in self.introduced and "again" not in given
        request = JoinRequest(
            group_id="g",
            member_id=member if known else "",
            new_member_id=member,
            session_timeout_ms=int(given.get("session", "100")),
            rebalance_timeout_ms=int(given.get("rebalance", "500")),
            protocol_type=given.get("type", "consumer"),
            protocols=tuple((each, metadata) for each in given.get("protocols", "range").split(",")),
            group_instance_id=instance,
        )
        self.introduced.add(member)
        self.shard.join(request, self.waiter(f"{member} joins"), self.now_ms)

    def identity(self, given: dict[str, str]) -> MemberIdentity:
        return MemberIdentity(
            group_id="g",
            member_id=given.get("id", ""),
            generation_id=int(given.get("generation", self.generation if "id" in given else -1)),
        )

    def sync(self, given: dict[str, str]) -> None:
        shares = (each.partition(":") for each in given.get("assign", "").split(",") if each)
        request = SyncRequest(
            group_id="g",
            generation_id=int(given.get("generation", self.generation)),
            member_id=given["id"],
            assignments=tuple((member, share.encode()) for member, _, share in shares),
        )
        self.shard.sync(request, self.waiter(f"{given['id']} syncs"), self.now_ms)

    def commit(self, given: dict[str, str]) -> None:
        offsets = tuple(
            (partition_of(key), CommittedOffset(offset=Offset(int(value))))
            for key, value in given.items()
            if key not in ("id", "generation")
        )
        request = CommitRequest(identity=self.identity(given), offsets=offsets)
        who = given.get("id", "somebody")
        self.shard.commit(request, self.waiter(f"{who} commits"), self.now_ms, self.now_ms + WALL_OFFSET_MS)

    def delete(self, given: dict[str, str]) -> None:
        waiter = self.waiter("delete")
        if "group" in given:
            self.shard.delete_group("g", waiter)
        else:
            self.shard.delete_offsets("g", tuple(map(partition_of, given)), waiter)

    def advance(self, to_ms: int) -> None:
        while (due := self.shard.next_deadline_ms()) is not None and due <= to_ms:
            self.now_ms = max(self.now_ms, due)
            before = len(self.lines)
            self.shard.tick(self.now_ms, self.now_ms + WALL_OFFSET_MS)
            self.drain()
            self.lines[before:] = [f"{self.now_ms}: {line}" for line in self.lines[before:]]
        self.now_ms = to_ms

    def restart(self) -> None:
        self.shard.resign()
        self.drain()
        self.shard = GroupShard(self.limits)
        for record in self.log:
            self.shard.replay(record, self.now_ms)
        self.shard.on_loaded(self.now_ms, self.now_ms + WALL_OFFSET_MS)

    def describe(self) -> None:
        group = self.shard.describe("g")
        members = " ".join(f"{each.member_id}({each.assignment.decode() or '-'})" for each in group.members)
        self.lines.append(" ".join(part for part in (group.state, group.protocol_name, members) if part))

    def store(self, error: ErrorCode) -> None:
        append = self.waiting.pop(0)
        outcome = "" if error is ErrorCode.NONE else f" fails: {error.name}"
        self.lines += [f"log: {told(record)}{outcome}" for record in append.records]
        if error is ErrorCode.NONE:
            self.log += append.records
        self.shard.on_stored(append.token, error, self.now_ms)

    def drain(self) -> None:
        while True:
            ready = self.shard.take_ready()
            for reply in ready.replies:
                self.lines.append(f"{self.waiters.pop(reply.waiter)}: {self.answered(reply.response)}")
                self.waiters[reply.waiter] = "answered twice"
            self.waiting += ready.appends
            if self.is_held or not self.waiting:
                return
            self.store(ErrorCode.NONE)

    def answered(self, response: Response) -> str:
        match response:
            case ErrorCode():
                return response.name
            case JoinResponse(error=ErrorCode.NONE):
                self.generation = response.generation_id
                members = ",".join(each.member_id for each in response.members)
                leads = f", leads {members}" if response.leader == response.member_id else ""
                return f"generation {response.generation_id} {response.protocol_name}{leads}"
            case SyncResponse(error=ErrorCode.NONE):
                return f"gets {response.assignment.decode() or 'nothing'}"
            case JoinResponse() | SyncResponse():
                return response.error.name
            case _:
                return " ".join(f"{name_of(partition)}:{error.name}" for partition, error in response)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    run_script(path, GroupScript().execute)
