"""Which codec of records this process uses: the compiled one where it was built, pure Python otherwise.

Chosen once, at import. This module refuses to know what the codecs do; tests compare them through it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, cast

from glasslog.common.runtime.extension import Compiled, NotCompiled, find_extension
from glasslog.common.runtime.protocols import Buffer
from glasslog.log import pure_codec, pure_walk
from glasslog.log.batch import BatchHeader
from glasslog.log.record_types import Headers, NewRecord, RecordKey, RecordTuple, Selection, Survey
from glasslog.log.walk_types import Scan, ScanState, SoundPart

_COMPILED_CODEC, _COMPILED_WALK = "glasslog.log.compiled_codec", "glasslog.log.compiled_walk"


class Encoder(Protocol):
    """Collects encoded records; see ``pure_codec.RecordEncoder``."""

    @property
    def base_timestamp(self) -> int: ...
    @property
    def max_timestamp(self) -> int: ...
    @property
    def record_count(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> bool: ...
    def extend_many(self, records: Iterable[NewRecord]) -> int: ...
    def body(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """The functions of ``pure_codec`` and ``pure_walk``, or of their compiled twins."""

    name: str
    encoder: Callable[..., Encoder]
    decode_body: Callable[[bytes, BatchHeader], list[RecordTuple]]
    read_keys: Callable[[bytes, BatchHeader], list[RecordKey]]
    survey_records: Callable[[bytes, BatchHeader], Survey]
    select_records: Callable[[bytes, BatchHeader, bytes, int], Selection]
    walk_sound: Callable[[Buffer, int, int, int, int], SoundPart]
    scan_batches: Callable[[Buffer, int, int, int, int, ScanState], Scan]


class _CodecModule(Protocol):
    """What both modules have."""

    RecordEncoder: Callable[..., Encoder]
    decode_body: Callable[[bytes, BatchHeader], list[RecordTuple]]
    read_keys: Callable[[bytes, BatchHeader], list[RecordKey]]
    survey_records: Callable[[bytes, BatchHeader], Survey]
    select_records: Callable[[bytes, BatchHeader, bytes, int], Selection]


class _WalkModule(Protocol):
    """What ``pure_walk`` and its compiled twin have."""

    walk_sound: Callable[[Buffer, int, int, int, int], SoundPart]
    scan_batches: Callable[[Buffer, int, int, int, int, ScanState], Scan]


def _codec_of(name: str, module: _CodecModule, walk: _WalkModule) -> Codec:
    return Codec(
        name=name,
        encoder=module.RecordEncoder,
        decode_body=module.decode_body,
        read_keys=module.read_keys,
        survey_records=module.survey_records,
        select_records=module.select_records,
        walk_sound=walk.walk_sound,
        scan_batches=walk.scan_batches,
    )


_codec, _walk = find_extension(_COMPILED_CODEC), find_extension(_COMPILED_WALK)

PURE = _codec_of("pure Python", cast(_CodecModule, pure_codec), cast(_WalkModule, pure_walk))
COMPILED = (
    _codec_of("compiled", cast(_CodecModule, _codec.module), cast(_WalkModule, _walk.module))
    if isinstance(_codec, Compiled) and isinstance(_walk, Compiled)
    else None
)
CODEC = COMPILED or PURE
_reasons = [each.reason for each in (_codec, _walk) if isinstance(each, NotCompiled)]
DESCRIPTION = f"{CODEC.name}: {_reasons[0]}" if _reasons else CODEC.name
"""The codec in use, as ``glasslog --version`` shows it."""
