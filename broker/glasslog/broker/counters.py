"""Plain counters of replication, ready to be shown as metrics. Refuses to know how."""

from dataclasses import dataclass


@dataclass(slots=True)
class ReplicationCounters:
    """Totals since the broker started; only ever grow. Bytes are of record batches."""

    isr_shrinks: int = 0
    isr_expands: int = 0
    isr_changes_refused: int = 0
    bytes_in: int = 0
    """Appended by producers and coordinators."""
    bytes_out: int = 0
    """Read by consumers."""
    replication_bytes_in: int = 0
    """Appended from leaders."""
    replication_bytes_out: int = 0
    """Read by followers."""
    produce_requests: int = 0
    fetch_requests: int = 0
    failed_produces: int = 0
    failed_fetches: int = 0
    produce_timeouts: int = 0
    truncations: int = 0
    committed_offsets_cut: int = 0
    """Below replicas' own high watermarks: lost with an unclean election, or with all replicas in sync."""
    throttled_requests: int = 0
    """Of clients that were held back for a quota."""
    log_directory_failures: int = 0
    damages_found: int = 0
    """How often a replica here turned out to hold something else than was written."""
    damages_mended: int = 0
    bytes_scrubbed: int = 0
    segments_deleted: int = 0
    """Of logs that go on, by retention or below their start."""
    segment_bytes_deleted: int = 0
