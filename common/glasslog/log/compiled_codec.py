# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, embedsignature=True
"""The codec of a batch's records in typed Cython: the same names as ``pure_codec``, many times faster.

Not imported as it lies here: the build compiles it into an extension module whose name holds a checksum of
this text (``codec`` looks for it), so that what was compiled from another text is never taken.  It refuses
to know what ``pure_codec`` refuses to know.  Every read is bounded by the data's length, and no pointer into
the encoder's memory is kept across a call that may run other Python code.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.unicode import PyUnicode_DecodeUTF8
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy
from glasslog.log.record_types import Selection, Survey

_HEADER_BYTES = cython.declare(cython.Py_ssize_t, 61)
_NO_TIMESTAMP = cython.declare(cython.longlong, -1)
_FIRST_CAPACITY = cython.declare(cython.Py_ssize_t, 512)
_INT64_MAX = cython.declare(cython.longlong, 0x7FFF_FFFF_FFFF_FFFF)
_INT64_MIN = cython.declare(cython.longlong, -_INT64_MAX - 1)
_LOG_APPEND_TIME_BIT = cython.declare(cython.int, 0x08)

_BEYOND = "it goes beyond the batch"
_TOO_FAR = "a timestamp too far from the first for 64 bits"


# --- encoding --------------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _zigzag(number: cython.longlong) -> cython.ulonglong:
    rest: cython.ulonglong = cython.cast(cython.ulonglong, number) << 1
    return ~rest if number < 0 else rest


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _varint_size(number: cython.longlong) -> cython.Py_ssize_t:
    rest: cython.ulonglong = _zigzag(number)
    size: cython.Py_ssize_t = 1
    while rest >= 0x80:
        rest >>= 7
        size += 1
    return size


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _put_varint(target: cython.p_uchar, number: cython.longlong) -> cython.p_uchar:
    rest: cython.ulonglong = _zigzag(number)
    while rest >= 0x80:
        target[0] = cython.cast(cython.uchar, rest & 0x7F | 0x80)
        target += 1
        rest >>= 7
    target[0] = cython.cast(cython.uchar, rest)
    return target + 1


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _put_bytes(target: cython.p_uchar, content: object) -> cython.p_uchar:
    """A nullable byte string with its length before it; ``content`` is None or bytes."""
    size: cython.Py_ssize_t
    if content is None:
        return _put_varint(target, -1)
    size = len(cython.cast(bytes, content))
    target = _put_varint(target, size)
    memcpy(target, PyBytes_AS_STRING(content), size)
    return target + size


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _bytes_size(content: object) -> cython.Py_ssize_t:
    size: cython.Py_ssize_t
    if content is None:
        return 1
    size = len(cython.cast(bytes, content))
    return size + _varint_size(size)


@cython.cfunc
@cython.inline
def _as_bytes(content: object) -> object:
    """None and bytes as they are, another buffer's bytes; raises ``TypeError`` for anything else."""
    if content is None or type(content) is bytes:
        return content
    return bytes(memoryview(content))


@cython.cfunc
def _encode_headers(headers: object) -> bytes:
    """The number of headers and each one's name and content."""
    parts: list = []
    size: cython.Py_ssize_t
    count: cython.Py_ssize_t = len(headers)
    given: cython.Py_ssize_t = 0
    size = _varint_size(count)
    for name, content in headers:
        encoded_name = name.encode()
        if type(encoded_name) is not bytes:
            raise TypeError("a header's name must be a str")
        encoded_content = _as_bytes(content)
        size += _bytes_size(encoded_name) + _bytes_size(encoded_content)
        parts.append(encoded_name)
        parts.append(encoded_content)
        given += 1
    if given != count:
        raise TypeError("headers must be a sequence")
    encoded: bytes = PyBytes_FromStringAndSize(cython.NULL, size)
    target: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(encoded))
    target = _put_varint(target, count)
    for part in parts:
        target = _put_bytes(target, part)
    return encoded


