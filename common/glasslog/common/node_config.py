"""The settings of a node: Kafka's keys, meanings and defaults, and a few of our own.

Own keys, and own defaults where Kafka's are slow to notice a failure, say why in their text. This module
knows the table; it refuses to know where values come from and what is done with them.
"""

import sys
from dataclasses import dataclass

from glasslog.common.addresses import Voter, known_controllers
from glasslog.common.config import INT_MAX, LONG_MAX, setting

NEVER_MS = LONG_MAX
"""An interval of this length never ends."""
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
RACK_AWARE_SELECTOR = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
COMPRESSION_TYPES = ("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd")
TIMESTAMP_TYPES = ("CreateTime", "LogAppendTime")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Everything a ``glasslog server`` can be told."""

    # --- who it is ---
    node_id: int = setting("node.id", "this node's id, unique in the cluster", minimum=0, maximum=INT_MAX)
    process_roles: tuple[str, ...] = setting(
        "process.roles", "what this process is", choices=("broker", "controller")
    )
    cluster_id: str = setting(
        "cluster.id",
        "22 characters that name the cluster; a data directory of another cluster is refused",
        default="",
    )
    broker_rack: str = setting("broker.rack", "where the broker stands, for placement", default="")

    # --- where it listens ---
    listeners: tuple[str, ...] = setting(
        "listeners",
        "listeners as NAME://host:port; port 0 takes a free one. Names are GRPC, KAFKA, CONTROLLER; further "
        "ones of GRPC and KAFKA, as in KAFKA_HOST, tell their clients the addresses advertised by that name",
        default=("GRPC://127.0.0.1:9192", "KAFKA://127.0.0.1:9092"),
    )
    advertised_listeners: tuple[str, ...] = setting(
        "advertised.listeners",
        "how others reach the listeners, by the same names; empty: as in listeners",
        default=(),
    )
    http_listener: str = setting(
        "http.listener", "host:port of /livez, /readyz and /metrics; empty: none", default="127.0.0.1:9644"
    )
    socket_request_max_bytes: int = setting(
        "socket.request.max.bytes",
        "largest request in bytes",
        default=104_857_600,
        minimum=1024,
        maximum=INT_MAX,
    )
    stream_max_in_flight_requests: int = setting(
        "stream.max.in.flight.requests",
        "own key: unanswered requests of one Produce or Fetch stream, or of one Kafka connection; more wait "
        "in the client's window",
        default=64,
        minimum=1,
        maximum=10_000,
    )
    max_connections: int = setting(
        "max.connections",
        "open connections of the KAFKA listener, replicas' included; Kafka's has no bound",
        default=10_000,
        minimum=1,
        maximum=INT_MAX,
    )
    max_connections_per_ip: int = setting(
        "max.connections.per.ip", "of them, from one address", default=INT_MAX, minimum=1, maximum=INT_MAX
    )
    connections_max_idle_ms: int = setting(
        "connections.max.idle.ms",
        "a connection of the KAFKA listener that has asked nothing for so long is closed, at the latest "
        "after twice that",
        default=600_000,
        minimum=1,
        maximum=INT_MAX,
    )

    # --- its disks ---
    log_dirs: tuple[str, ...] = setting("log.dirs", "folders for partitions", default=("data",))
    metadata_log_dir: str = setting(
        "metadata.log.dir", "folder for the metadata log; empty: the first of log.dirs", default=""
    )

    # --- the quorum ---
    controller_quorum_voters: tuple[str, ...] = setting(
        "controller.quorum.voters",
        "the first voters as id@host:port, until the metadata log itself names voters",
        default=(),
    )
    controller_quorum_bootstrap_servers: tuple[str, ...] = setting(
        "controller.quorum.bootstrap.servers",
        "controllers as host:port that know who leads; for brokers, and for a controller that is to be added",
        default=(),
    )
    controller_quorum_election_timeout_ms: int = setting(
        "controller.quorum.election.timeout.ms",
        "how long a candidate waits for votes; lower than Kafka's 1000 for quick failover",
        default=500,
        minimum=10,
        maximum=INT_MAX,
    )
    controller_quorum_fetch_timeout_ms: int = setting(
        "controller.quorum.fetch.timeout.ms",
        "how long a follower bears silence of its leader before it seeks election, and a leader silence "
        "of the majority before it resigns; lower than Kafka's 2000 for quick failover",
        default=800,
        minimum=20,
        maximum=INT_MAX,
    )
    controller_quorum_request_timeout_ms: int = setting(
        "controller.quorum.request.timeout.ms", "for one request", default=2000, minimum=10, maximum=INT_MAX
    )
    controller_quorum_append_linger_ms: int = setting(
        "controller.quorum.append.linger.ms",
        "the active controller collects decisions for so long before it writes and syncs them; "
        "at 0 those that come during one sync share the next. Kafka's is 25",
        default=0,
        minimum=0,
        maximum=60_000,
    )

    metadata_log_segment_bytes: int = setting(
        "metadata.log.segment.bytes",
        "of one segment of the metadata log, at least 17 MiB; Kafka's is 1 GiB",
        default=67_108_864,
        minimum=8_388_608,
        maximum=INT_MAX,
    )
    metadata_log_max_record_bytes_between_snapshots: int = setting(
        "metadata.log.max.record.bytes.between.snapshots",
        "after so many bytes of committed metadata a snapshot is taken",
        default=20_971_520,
        minimum=1,
    )
    metadata_log_max_snapshot_interval_ms: int = setting(
        "metadata.log.max.snapshot.interval.ms",
        "a snapshot is taken after so long if there is new metadata; 0: only by size",
        default=3_600_000,
        minimum=0,
    )
    metadata_max_retention_bytes: int = setting(
        "metadata.max.retention.bytes",
        "beyond so many bytes of metadata log and snapshots the older ones go; -1: no bound",
        default=104_857_600,
        minimum=-1,
    )
    metadata_max_retention_ms: int = setting(
        "metadata.max.retention.ms",
        "metadata log and snapshots go when a later snapshot is older than this; -1: no bound",
        default=604_800_000,
        minimum=-1,
    )

    # --- brokers, as the controller sees them ---
    broker_session_timeout_ms: int = setting(
        "broker.session.timeout.ms",
        "a broker silent for so long is fenced",
        default=9000,
        minimum=50,
        maximum=INT_MAX,
    )
    broker_heartbeat_interval_ms: int = setting(
        "broker.heartbeat.interval.ms", "between heartbeats", default=2000, minimum=10, maximum=INT_MAX
    )
    broker_failure_grace_ms: int = setting(
        "broker.failure.grace.ms",
        "own key: a broker whose session stream broke and was not opened again within this time is fenced, "
        "without waiting for broker.session.timeout.ms",
        default=150,
        minimum=0,
        maximum=INT_MAX,
    )
    initial_broker_registration_timeout_ms: int = setting(
        "initial.broker.registration.timeout.ms",
        "a broker that can not register for so long stops",
        default=60_000,
        minimum=100,
        maximum=INT_MAX,
    )
    controlled_shutdown_timeout_ms: int = setting(
        "controlled.shutdown.timeout.ms",
        "own key: how long a stopping broker waits for its leaderships to move",
        default=10_000,
        minimum=0,
        maximum=INT_MAX,
    )

    # --- topics by default ---
    num_partitions: int = setting(
        "num.partitions", "of a topic that does not say", default=1, minimum=1, maximum=10_000
    )
    default_replication_factor: int = setting(
        "default.replication.factor", "of a topic that does not say", default=1, minimum=1, maximum=100
    )
    auto_create_topics_enable: bool = setting(
        "auto.create.topics.enable", "create an unknown topic when a client names it", default=True
    )
    min_insync_replicas: int = setting(
        "min.insync.replicas",
        "for acks=all, where the topic does not say; controllers need it as well: who leaves a smaller ISR "
        "may still be elected (KIP-966)",
        default=1,
        minimum=1,
    )
    unclean_leader_election_enable: bool = setting(
        "unclean.leader.election.enable",
        "elect a replica outside the ISR when no other is left, where the topic does not say",
        default=False,
    )
    auto_leader_rebalance_enable: bool = setting(
        "auto.leader.rebalance.enable", "give leaderships back to the first of the replicas", default=True
    )
    leader_imbalance_check_interval_seconds: int = setting(
        "leader.imbalance.check.interval.seconds",
        "between two looks at who leads what",
        default=300,
        minimum=1,
    )
    leader_imbalance_per_broker_percentage: int = setting(
        "leader.imbalance.per.broker.percentage",
        "of its own leaderships that a broker may lack before it gets them back",
        default=10,
        minimum=0,
    )
    message_max_bytes: int = setting(
        "message.max.bytes",
        "largest record batch, where the topic does not say",
        default=1_048_588,
        minimum=0,
    )
    compression_type: str = setting(
        "compression.type",
        "of stored batches, where the topic does not say",
        default="producer",
        choices=COMPRESSION_TYPES,
    )
    log_message_timestamp_type: str = setting(
        "log.message.timestamp.type",
        "whose clock stamps a record, where the topic does not say",
        default="CreateTime",
        choices=TIMESTAMP_TYPES,
    )
    log_message_timestamp_before_max_ms: int = setting(
        "log.message.timestamp.before.max.ms",
        "how far before the leader's clock a record may be stamped, where the topic does not say",
        default=LONG_MAX,
        minimum=0,
        maximum=LONG_MAX,
    )
    log_message_timestamp_after_max_ms: int = setting(
        "log.message.timestamp.after.max.ms",
        "how far after it, where the topic does not say",
        default=HOUR_MS,
        minimum=0,
        maximum=LONG_MAX,
    )
    log_segment_bytes: int = setting(
        "log.segment.bytes", "segment size, where the topic does not say", default=1_073_741_824, minimum=1024
    )
    log_retention_hours: int = setting(
        "log.retention.hours",
        "a closed segment whose newest record is older is deleted, where the topic does not say; -1: never",
        default=168,
        minimum=-1,
        maximum=INT_MAX,
    )
    log_retention_minutes: int = setting(
        "log.retention.minutes",
        "in place of log.retention.hours; 0: not set",
        default=0,
        minimum=-1,
        maximum=INT_MAX,
    )
    log_retention_ms: int = setting(
        "log.retention.ms",
        "in place of log.retention.minutes; 0: not set",
        default=0,
        minimum=-1,
        maximum=LONG_MAX,
    )
    log_retention_bytes: int = setting(
        "log.retention.bytes",
        "the oldest closed segments above it are deleted, per partition, where the topic does not say; "
        "-1: unbounded",
        default=-1,
        minimum=-1,
        maximum=LONG_MAX,
    )
    log_cleanup_policy: tuple[str, ...] = setting(
        "log.cleanup.policy",
        "of a topic that does not say",
        default=("delete",),
        choices=("delete", "compact"),
    )
    log_cleaner_delete_retention_ms: int = setting(
        "log.cleaner.delete.retention.ms",
        "how long compaction keeps tombstones, where the topic does not say",
        default=DAY_MS,
        minimum=0,
        maximum=LONG_MAX,
    )
    log_cleaner_min_compaction_lag_ms: int = setting(
        "log.cleaner.min.compaction.lag.ms",
        "younger records are not compacted, where the topic does not say",
        default=0,
        minimum=0,
        maximum=LONG_MAX,
    )
    log_cleaner_max_compaction_lag_ms: int = setting(
        "log.cleaner.max.compaction.lag.ms",
        "older ones are, however little there is to do, where the topic does not say",
        default=LONG_MAX,
        minimum=1,
        maximum=LONG_MAX,
    )
    log_cleaner_min_cleanable_ratio: float = setting(
        "log.cleaner.min.cleanable.ratio",
        "the dirty share of a log from which on it is compacted, where the topic does not say",
        default=0.5,
        minimum=0,
        maximum=1,
    )
    log_segment_delete_delay_ms: int = setting(
        "log.segment.delete.delay.ms",
        "from a segment's removal to that of its files, where the topic does not say",
        default=60_000,
        minimum=0,
        maximum=LONG_MAX,
    )

    # --- the log ---
    log_roll_hours: int = setting(
        "log.roll.hours",
        "a segment is closed at this age, where the topic does not say",
        default=168,
        minimum=1,
        maximum=INT_MAX,
    )
    log_roll_ms: int = setting(
        "log.roll.ms", "in place of log.roll.hours; 0: not set", default=0, minimum=0, maximum=LONG_MAX
    )
    log_roll_jitter_hours: int = setting(
        "log.roll.jitter.hours",
        "the most by which a segment is closed earlier, where the topic does not say",
        default=0,
        minimum=0,
        maximum=INT_MAX,
    )
    log_roll_jitter_ms: int = setting(
        "log.roll.jitter.ms",
        "in place of log.roll.jitter.hours; 0: not set",
        default=0,
        minimum=0,
        maximum=LONG_MAX,
    )
    log_index_size_max_bytes: int = setting(
        "log.index.size.max.bytes",
        "a segment with an index of this size is closed, where the topic does not say",
        default=10_485_760,
        minimum=4,
        maximum=INT_MAX,
    )
    log_index_interval_bytes: int = setting(
        "log.index.interval.bytes",
        "log bytes between index entries, where the topic does not say",
        default=4096,
        minimum=0,
        maximum=INT_MAX,
    )
    log_flush_interval_messages: int = setting(
        "log.flush.interval.messages",
        "with so many records not synced a log is synced before the append is answered, one sync for all "
        "appends that wait; where the topic does not say",
        default=LONG_MAX,
        minimum=1,
        maximum=LONG_MAX,
    )
    log_flush_interval_ms: int = setting(
        "log.flush.interval.ms",
        "a log with records that are not synced is synced so long after its last sync, where the topic does "
        "not say; looked at every log.flush.scheduler.interval.ms; -1: that interval",
        default=-1,
        minimum=-1,
        maximum=LONG_MAX,
    )
    log_flush_scheduler_interval_ms: int = setting(
        "log.flush.scheduler.interval.ms",
        "between looks for logs that flush.ms wants synced; by default nobody looks, and replicas are what "
        "keeps a record",
        default=LONG_MAX,
        minimum=1,
        maximum=LONG_MAX,
    )
    log_retention_check_interval_ms: int = setting(
        "log.retention.check.interval.ms",
        "between looks for segments to delete",
        default=300_000,
        minimum=1,
        maximum=LONG_MAX,
    )
    log_flush_start_offset_checkpoint_interval_ms: int = setting(
        "log.flush.start.offset.checkpoint.interval.ms",
        "between log start offset checkpoints",
        default=60_000,
        minimum=1,
        maximum=INT_MAX,
    )
    num_recovery_threads_per_data_dir: int = setting(
        "num.recovery.threads.per.data.dir",
        "logs of one data directory that are opened at a time when a broker starts, and closed when it stops",
        default=2,
        minimum=1,
        maximum=INT_MAX,
    )
    log_cleaner_enable: bool = setting(
        "log.cleaner.enable", "compact the logs of topics whose cleanup.policy says so", default=True
    )
    log_cleaner_threads: int = setting(
        "log.cleaner.threads",
        "logs compacted at one time; always one here: in one process more would only take turns",
        default=1,
        minimum=1,
        maximum=1,
    )
    log_cleaner_dedupe_buffer_size: int = setting(
        "log.cleaner.dedupe.buffer.size",
        "bytes for the keys of one compaction, some 180 a key; what they do not cover is for the next one",
        default=134_217_728,
        minimum=1024,
        maximum=LONG_MAX,
    )
    log_cleaner_io_buffer_size: int = setting(
        "log.cleaner.io.buffer.size",
        "bytes of a log that compaction reads at once",
        default=524_288,
        minimum=1,
        maximum=INT_MAX,
    )
    log_cleaner_io_max_bytes_per_second: float = setting(
        "log.cleaner.io.max.bytes.per.second",
        "what compaction reads and writes, together",
        default=sys.float_info.max,
        minimum=1,
    )
    num_replica_alter_log_dirs_threads: int = setting(
        "num.replica.alter.log.dirs.threads",
        "replicas that are copied between data directories at one time; 0: as many as there are directories",
        default=0,
        minimum=0,
        maximum=INT_MAX,
    )
    replica_alter_log_dirs_io_max_bytes_per_second: int = setting(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        "what is copied between data directories, of all replicas together",
        default=LONG_MAX,
        minimum=1,
        maximum=LONG_MAX,
    )
    log_repair_io_max_bytes_per_second: float = setting(
        "log.repair.io.max.bytes.per.second",
        "what the repair of damaged segments reads and writes, together; own to glasslog",
        default=100_000_000,
        minimum=1,
    )
    log_scrub_interval_ms: int = setting(
        "log.scrub.interval.ms",
        "between two looks at every checksum of every closed segment; 0: never; own to glasslog",
        default=0,
        minimum=0,
        maximum=LONG_MAX,
    )
    log_scrub_io_max_bytes_per_second: float = setting(
        "log.scrub.io.max.bytes.per.second",
        "what such a look reads; own to glasslog",
        default=20_000_000,
        minimum=1,
    )
    log_cleaner_backoff_ms: int = setting(
        "log.cleaner.backoff.ms",
        "until the next look when no log needs compaction",
        default=15_000,
        minimum=1,
        maximum=LONG_MAX,
    )
    log_flush_offset_checkpoint_interval_ms: int = setting(
        "log.flush.offset.checkpoint.interval.ms",
        "between recovery-point checkpoints",
        default=60_000,
        minimum=1,
    )
    replica_high_watermark_checkpoint_interval_ms: int = setting(
        "replica.high.watermark.checkpoint.interval.ms", "between checkpoints", default=5000, minimum=1
    )
    producer_id_expiration_ms: int = setting(
        "producer.id.expiration.ms", "a silent idempotent producer is forgotten", default=DAY_MS, minimum=1
    )

    # --- replication ---
    replica_lag_time_max_ms: int = setting(
        "replica.lag.time.max.ms",
        "a follower that has not caught up for so long leaves the ISR",
        default=30_000,
        minimum=10,
    )
    replica_fetch_wait_max_ms: int = setting(
        "replica.fetch.wait.max.ms", "longest wait of a follower's fetch", default=500, minimum=1
    )
    replica_fetch_min_bytes: int = setting(
        "replica.fetch.min.bytes", "a follower's fetch waits for so much", default=1, minimum=0
    )
    replica_fetch_max_bytes: int = setting(
        "replica.fetch.max.bytes", "per partition", default=1_048_576, minimum=0
    )
    replica_fetch_response_max_bytes: int = setting(
        "replica.fetch.response.max.bytes", "per response", default=10_485_760, minimum=0
    )
    leader_replication_throttled_rate: int = setting(
        "leader.replication.throttled.rate",
        "bytes per second to followers that are not in sync, of what topics throttle",
        default=LONG_MAX,
        minimum=1,
        maximum=LONG_MAX,
    )
    follower_replication_throttled_rate: int = setting(
        "follower.replication.throttled.rate",
        "bytes per second from leaders while not in sync, of what topics throttle",
        default=LONG_MAX,
        minimum=1,
        maximum=LONG_MAX,
    )
    quota_window_num: int = setting(
        "quota.window.num",
        "windows over which rates are measured of clients with quotas: what is allowed in all but one "
        "of them may be used at once",
        default=11,
        minimum=1,
        maximum=INT_MAX,
    )
    quota_window_size_seconds: int = setting(
        "quota.window.size.seconds", "length of such a window", default=1, minimum=1, maximum=INT_MAX
    )
    replica_selector_class: str = setting(
        "replica.selector.class",
        "whom leaders name to consumers that tell their rack: empty, themselves; else, the closest follower "
        "in sync",
        default="",
        choices=("", RACK_AWARE_SELECTOR),
    )
    replica_fetch_backoff_ms: int = setting(
        "replica.fetch.backoff.ms",
        "after an error of a partition or a peer; lower than Kafka's 1000 for quick failover",
        default=100,
        minimum=0,
    )
    max_incremental_fetch_session_cache_slots: int = setting(
        "max.incremental.fetch.session.cache.slots", "fetch sessions kept", default=1000, minimum=0
    )
    cold_reads_max_in_flight: int = setting(
        "cold.reads.max.in.flight",
        "own key: ranges of files that are not in the page cache and are read from disk at one time",
        default=4,
        minimum=1,
        maximum=64,
    )
    fetch_max_bytes: int = setting(
        "fetch.max.bytes", "largest answer to one fetch", default=57_671_680, minimum=1024
    )

    # --- groups ---
    offsets_topic_num_partitions: int = setting(
        "offsets.topic.num.partitions", "of __consumer_offsets", default=50, minimum=1, maximum=10_000
    )
    offsets_topic_segment_bytes: int = setting(
        "offsets.topic.segment.bytes",
        "of __consumer_offsets when it is made; a small segment is compacted soon and read quickly",
        default=104_857_600,
        minimum=1024,
        maximum=INT_MAX,
    )
    offsets_topic_replication_factor: int = setting(
        "offsets.topic.replication.factor",
        "of __consumer_offsets, which is made when so many brokers are there",
        default=3,
        minimum=1,
    )
    offset_metadata_max_bytes: int = setting(
        "offset.metadata.max.bytes", "with one committed offset", default=4096, minimum=0
    )
    offsets_retention_minutes: int = setting(
        "offsets.retention.minutes",
        "offsets are kept after a group's last member left, or after their commit where nobody subscribes",
        default=10_080,
        minimum=1,
        maximum=INT_MAX,
    )
    offsets_retention_check_interval_ms: int = setting(
        "offsets.retention.check.interval.ms", "pause between looks for them", default=600_000, minimum=1
    )
    group_initial_rebalance_delay_ms: int = setting(
        "group.initial.rebalance.delay.ms",
        "an empty group waits so long for more members; Kafka's is 3000",
        default=100,
        minimum=0,
    )
    group_min_session_timeout_ms: int = setting(
        "group.min.session.timeout.ms", "smallest a consumer may ask for", default=6000, minimum=1
    )
    group_max_session_timeout_ms: int = setting(
        "group.max.session.timeout.ms", "largest a consumer may ask for", default=1_800_000, minimum=1
    )
    group_max_size: int = setting("group.max.size", "most members of a group", default=INT_MAX, minimum=1)

    # --- housekeeping ---
    chaos_enabled: bool = setting(
        "chaos.enabled",
        "own key: whether `glasslog chaos run` may break this cluster on purpose; asked of every broker",
        default=False,
    )
    chaos_detours: tuple[str, ...] = setting(
        "chaos.detours",
        "own key: only with chaos.enabled: where this node dials in place of the addresses that it is told, "
        "as host:port=host:port; so there can be a proxy between it and each other node",
        default=(),
    )
    log_level: str = setting(
        "log.level",
        "own key: of the node's own log",
        default="INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    )

    @property
    def is_broker(self) -> bool:
        return "broker" in self.process_roles

    @property
    def is_controller(self) -> bool:
        return "controller" in self.process_roles

    @property
    def known_controllers(self) -> tuple[Voter, ...]:
        """Whom a broker asks first: voters and bootstrap servers. Raises ``ConfigError``."""
        return known_controllers(
            voters=self.controller_quorum_voters,
            bootstrap_servers=self.controller_quorum_bootstrap_servers,
        )

    @property
    def effective_metadata_log_dir(self) -> str:
        return self.metadata_log_dir or self.log_dirs[0]

    @property
    def effective_roll_ms(self) -> int:
        return self.log_roll_ms or self.log_roll_hours * HOUR_MS

    @property
    def effective_roll_jitter_ms(self) -> int:
        return self.log_roll_jitter_ms or self.log_roll_jitter_hours * HOUR_MS

    @property
    def effective_flush_ms(self) -> int:
        own = self.log_flush_interval_ms
        return self.log_flush_scheduler_interval_ms if own < 0 else own

    @property
    def effective_retention_ms(self) -> int:
        """Of the three settings the finest that is set; -1: forever."""
        if self.log_retention_ms:
            return self.log_retention_ms
        if self.log_retention_minutes:
            return max(self.log_retention_minutes * MINUTE_MS, -1)
        return max(self.log_retention_hours * HOUR_MS, -1)
