"""The ``quorum-state`` file: a voter's hard state as JSON, with Kafka's names, replaced atomically.

This module refuses to know when it must be written.  Source: Kafka's ``FileQuorumStateStore`` (version 0).
"""

import json
from collections.abc import Sequence

from glasslog.common.errors import StorageError
from glasslog.common.ids import NO_NODE, NodeId
from glasslog.common.runtime.protocols import FileSystem
from glasslog.controller.raft.types import HardState

FILE_NAME = "quorum-state"
_DATA_VERSION = 0


class QuorumFile:
    """One voter's file in one folder. Errors of the disk and of its content are ``StorageError``."""

    def __init__(
        self, files: FileSystem, directory: str, *, cluster_id: str, voters: Sequence[NodeId]
    ) -> None:
        self._files = files
        self._path = f"{directory}/{FILE_NAME}"
        self._cluster_id = cluster_id
        self._voters = tuple(voters)

    def read(self) -> HardState:
        """The stored state, or that of a voter which has never taken part."""
        try:
            if not self._files.exists(self._path):
                return HardState()
            data = self._files.read(self._path)
        except OSError as error:
            raise StorageError(f"{self._path}: can not be read: {error.strerror or error}") from error
        return self._parse(data)

    def write(self, state: HardState) -> None:
        """Replace the file durably; blocks on the disk."""
        content = {
            "clusterId": self._cluster_id,
            "leaderId": int(state.leader_id),
            "leaderEpoch": state.epoch,
            "votedId": int(state.voted_for),
            "appliedOffset": 0,
            "currentVoters": [{"voterId": int(voter)} for voter in self._voters],
            "data_version": _DATA_VERSION,
        }
        try:
            self._files.write_atomic(self._path, json.dumps(content).encode())
        except OSError as error:
            raise StorageError(f"{self._path}: can not be written: {error.strerror or error}") from error

    def _parse(self, data: bytes) -> HardState:
        try:
            content: object = json.loads(data)
        except ValueError as error:
            raise StorageError(f"{self._path}: not JSON: {error}") from error
        if not isinstance(content, dict):
            raise StorageError(f"{self._path}: not a JSON object")
        if content.get("data_version") != _DATA_VERSION:
            version = content.get("data_version")
            raise StorageError(f"{self._path}: data_version is {version!r}, only {_DATA_VERSION} is known")
        cluster_id = content.get("clusterId")
        if cluster_id != self._cluster_id:
            raise StorageError(
                f"{self._path}: of cluster {cluster_id!r}, this node's is {self._cluster_id!r}"
            )
        return HardState(
            epoch=self._integer(content, "leaderEpoch", minimum=0),
            voted_for=NodeId(self._integer(content, "votedId", minimum=NO_NODE)),
            leader_id=NodeId(self._integer(content, "leaderId", minimum=NO_NODE)),
        )

    def _integer(self, content: dict[str, object], key: str, *, minimum: int) -> int:
        value = content.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise StorageError(f"{self._path}: {key} is {value!r}, not an integer from {minimum} on")
        return value