@cython.final
@cython.cclass
class _Memory:
    """Bytes that grow; the one place that allocates for encoding."""

    start: cython.p_uchar
    size: cython.Py_ssize_t
    capacity: cython.Py_ssize_t

    def __dealloc__(self) -> None:
        free(self.start)

    @cython.cfunc
    @cython.exceptval(-1)
    def reserve(self, more: cython.Py_ssize_t) -> cython.int:
        """Room for ``more`` bytes after ``size``."""
        capacity: cython.Py_ssize_t
        moved: cython.p_uchar
        if more <= self.capacity - self.size:
            return 0
        if more > cython.cast(cython.Py_ssize_t, _INT64_MAX // 4) - self.size:
            raise MemoryError
        capacity = max(self.size + more, 2 * self.capacity, _FIRST_CAPACITY)
        moved = cython.cast(cython.p_uchar, realloc(self.start, capacity))
        if moved == cython.NULL:
            raise MemoryError
        self.start = moved
        self.capacity = capacity
        return 0

    @cython.cfunc
    def content(self) -> bytes:
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.start), self.size)


@cython.cclass
class RecordEncoder:
    """Collects encoded records; see ``pure_codec.RecordEncoder``."""

    _memory: _Memory
    _max_bytes: cython.Py_ssize_t
    base_timestamp = cython.declare(cython.longlong, visibility="readonly")
    max_timestamp = cython.declare(cython.longlong, visibility="readonly")
    record_count = cython.declare(cython.Py_ssize_t, visibility="readonly")
    size_bytes = cython.declare(cython.Py_ssize_t, visibility="readonly")

    def __cinit__(self, *arguments: object, **options: object) -> None:
        self._memory = _Memory()
        self.base_timestamp = _NO_TIMESTAMP
        self.max_timestamp = _NO_TIMESTAMP
        self.size_bytes = _HEADER_BYTES

    def __init__(self, max_bytes: cython.Py_ssize_t = 1 << 62) -> None:
        self._max_bytes = max_bytes

    def append(self, timestamp: object, key: object, value: object, headers: object = ()) -> bool:
        """Add one record; False, and nothing is added, when it does not fit any more."""
        return self._add(timestamp, key, value, headers) == 1

    def extend_many(self, records: object) -> int:
        """Add records until one does not fit; returns how many were added. Raises as the pure codec does."""
        first: cython.Py_ssize_t = self.record_count
        size_before: cython.Py_ssize_t = self._memory.size
        max_timestamp_before: cython.longlong = self.max_timestamp
        record: object
        fields: tuple
        added: cython.int
        try:
            for record in records:
                if type(record) is tuple and len(cython.cast(tuple, record)) == 4:
                    fields = cython.cast(tuple, record)
                    added = self._add(fields[0], fields[1], fields[2], fields[3])
                else:
                    timestamp, key, value, headers = record
                    added = self._add(timestamp, key, value, headers)
                if not added:
                    break
        except BaseException:
            self._memory.size = size_before
            self.size_bytes = _HEADER_BYTES + size_before
            self.record_count = first
            self.max_timestamp = max_timestamp_before
            raise
        return self.record_count - first

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def _add(self, timestamp: object, key: object, value: object, headers: object) -> cython.int:
        """Whether the record fitted. Everything that may run Python code comes before the first write."""
        stamp: cython.longlong = timestamp
        base: cython.longlong
        delta: cython.longlong
        body_size: cython.Py_ssize_t
        size: cython.Py_ssize_t
        target: cython.p_uchar
        encoded_headers: bytes = None
        headers_size: cython.Py_ssize_t = 1
        key = _as_bytes(key)
        value = _as_bytes(value)
        if headers:
            encoded_headers = _encode_headers(headers)
            headers_size = len(encoded_headers)
        base = self.base_timestamp if self.record_count else stamp
        delta = cython.cast(
            cython.longlong, cython.cast(cython.ulonglong, stamp) - cython.cast(cython.ulonglong, base)
        )
        if (delta < 0) != (stamp < base):
            raise OverflowError(_TOO_FAR)
        body_size = (
            1
            + _varint_size(delta)
            + _varint_size(self.record_count)
            + _bytes_size(key)
            + _bytes_size(value)
            + headers_size
        )
        size = body_size + _varint_size(body_size)
        if self.record_count and size > self._max_bytes - self.size_bytes:
            return 0
        self._memory.reserve(size)
        target = self._memory.start + self._memory.size
        target = _put_varint(target, body_size)
        target[0] = 0
        target = _put_varint(target + 1, delta)
        target = _put_varint(target, self.record_count)
        target = _put_bytes(target, key)
        target = _put_bytes(target, value)
        if encoded_headers is None:
            target[0] = 0
        else:
            memcpy(target, PyBytes_AS_STRING(encoded_headers), headers_size)
        self._memory.size += size
        self.size_bytes += size
        if not self.record_count:
            self.base_timestamp = stamp
            self.max_timestamp = stamp
        elif stamp > self.max_timestamp:
            self.max_timestamp = stamp
        self.record_count += 1
        return 1

    def body(self) -> bytes:
        """All records so far, encoded."""
        return self._memory.content()


