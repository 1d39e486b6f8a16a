"""Puts a rewritten segment in the place of those that it stands for: in the log, in the folder, durably.

This module knows what may block and what must be durable before what; it refuses to know why a segment was
written anew.  See ``glasslog.log.replacement``.
"""

from collections.abc import Sequence

from glasslog.broker.file_removal import FileRemoval
from glasslog.broker.log_claims import LogAborted, LogClaim
from glasslog.common.errors import StorageError
from glasslog.common.runtime.protocols import Runtime
from glasslog.log.segment import Segment


async def put_in_place(
    runtime: Runtime, removal: FileRemoval, claim: LogClaim, segment: Segment, *, replaced: Sequence[int]
) -> None:
    """The segments that begin at ``replaced`` go, ``segment`` takes their place.

    Raises ``StorageError`` and ``LogAborted``; nothing is left of ``segment`` then.
    """
    log = claim.log
    try:
        claim.check()
        replacement = log.begin_replacement(segment, replaced=replaced)
    except (StorageError, LogAborted):
        await runtime.blocking(segment.remove_files)
        raise
    try:
        await runtime.blocking(log.sync_folder)
        claim.check()
        old = log.finish_replacement(replacement)
    except (StorageError, LogAborted):
        log.cancel_replacement(replacement)
        raise
    for each in old:
        removal.after(log.config.file_delete_delay_ms, each)
    await runtime.blocking(log.sync_folder)
    log.complete_replacement(replacement)
