"""A bit that is wrong for a while: it is put right unless somebody has replaced what it was in."""

from random import Random

from glasslog.common.runtime.memory.files import MemoryFileSystem
from glasslog.log.records import encode_batch
from glasslog.simulator.rot import BitFlip, segments

PATH = "data/kept-0/00000000000000000000.log"


def disk_with_log() -> MemoryFileSystem:
    disk = MemoryFileSystem()
    disk.make_dirs("data/kept-0")
    disk.make_dirs("data/kept-elsewhere-0")
    batches = [bytes(encode_batch([(0, None, b"x" * 50, ())], base_offset=number)) for number in range(5)]
    disk.write_atomic(PATH, b"".join(batches))
    disk.write_atomic("data/kept-0/00000000000000000005.log", b"")
    disk.write_atomic("data/kept-elsewhere-0/00000000000000000000.log", batches[0])
    return disk


def test_only_segments_with_records_of_that_topic_are_found() -> None:
    assert segments(disk_with_log(), "kept") == [PATH]


def test_a_bit_is_wrong_and_put_right() -> None:
    disk = disk_with_log()
    sound = disk.read(PATH)
    flip = BitFlip(disk, PATH, Random(1))
    flip.make()
    (position,) = [at for at, byte in enumerate(disk.read(PATH)) if byte != sound[at]]
    assert position == flip.position
    # Records that come behind it do not count.
    disk.open(PATH).pwrite(sound, len(sound))
    assert flip.undo()
    assert disk.read(PATH) == sound + sound


def test_what_has_been_replaced_is_left_alone() -> None:
    """Whoever mended the log has written it anew: to flip the bit back would damage it."""
    disk = disk_with_log()
    sound = disk.read(PATH)
    flip = BitFlip(disk, PATH, Random(2))
    flip.make()
    disk.write_atomic(PATH, sound + sound)
    assert not flip.undo()
    assert disk.read(PATH) == sound + sound
    flip.make()
    disk.remove(PATH)
    assert not flip.undo()