# --- decoding --------------------------------------------------------------------------------------


@cython.final
@cython.cclass
class _Reader:
    """Walks through a batch's records; its fields are those of the record it stands at."""

    data: bytes
    start: cython.p_uchar
    limit: cython.Py_ssize_t
    position: cython.Py_ssize_t
    last_delta: cython.longlong
    highest_delta: cython.longlong
    is_sparse: cython.bint
    base_offset: cython.longlong
    base_timestamp: cython.longlong
    record_start: cython.Py_ssize_t
    record_end: cython.Py_ssize_t
    attributes: cython.uchar
    timestamp_end: cython.Py_ssize_t
    timestamp: cython.longlong
    key_start: cython.Py_ssize_t
    key_size: cython.longlong
    value_start: cython.Py_ssize_t
    value_size: cython.longlong

    def __init__(self, data: bytes, header: object) -> None:
        last_offset_delta: cython.longlong = header.last_offset_delta
        record_count: cython.longlong = header.record_count
        self.data = data
        self.start = cython.cast(cython.p_uchar, PyBytes_AS_STRING(data))
        self.limit = len(data)
        self.base_offset = header.base_offset
        self.base_timestamp = header.base_timestamp
        self.last_delta = -1
        self.highest_delta = last_offset_delta
        self.is_sparse = record_count <= last_offset_delta

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=True)
    def varint(self) -> cython.longlong:
        byte: cython.uchar
        if self.position >= self.limit:
            raise ValueError(_BEYOND)
        byte = self.start[self.position]
        self.position += 1
        if byte < 0x80:
            return (byte >> 1) ^ -cython.cast(cython.longlong, byte & 1)
        return self.long_varint(byte)

    @cython.cfunc
    @cython.exceptval(-1, check=True)
    def long_varint(self, first: cython.uchar) -> cython.longlong:
        rest: cython.ulonglong = first & 0x7F
        byte: cython.uchar
        shift: cython.int
        for shift in range(7, 70, 7):
            if self.position >= self.limit:
                raise ValueError(_BEYOND)
            byte = self.start[self.position]
            self.position += 1
            if shift == 63 and byte > 1:
                raise ValueError("a varint of more than 64 bits")
            rest |= cython.cast(cython.ulonglong, byte & 0x7F) << shift
            if byte < 0x80:
                break
        return cython.cast(cython.longlong, rest >> 1) ^ -cython.cast(cython.longlong, rest & 1)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-2, check=True)
    def sized(self) -> cython.longlong:
        """Steps over a nullable byte string; its size, -1 for null."""
        size: cython.longlong = self.varint()
        if size < 0:
            if size != -1:
                raise ValueError(f"length {size}")
            return -1
        if size > self.limit - self.position:
            raise ValueError(f"{size} bytes announced, {self.limit - self.position} left")
        self.position += size
        return size

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1)
    def next(self) -> cython.int:
        """Step to the next record and read it up to its value; ``position`` is then at its headers."""
        size: cython.longlong
        delta: cython.longlong
        self.record_start = self.position
        size = self.varint()
        if size < 0 or size > self.limit - self.position:
            raise ValueError(f"a record of {size} bytes, {self.limit - self.position} left")
        self.record_end = self.position + size
        if self.position >= self.limit:
            raise ValueError(_BEYOND)
        self.attributes = self.start[self.position]
        self.position += 1
        delta = self.varint()
        self.timestamp_end = self.position
        self.timestamp = cython.cast(
            cython.longlong,
            cython.cast(cython.ulonglong, self.base_timestamp) + cython.cast(cython.ulonglong, delta),
        )
        if (delta < 0) != (self.timestamp < self.base_timestamp):
            raise ValueError(f"timestamp delta {delta}")
        delta = self.varint()
        if (
            delta <= self.last_delta
            or delta > self.highest_delta
            or (delta != self.last_delta + 1 and not self.is_sparse)
        ):
            raise ValueError(f"offset delta {delta}")
        self.last_delta = delta
        self.key_size = self.sized()
        self.key_start = self.position - (self.key_size if self.key_size > 0 else 0)
        self.value_size = self.sized()
        self.value_start = self.position - (self.value_size if self.value_size > 0 else 0)
        if self.position >= self.record_end:
            raise ValueError(f"a record ends at {self.position} instead of {self.record_end}")
        return 0

    @cython.cfunc
    @cython.inline
    def slice(self, start: cython.Py_ssize_t, size: cython.longlong) -> object:
        if size < 0:
            return None
        return PyBytes_FromStringAndSize(
            cython.cast(cython.p_char, self.start + start), cython.cast(cython.Py_ssize_t, size)
        )

    @cython.cfunc
    def headers(self) -> tuple:
        """The record's headers; steps to its end."""
        count: cython.longlong = self.varint()
        size: cython.longlong
        _: cython.longlong
        name: object
        headers: list = []
        if count < 0 or count > self.limit - self.position:
            raise ValueError(f"{count} headers")
        for _ in range(count):
            size = self.sized()
            if size < 0:
                raise ValueError("a header without a name")
            name = PyUnicode_DecodeUTF8(
                cython.cast(cython.p_char, self.start + self.position - size), size, cython.NULL
            )
            size = self.sized()
            headers.append((name, self.slice(self.position - (size if size > 0 else 0), size)))
        return tuple(headers)

    @cython.cfunc
    @cython.exceptval(-1)
    def finish(self) -> cython.int:
        """Nothing may follow the last record."""
        if self.position != self.limit:
            raise ValueError(f"{self.limit - self.position} bytes after the last record")
        return 0


