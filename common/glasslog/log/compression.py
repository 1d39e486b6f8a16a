"""The four codecs of record batches, each bounded when it expands.

This module knows Kafka's framings (gzip, snappy in xerial's blocks, lz4 frames, zstd); it refuses to know
what a batch is.  cramjam is imported on first use: a process that never compresses does not pay for it.
"""

import zlib
from struct import Struct
from typing import TYPE_CHECKING

from glasslog.common.runtime.protocols import Buffer
from glasslog.log.batch import Compression, CorruptBatch

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_MAX_BYTES = 64 * 1024 * 1024
"""What one batch may expand to unless the caller says otherwise."""

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + b"\x00\x00\x00\x01\x00\x00\x00\x01"
_XERIAL_BLOCK_BYTES = 32 * 1024
_BLOCK_LENGTH = Struct(">i")
_GZIP_WINDOW_BITS = 31
_MAX_GZIP_MEMBERS = 100
"""Clients write one. Each costs a copy of what follows it, so many small ones would cost without bound."""

_FIRST_OUTPUT_BYTES = 64 * 1024


def compress(codec: Compression, data: Buffer) -> bytes:
    """``data`` packed with ``codec`` as Kafka's clients frame it."""
    if codec is Compression.NONE:
        return bytes(data)
    import cramjam

    if codec is Compression.GZIP:
        return bytes(cramjam.gzip.compress(data))
    if codec is Compression.SNAPPY:
        return _compress_xerial(data)
    if codec is Compression.LZ4:
        return _compress_lz4(data)
    return bytes(cramjam.zstd.compress(data))


def decompress(codec: Compression, data: Buffer, *, max_bytes: int = DEFAULT_MAX_BYTES) -> bytes:
    """``data`` expanded; raises ``CorruptBatch`` when it is damaged or would exceed ``max_bytes``."""
    if codec is Compression.NONE:
        return bytes(data)
    if codec is Compression.GZIP:
        return _expand_gzip(data, max_bytes)
    import cramjam

    if codec is Compression.SNAPPY:
        return _expand_snappy(bytes(data), max_bytes)
    if codec is Compression.LZ4:
        return _expand_growing("lz4", cramjam.lz4.decompress_into, data, max_bytes)
    return _expand_growing("zstd", cramjam.zstd.decompress_into, data, max_bytes)


def _expand_gzip(data: Buffer, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size_bytes, rest = 0, bytes(data)
    while rest:
        if len(parts) == _MAX_GZIP_MEMBERS:
            raise CorruptBatch(f"gzip data is damaged: it has more than {_MAX_GZIP_MEMBERS} members")
        stream = zlib.decompressobj(_GZIP_WINDOW_BITS)
        try:
            part = stream.decompress(rest, max_bytes - size_bytes + 1)
        except zlib.error as error:
            raise CorruptBatch(f"gzip data is damaged: {error}") from None
        size_bytes += len(part)
        _check_bound("gzip", size_bytes, max_bytes)
        if not stream.eof:
            raise CorruptBatch("gzip data is damaged: it ends too early")
        parts.append(part)
        rest = stream.unused_data
    return b"".join(parts)


def _compress_lz4(data: Buffer) -> bytes:
    """A frame of independent blocks: Kafka's Java clients refuse linked ones."""
    import cramjam

    stream = cramjam.lz4.Compressor(content_checksum=False, block_linked=False)
    stream.compress(data)
    return bytes(stream.finish())


def _compress_xerial(data: Buffer) -> bytes:
    import cramjam

    view, parts = memoryview(data), [_XERIAL_HEADER]
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (_BLOCK_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _expand_snappy(data: bytes, max_bytes: int) -> bytes:
    """Xerial's blocks as Java writes them, or one bare block as librdkafka does."""
    if not data.startswith(_XERIAL_MAGIC):
        return _expand_snappy_block(data, max_bytes)
    parts, position, size_bytes = [], len(_XERIAL_HEADER), 0
    while position < len(data):
        start = position + _BLOCK_LENGTH.size
        length = _BLOCK_LENGTH.unpack_from(data, position)[0] if start <= len(data) else -1
        position = start + length
        if length < 0 or position > len(data):
            raise CorruptBatch(f"snappy data is damaged: a block at {start} claims {length} bytes")
        parts.append(_expand_snappy_block(data[start:position], max_bytes - size_bytes))
        size_bytes += len(parts[-1])
        _check_bound("snappy", size_bytes, max_bytes)
    return b"".join(parts)


def _expand_snappy_block(block: bytes, max_bytes: int) -> bytes:
    import cramjam

    try:
        _check_bound("snappy", cramjam.snappy.decompress_raw_len(block), max_bytes)
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise CorruptBatch(f"snappy data is damaged: {error}") from None


def _expand_growing(
    name: str, expand_into: "Callable[[Buffer, bytearray], int]", data: Buffer, max_bytes: int
) -> bytes:
    """Expand into a bounded buffer, a larger one when it does not fit: frames need not say their size."""
    import cramjam

    capacity = min(max_bytes, max(_FIRST_OUTPUT_BYTES, 8 * len(data)))
    while True:
        output = bytearray(capacity)
        try:
            return bytes(memoryview(output)[: expand_into(data, output)])
        except cramjam.DecompressionError as error:
            if capacity >= max_bytes or "whole buffer" not in str(error):
                raise CorruptBatch(f"{name} data is damaged or exceeds {max_bytes} bytes: {error}") from None
        capacity = min(max_bytes, capacity * 4)


def _check_bound(name: str, size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise CorruptBatch(f"{name} data expands beyond {max_bytes} bytes")
