"""docs/grpc.md does what it says: its calls are made as they stand, by way of the reflection service."""

import base64
import json
import re
import shlex
import time
from collections.abc import Iterator, Mapping

import grpc
import pytest
from glasslog.client.cli.local.cluster import LocalCluster
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.source_tree import ROOT

DEADLINE_S = 30.0
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASK_ELSEWHERE = {3, 5, 6, 14, 15, 16}
"""No leader or no coordinator yet, or another broker is it."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path_factory.mktemp("grpc") / "local")
    made.up()
    yield made
    made.down()


class Grpcurl:
    """As much of grpcurl as the document uses. It asks each broker in turn: only one of them leads."""

    def __init__(self, addresses: list[str]) -> None:
        self.channels = [grpc.insecure_channel(address) for address in addresses]
        self.pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channels[0]))

    def close(self) -> None:
        for channel in self.channels:
            channel.close()

    def list_services(self) -> list[str]:
        return list(ProtoReflectionDescriptorDatabase(self.channels[0]).get_services())

    def call(self, target: str, text: str) -> Mapping[str, object]:
        service, _, name = target.partition("/")
        method = self.pool.FindServiceByName(service).methods_by_name[name]
        deadline = time.monotonic() + DEADLINE_S
        while True:
            for channel in self.channels:
                answer = self._ask(channel, target, method, text)
                if not _codes(answer) & _ASK_ELSEWHERE:
                    return answer
            assert time.monotonic() < deadline, f"{target}: {answer}"
            time.sleep(0.05)

    def _ask(
        self, channel: grpc.Channel, target: str, method: MethodDescriptor, text: str
    ) -> Mapping[str, object]:
        kind, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        request = json_format.Parse(text, kind())
        answer: Message
        if method.client_streaming:
            stream = channel.stream_stream(f"/{target}", _serialized, reply.FromString)
            answer = next(stream(iter([request]), timeout=DEADLINE_S))
        else:
            answer = channel.unary_unary(f"/{target}", _serialized, reply.FromString)(
                request, timeout=DEADLINE_S
            )
        shown: Mapping[str, object] = json_format.MessageToDict(answer, preserving_proto_field_name=True)
        return shown


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _codes(value: object) -> set[int]:
    """Every error code anywhere in an answer."""
    if isinstance(value, dict):
        own = {int(value["error_code"])} if "error_code" in value else set()
        return own.union(*map(_codes, value.values()))
    return set().union(*map(_codes, value)) if isinstance(value, list) else set()


def commands() -> Iterator[list[str]]:
    text = (ROOT / "docs" / "grpc.md").read_text(encoding="utf-8")
    for block in _BLOCK.findall(text):
        for command in re.split(r"^(?=grpcurl )", block, flags=re.MULTILINE):
            if command.strip():
                yield shlex.split(command.replace("\\\n", ""))


def test_the_document_does_what_it_says(cluster: LocalCluster) -> None:
    grpcurl = Grpcurl([broker.address("GRPC") for broker in cluster.state().brokers])
    answers: dict[str, Mapping[str, object]] = {}
    try:
        for words in commands():
            assert words[:2] == ["grpcurl", "-plaintext"]
            if words[2] == "-d":
                answers[words[-1]] = grpcurl.call(words[-1], words[3])
            elif words[3:] == ["list"]:
                assert "glasslog.v1.Broker" in grpcurl.list_services()
            else:
                assert grpcurl.pool.FindServiceByName(words[-1]).methods
    finally:
        grpcurl.close()
    broker = "glasslog.v1.Broker/"
    assert not any(_codes(answer) - {0} for answer in answers.values()), answers
    (records,) = re.findall(r'"records": "([^"]*)"', json.dumps(answers[broker + "Fetch"]))
    assert b"anna\x103 apples" in base64.b64decode(records), "the record, with the length of its value"
    assert '"offset": "1"' in json.dumps(answers[broker + "ListOffsets"])
    assert '"offset": "1"' in json.dumps(answers[broker + "OffsetFetch"])
    assert '"isr"' in json.dumps(answers[broker + "DescribeReplication"])