def decode_body(data: bytes, header: object) -> list:
    """Every record in ``data``; raises ``ValueError`` when a length or a delta is wrong."""
    reader: _Reader = _Reader(data, header)
    records: list = []
    _: cython.longlong
    record_count: cython.longlong = header.record_count
    attributes: cython.int = header.attributes
    is_append_time: cython.bint = (attributes & _LOG_APPEND_TIME_BIT) != 0
    no_headers: tuple = ()
    headers: tuple
    key: object
    value: object
    known: cython.longlong = header.max_timestamp
    timestamp: object = known
    for _ in range(record_count):
        reader.next()
        key = reader.slice(reader.key_start, reader.key_size)
        value = reader.slice(reader.value_start, reader.value_size)
        if reader.start[reader.position] == 0:
            reader.position += 1
            headers = no_headers
        else:
            headers = reader.headers()
        if reader.position != reader.record_end:
            raise ValueError(f"a record ends at {reader.position} instead of {reader.record_end}")
        if reader.timestamp != known and not is_append_time:
            known = reader.timestamp
            timestamp = known
        records.append((reader.base_offset + reader.last_delta, timestamp, key, value, headers))
    reader.finish()
    return records


def read_keys(data: bytes, header: object) -> list:
    """Every record's offset and key, and whether it has a value; headers are not looked at."""
    reader: _Reader = _Reader(data, header)
    keys: list = []
    key: object
    _: cython.longlong
    record_count: cython.longlong = header.record_count
    for _ in range(record_count):
        reader.next()
        key = reader.slice(reader.key_start, reader.key_size)
        keys.append((reader.base_offset + reader.last_delta, key, reader.value_size >= 0))
        reader.position = reader.record_end
    reader.finish()
    return keys


