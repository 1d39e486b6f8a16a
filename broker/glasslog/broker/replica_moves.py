"""Moves replicas between the data directories of this broker while they lead or follow (KIP-113).

A copy grows beside the replica in a folder ``TOPIC-N.<32 hex digits>-future`` of the other directory, and
then takes its place.  A restart goes on with what was copied: the folder is the order.  This module knows
which replicas move and whose turn it is; the way of each is ``replica_move``'s.
Source: Kafka's ``ReplicaAlterLogDirsManager`` and ``ReplicaManager.alterReplicaLogDirs``.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple, assert_never

from glasslog.broker.directory_reports import DirectorySink
from glasslog.broker.directory_sizes import ReplicaSize
from glasslog.broker.replica_copy import lag
from glasslog.broker.replica_move import DAMAGE_BACKOFF_MS, Copied, Moved, MoveParts, Refused, ReplicaMove
from glasslog.broker.stored_logs import BrokenLog, StoredLog
from glasslog.broker.throttle import Throttle
from glasslog.common.errors import ErrorCode, GlasslogError, StorageError
from glasslog.common.ids import TopicPartition
from glasslog.log.directory import FutureFolder, LogDirectory, has_future_name

_LOGGER = logging.getLogger(__name__)


class DirectoryWish(NamedTuple):
    """A replica of this broker, and the data directory that it is to lie in."""

    name: TopicPartition
    path: str


class ReplicaMoves:
    """See the module. ``run`` until cancelled."""

    def __init__(self, parts: MoveParts, reports: DirectorySink) -> None:
        self._parts = parts
        self._replicas = parts.replicas
        self._runtime = parts.replicas.runtime
        self._logs = parts.logs
        self._reports = reports
        self._moves: dict[TopicPartition, ReplicaMove] = {}
        self._due: asyncio.Queue[ReplicaMove] = asyncio.Queue()
        self._throttle = Throttle(self._runtime.clock, bytes_per_second=1)

    # --- what is asked for ------------------------------------------------------------------------------

    async def alter(self, wishes: Sequence[DirectoryWish]) -> list[ErrorCode]:
        """Begin to move each replica, or give up what moves elsewhere; one outcome per wish, in order.

        LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR where a disk has failed, INVALID_TOPIC_EXCEPTION for a name
        that is too long for a folder of this kind, UNKNOWN_TOPIC_OR_PARTITION.  REPLICA_NOT_AVAILABLE when
        the replica is not here: it will be made in that directory when it comes.
        """
        outcomes: list[ErrorCode] = []
        begun: list[ReplicaMove] = []
        for wish in wishes:
            try:
                move = self._decide(wish)
            except GlasslogError as error:
                outcomes.append(error.code)
                continue
            outcomes.append(ErrorCode.NONE)
            if move is not None:
                begun.append(move)
        failed = await self._begin(begun)
        return [
            ErrorCode.KAFKA_STORAGE_ERROR if outcome is ErrorCode.NONE and wish.name in failed else outcome
            for wish, outcome in zip(wishes, outcomes, strict=True)
        ]

    def _decide(self, wish: DirectoryWish) -> ReplicaMove | None:
        """In the order in which Kafka does; None when nothing has to be done."""
        name, logs = wish.name, self._logs
        if not has_future_name(name):
            raise GlasslogError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{name}: the topic's name is too long")
        directory = logs.directory_at(wish.path)
        partition, known = self._replicas.find(name), self._moves.get(name)
        if partition is not None and not partition.is_online:
            raise StorageError(f"{name} is offline")
        if known is not None and known.directory is not directory:
            _LOGGER.info("%s does not move to %s any more", name, known.directory.path)
            self._give_up(known, is_unwanted=True)
            known = None
        if partition is None:
            logs.wish(name, wish.path)
            if self._replicas.image.partition(name.topic, name.partition) is None:
                raise GlasslogError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{name} does not exist")
            raise GlasslogError(ErrorCode.REPLICA_NOT_AVAILABLE, f"{name} is not on this broker")
        stored = logs.find(name)
        if known is not None or stored is None or stored.directory is directory:
            return None
        if logs.has_lost_directories:
            # A copy of this replica may lie in one that has failed.
            raise StorageError("a data directory has failed: nothing is moved between the others")
        folder = directory.future_folder(name, unique=self._runtime.random.uuid())
        return self._note(ReplicaMove(self._parts, partition, directory, folder, is_resumed=False))

    def _note(self, move: ReplicaMove) -> ReplicaMove:
        self._moves[move.name] = move
        return move

    async def _begin(self, moves: Sequence[ReplicaMove]) -> set[TopicPartition]:
        """Make their folders: the orders outlive a crash. Returns those that could not be made."""
        for move in moves:
            move.is_busy = True

        def make() -> list[StorageError | None]:
            return [move.make_folder(move.partition.topic_id) for move in moves]

        outcomes = await self._runtime.blocking(make) if moves else []
        failed: set[TopicPartition] = set()
        for move, error in zip(moves, outcomes, strict=True):
            if error is not None:
                failed.add(move.name)
                self._logs.fail_directory(move.directory, str(error))
            else:
                _LOGGER.info("%s begins to move to %s", move.name, move.directory.path)
            self._go_on(move, 0)
        return failed

    def resume(self) -> None:
        """Go on with what an earlier process began; the metadata has said what belongs here."""
        for directory in self._logs.directories:
            try:
                for folder in directory.futures():
                    self._resume(directory, folder)
            except StorageError as error:
                self._logs.fail_directory(directory, str(error))

    def _resume(self, directory: LogDirectory, folder: FutureFolder) -> None:
        name = folder.partition
        partition, known = self._replicas.find(name), self._moves.get(name)
        if known is not None and known.folder == folder:
            return
        if partition is None or known is not None:
            self._logs.discard_future(directory, folder)
            return
        stored = self._logs.find(name)
        if isinstance(stored, BrokenLog):
            # Its own directory may come back; until then nobody knows what the copy lacks.
            return
        is_other = stored is not None and stored.directory is not directory
        if not is_other or directory.topic_id_of_future(folder) != partition.topic_id:
            self._logs.discard_future(directory, folder)
            return
        _LOGGER.info("%s goes on to move to %s", name, directory.path)
        self._due.put_nowait(
            self._note(ReplicaMove(self._parts, partition, directory, folder, is_resumed=True))
        )

    def on_removed(self, name: TopicPartition) -> None:
        """The replica leaves this broker."""
        move = self._moves.get(name)
        if move is not None:
            self._give_up(move, is_unwanted=True)

    def sizes(self, path: str) -> list[ReplicaSize]:
        """The replicas on their way to a directory."""
        return [
            ReplicaSize(
                name=name,
                size_bytes=0 if move.log is None else move.log.size_bytes,
                offset_lag=lag(move.partition.log, move.log),
                is_future=True,
            )
            for name, move in sorted(self._moves.items())
            if move.directory.path == path and move.is_possible
        ]

    # --- turns ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Give each its turn."""
        config = self._replicas.config
        workers = config.num_replica_alter_log_dirs_threads or len(config.log_dirs)
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(), name=f"moves between directories {number}")

    async def _work(self) -> None:
        while True:
            move = await self._due.get()
            if self._is_current(move):
                move.is_busy = True
                self._go_on(move, await self._step(move))

    def _go_on(self, move: ReplicaMove, delay_ms: float) -> None:
        """After a step: its next turn, if there is to be one."""
        move.is_busy = False
        if not self._is_current(move):
            return
        if delay_ms > 0:
            asyncio.get_running_loop().call_later(delay_ms / 1000, self._due.put_nowait, move)
        else:
            self._due.put_nowait(move)

    async def _step(self, move: ReplicaMove) -> float:
        """Returns how long to pause."""
        try:
            outcome = await move.step()
        except GlasslogError as error:
            if move.is_possible:
                self._replicas.on_error(move.partition, error)
            return DAMAGE_BACKOFF_MS
        if self._moves.get(move.name) is not move:
            return 0
        match outcome:
            case Copied(size_bytes=size_bytes, pause_ms=pause_ms):
                config = self._replicas.config
                self._throttle.bytes_per_second = config.replica_alter_log_dirs_io_max_bytes_per_second
                return pause_ms + self._throttle.delay_ms(size_bytes)
            case Moved(stored=stored):
                self._on_moved(move, stored)
            case Refused():
                await self._on_refused(move, outcome)
                return DAMAGE_BACKOFF_MS
            case _:
                assert_never(outcome)
        return 0

    def _on_moved(self, move: ReplicaMove, stored: StoredLog | BrokenLog) -> None:
        del self._moves[move.name]
        move.log = None
        move.let_go()
        if isinstance(stored, BrokenLog):
            return
        partition = move.partition
        partition.move_to(stored.log)
        self._reports.assigned(partition.topic_id, partition.name.partition, stored.directory_id)
        _LOGGER.info("%s lies in %s now", move.name, move.directory.path)
        if partition.advance_high_watermark(now_ms=self._runtime.clock.now_ms()):
            self._replicas.on_high_watermark(partition)

    async def _on_refused(self, move: ReplicaMove, refused: Refused) -> None:
        """A disk that refuses has failed; what makes no sense is copied once more."""
        if not refused.is_content and not move.is_resumed:
            self._logs.fail_directory(move.directory, refused.reason)
            return
        _LOGGER.warning("%s is copied to %s anew: %s", move.name, move.directory.path, refused.reason)
        self._give_up(move, is_unwanted=True)
        await self.alter((DirectoryWish(move.name, move.directory.path),))

    # --- ends -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give handles back; what was copied stays for the next start."""
        for move in list(self._moves.values()):
            self._give_up(move, is_unwanted=False)

    def _is_current(self, move: ReplicaMove) -> bool:
        """Whether it is still to be done; a disk that has failed ends it."""
        if self._moves.get(move.name) is not move:
            self._clear(move)
            return False
        if not move.is_possible:
            self._give_up(move, is_unwanted=False)
            return False
        return True

    def _give_up(self, move: ReplicaMove, *, is_unwanted: bool) -> None:
        move.is_unwanted = is_unwanted
        if self._moves.get(move.name) is move:
            del self._moves[move.name]
        self._clear(move)

    def _clear(self, move: ReplicaMove) -> None:
        """Unless a step is under way; then after it."""
        if move.is_busy:
            return
        move.let_go()
        if move.log is not None:
            move.log.abandon()
            move.log = None
        if move.is_unwanted:
            move.is_unwanted = False
            self._logs.discard_future(move.directory, move.folder)
