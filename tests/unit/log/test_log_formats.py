"""The bytes of every file beside a segment, written out by hand from Kafka's layouts.

They are what Kafka's tools read; a change here is a change of the format on disk.
"""

from glasslog.common.ids import BrokerEpoch, TopicId, TopicPartition
from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.checkpoint import (
    MetaProperties,
    write_epochs,
    write_meta_properties,
    write_offsets,
    write_topic_id,
)
from glasslog.log.checksum import crc32c
from glasslog.log.config import LogConfig
from glasslog.log.directories import open_directories
from glasslog.log.log import Log
from glasslog.log.markers import EndTransactionMarker, encode_marker
from glasslog.log.producer_snapshot import encode_snapshot
from glasslog.log.producer_state import ProducedBatch, ProducerEntry, ProducerStates
from glasslog.log.records import encode_batch
from glasslog.log.recovery_limit import RecoveryLimit

PATH = "/data/t-0"


def fill(files: MemoryFileSystem) -> None:
    """Four batches from offset 0 on: two of producer 7, the marker that aborts them, one of nobody."""
    config = LogConfig(index_interval_bytes=100)
    log = Log.open(files=files, directory=PATH, config=config, clean_shutdown=False)
    for sequence, timestamp in ((0, 0x1122334455), (2, 0x1122334400)):
        batch = encode_batch(
            [(timestamp, b"k", b"v" * 40, ()), (timestamp, b"k", b"v" * 40, ())],
            producer_id=7,
            producer_epoch=1,
            base_sequence=sequence,
            transactional=True,
        )
        log.append_as_leader(batch, leader_epoch=3, now_ms=1)
    marker = encode_marker(
        EndTransactionMarker(is_commit=False, coordinator_epoch=2),
        producer_id=7,
        producer_epoch=1,
        timestamp_ms=0x1122334466,
    )
    log.append_as_leader(marker, leader_epoch=3, now_ms=2, origin_is_client=False)
    log.append_as_leader(encode_batch([(0x1122334499, None, b"w" * 100, ())]), leader_epoch=4, now_ms=3)
    log.close()


def test_the_files_of_a_segment() -> None:
    files = MemoryFileSystem()
    fill(files)
    name = f"{PATH}/{0:020d}"
    # Relative last offset and position of the second batch and of the marker.
    data_bytes = 61 + 2 * (1 + 1 + 1 + 1 + 1 + 1 + 1 + 40 + 1)
    assert files.read(f"{name}.index").hex(" ", 4).split() == [
        *("00000003", f"{data_bytes:08x}"),
        *("00000004", f"{2 * data_bytes:08x}"),
    ]
    # Largest timestamp so far and the last offset of its batch; at the end the largest of all.
    assert files.read(f"{name}.timeindex").hex(" ", 4).split() == [
        *("00000011", "22334455", "00000001"),
        *("00000011", "22334466", "00000004"),
        *("00000011", "22334499", "00000005"),
    ]
    # Version 0, producer 7, offsets 0 to 4, last stable offset 5.
    assert files.read(f"{name}.txnindex").hex() == "0000" + "".join(
        f"{number:016x}" for number in (7, 0, 4, 5)
    )
    assert files.read(f"{PATH}/leader-epoch-checkpoint") == b"0\n2\n3 0\n4 5\n"


def test_the_snapshot_of_producers() -> None:
    entry = ProducerEntry(
        1,
        (ProducedBatch(last_sequence=9, last_offset=20, offset_delta=3, timestamp=99),),
        timestamp=0x0102,
        coordinator_epoch=2,
        transaction_start=17,
    )
    data = encode_snapshot(ProducerStates({7: entry}))
    body = (
        "00000001"  # one entry
        "0000000000000007"  # producer id
        "0001"  # producer epoch
        "00000009"  # last sequence
        "0000000000000014"  # last offset
        "00000003"  # offset delta
        "0000000000000102"  # timestamp
        "00000002"  # coordinator epoch
        "0000000000000011"  # where its transaction begins
    )
    assert data[:2].hex() == "0001"
    assert int.from_bytes(data[2:6]) == crc32c(data[6:])
    assert data[6:].hex().startswith(body)
    assert data[6 + len(body) // 2 :].startswith(b"glasslog-window\x01")


def test_checkpoints() -> None:
    files = MemoryFileSystem()
    files.make_dirs("/d")
    write_offsets(files, "/d/offsets", {TopicPartition("b", 0): 5, TopicPartition("a", 10): 7})
    assert files.read("/d/offsets") == b"0\n2\na 10 7\nb 0 5\n"
    write_epochs(files, "/d/epochs", [(0, 0), (3, 12)])
    assert files.read("/d/epochs") == b"0\n2\n0 0\n3 12\n"


def test_who_a_folder_belongs_to() -> None:
    files = MemoryFileSystem()
    files.make_dirs("/d")
    write_topic_id(files, "/d/partition.metadata", TopicId(bytes(range(16))))
    assert files.read("/d/partition.metadata") == b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw\n"
    properties = MetaProperties(cluster_id="c1", node_id=3, directory_id="AAECAwQFBgcICQoLDA0ODw")
    write_meta_properties(files, "/d/meta.properties", properties)
    assert files.read("/d/meta.properties") == (
        b"version=1\ncluster.id=c1\nnode.id=3\ndirectory.id=AAECAwQFBgcICQoLDA0ODw\n"
    )


def test_what_an_orderly_stop_and_a_truncation_leave() -> None:
    files = MemoryFileSystem()
    opened = open_directories(
        files=files, paths=["/d"], cluster_id="c1", node_id=3, new_directory_id=lambda: bytes(range(16))
    )
    opened.usable[0].close(broker_epoch=BrokerEpoch(71))
    assert files.read("/d/.kafka_cleanshutdown") == b'{"version": 0, "brokerEpoch": 71}'
    files.make_dirs(PATH)
    RecoveryLimit.load(files, PATH, checkpointed=20).lower(12)
    assert files.read(f"{PATH}/recovery-point-limit") == b"12\n"


def test_a_marker() -> None:
    batch = encode_marker(
        EndTransactionMarker(is_commit=True, coordinator_epoch=5),
        producer_id=7,
        producer_epoch=1,
        timestamp_ms=0,
    )
    # Attributes: transactional and control. The record: key version 0 type 1, value version 0 epoch 5.
    assert batch[21:23].hex() == "0030"
    assert batch[61:].hex() == "20" + "000000" + "08" + "00000001" + "0c" + "000000000005" + "00"
