"""Makes a backend again from what it left in its keepsake. Refuses to know what backends do."""

from collections.abc import Mapping
from pathlib import Path

from glasslog.chaos.backends.backend import Backend
from glasslog.chaos.backends.local import LocalBackend
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Json


def revived(keepsake: Mapping[str, Json]) -> Backend:
    """Raises ``CommandError`` for a keepsake of no backend."""
    match keepsake:
        case {"kind": "local", "directory": str(directory)}:
            return LocalBackend(Path(directory))
        case _:
            raise CommandError(f"no backend left this keepsake: {keepsake}")
