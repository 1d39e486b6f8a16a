"""Files that a real Kafka 4.0.0 wrote: we read every one, and see in them, and in ours, what Kafka sees."""

import re
from collections.abc import Iterator

import pytest
from glasslog.client.cli.log.decoders import decoder_for
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.log.batch import Compression
from glasslog.log.inspection.dump import DumpOptions, dump_file
from glasslog.log.inspection.items import FileEnd, Finding, Item, SeenBatch, SeenRecord

from tests.golden.kafka_files import DUMP_OF_KAFKA, FOLDER, OURS, recorded_files

_FIELD = re.compile(r"(\w+): (\[[^\]]*\]|\S+)")
_DUMPING = "Dumping "


def dumped(path: str) -> list[Item]:
    folder = path.rpartition("/")[0]
    options = DumpOptions(records=True, decoder=decoder_for(folder))
    return list(dump_file(OsFileSystem(), path, options))


@pytest.mark.parametrize("path", list(recorded_files()), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_every_file_of_kafka_is_sound_to_us(path: object) -> None:
    items = dumped(str(path))
    assert [str(item) for item in items if isinstance(item, Finding)] == []
    assert isinstance(items[-1], FileEnd)


def said_by_kafka() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Of each segment: its path and, in order, the fields of each batch and record."""
    for folder in (FOLDER, OURS):
        text = (folder / DUMP_OF_KAFKA).read_text(encoding="utf-8", errors="replace")
        for part in text.split(_DUMPING)[1:]:
            path, *lines = part.splitlines()
            fields = [dict(_FIELD.findall(line)) for line in lines if line.startswith(("|", "baseOffset"))]
            yield f"{folder}/{path}", fields


def said_by_us(item: SeenBatch | SeenRecord) -> dict[str, str]:
    """The same fields under Kafka's names, as far as Kafka prints them."""
    if isinstance(item, SeenRecord):
        return {
            "offset": str(item.offset),
            "keySize": str(-1 if item.key is None else len(item.key)),
            "valueSize": str(-1 if item.value is None else len(item.value)),
            "sequence": str(item.sequence),
            "headerKeys": f"[{','.join(name for name, _ in item.headers)}]",
        }
    header = item.header
    return {
        "baseOffset": str(header.base_offset),
        "lastOffset": str(header.last_offset),
        "count": str(header.record_count),
        "baseSequence": str(header.base_sequence),
        "lastSequence": str(header.last_sequence),
        "producerId": str(header.producer_id),
        "producerEpoch": str(header.producer_epoch),
        "partitionLeaderEpoch": str(header.partition_leader_epoch),
        "isTransactional": str(header.is_transactional).lower(),
        "isControl": str(header.is_control).lower(),
        "position": str(item.position),
        "size": str(header.size_bytes),
        "compresscodec": Compression(header.compression).name.lower(),
        "crc": str(header.crc),
        "isvalid": str(item.crc_holds).lower(),
    }


@pytest.mark.parametrize(("path", "fields"), list(said_by_kafka()), ids=lambda each: str(each)[-50:])
def test_we_see_in_a_segment_what_kafka_sees(path: str, fields: list[dict[str, str]]) -> None:
    assert fields
    seen = [item for item in dumped(path) if isinstance(item, SeenBatch | SeenRecord)]
    assert len(seen) == len(fields)
    for item, said in zip(seen, fields, strict=True):
        ours = said_by_us(item)
        assert {name: said[name] for name in ours if name in said} == {
            name: value for name, value in ours.items() if name in said
        }
        assert len(set(ours) & set(said)) >= 4
        times = {said.get("CreateTime"), said.get("LogAppendTime")}
        assert str(item.timestamp if isinstance(item, SeenRecord) else item.header.max_timestamp) in times