def survey_records(data: bytes, header: object) -> Survey:
    """What a leader checks, of a batch that is not empty; makes no object for a record."""
    reader: _Reader = _Reader(data, header)
    _: cython.longlong
    record_count: cython.longlong = header.record_count
    lowest: cython.longlong = _INT64_MAX
    highest: cython.longlong = _INT64_MIN
    keyless: cython.longlong = 0
    for _ in range(record_count):
        reader.next()
        lowest = min(lowest, reader.timestamp)
        highest = max(highest, reader.timestamp)
        keyless += reader.key_size < 0
        reader.position = reader.record_end
    reader.finish()
    return Survey(lowest, highest, keyless)


def select_records(data: bytes, header: object, keep: bytes, base_timestamp: cython.longlong) -> Selection:
    """The records whose byte in ``keep`` is not zero, with timestamps counted from ``base_timestamp``."""
    reader: _Reader = _Reader(data, header)
    memory: _Memory = _Memory()
    number: cython.longlong
    record_count: cython.longlong = header.record_count
    count: cython.longlong = 0
    highest: cython.longlong = _INT64_MIN
    size: cython.Py_ssize_t
    decisions: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(keep))
    if len(keep) != record_count:
        raise ValueError(f"{len(keep)} decisions on {record_count} records")
    for number in range(record_count):
        reader.next()
        reader.position = reader.record_end
        if not decisions[number]:
            continue
        count += 1
        highest = max(highest, reader.timestamp)
        if base_timestamp != reader.base_timestamp:
            _copy_from(memory, reader, base_timestamp)
            continue
        size = reader.record_end - reader.record_start
        memory.reserve(size)
        memcpy(memory.start + memory.size, reader.start + reader.record_start, size)
        memory.size += size
    reader.finish()
    return Selection(memory.content(), count, highest if count else _NO_TIMESTAMP)


@cython.cfunc
@cython.exceptval(-1)
def _copy_from(memory: _Memory, reader: _Reader, base_timestamp: cython.longlong) -> cython.int:
    """Copy the record that ``reader`` stands at, with its timestamp counted from ``base_timestamp``."""
    rest: cython.Py_ssize_t = reader.record_end - reader.timestamp_end
    size: cython.Py_ssize_t
    target: cython.p_uchar
    delta: cython.longlong = cython.cast(
        cython.longlong,
        cython.cast(cython.ulonglong, reader.timestamp) - cython.cast(cython.ulonglong, base_timestamp),
    )
    if (delta < 0) != (reader.timestamp < base_timestamp):
        raise OverflowError(_TOO_FAR)
    size = 1 + _varint_size(delta) + rest
    memory.reserve(_varint_size(size) + size)
    target = _put_varint(memory.start + memory.size, size)
    target[0] = reader.attributes
    target = _put_varint(target + 1, delta)
    memcpy(target, reader.start + reader.timestamp_end, rest)
    memory.size = target + rest - memory.start
    return 0
