"""Which decoder makes sense of the records in a folder. Refuses to know how records are shown."""

from collections.abc import Mapping

from glasslog.log.inspection.internal_topics import decode_offsets_record, decode_transactions_record
from glasslog.log.inspection.items import Fields, RecordDecoder
from glasslog.log.inspection.kinds import Contents, contents_of


def decoder_for(folder: str, named: str | None = None) -> RecordDecoder | None:
    """The decoder with that name, or the one for the partition in ``folder``, a path; None: shows bytes."""
    return _DECODERS[contents_of(folder) if named is None else Contents(named)]


def _decode_metadata(_: bytes | None, value: bytes | None) -> Fields:
    # Only a metadata log needs protobuf.
    from glasslog.metadata.readable import describe_metadata_value

    return describe_metadata_value(value)


_DECODERS: Mapping[Contents, RecordDecoder | None] = {
    Contents.PLAIN: None,
    Contents.OFFSETS: decode_offsets_record,
    Contents.TRANSACTIONS: decode_transactions_record,
    Contents.METADATA: _decode_metadata,
}
