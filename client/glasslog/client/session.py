"""What producer, consumer and admin start and stop alike: tasks, connections, metadata.

Refuses to know what they do with them.
"""

from collections.abc import Callable

from glasslog.client.connections import Connections
from glasslog.client.metadata import ClusterMetadata
from glasslog.client.options import ClientOptions
from glasslog.client.tasks import TaskScope
from glasslog.common.errors import ErrorCode, GlasslogError
from glasslog.common.runtime.protocols import Runtime


class Session:
    """The connections of one client between its start and its close; ``failure`` once a task of it broke."""

    def __init__(self, runtime: Runtime | None, options: ClientOptions, name: str) -> None:
        if runtime is None:
            from glasslog.common.runtime.production.start import production_runtime

            runtime = production_runtime()
        self.runtime = runtime
        self.options = options
        self.name = name
        self.failure: GlasslogError | None = None
        self.on_failure: Callable[[GlasslogError], None] = lambda error: None
        self.scope = TaskScope(self._fail)
        self.connections = Connections(runtime, self.scope)
        self.metadata = ClusterMetadata(runtime, options, self.connections, self.scope)
        self._state = "not started"

    async def start(self) -> None:
        """Raises what ``ClusterMetadata.start`` raises, having stopped everything again."""
        if self._state != "not started":
            raise GlasslogError(
                ErrorCode.INVALID_REQUEST, f"this {self.name} was started before: make a new one"
            )
        self._state = "started"
        await self.scope.open(self.name)
        try:
            await self.metadata.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Idempotent."""
        self._state = "closed"
        self.metadata.end(GlasslogError(ErrorCode.INVALID_REQUEST, f"the {self.name} is closed"))
        await self.scope.close()
        await self.connections.close()

    @property
    def is_open(self) -> bool:
        return self._state == "started"

    @property
    def is_usable(self) -> bool:
        """Whether ``check`` raises nothing."""
        return self.failure is None and self._state == "started"

    def check(self) -> None:
        """Raise unless the client can be used."""
        if self.failure is not None:
            raise self.failure
        if self._state != "started":
            raise GlasslogError(ErrorCode.INVALID_REQUEST, f"the {self.name} is {self._state}")

    def _fail(self, error: GlasslogError) -> None:
        self.failure = error
        self.metadata.end(error)
        self.on_failure(error)
