"""Makes a backend again from what it left in its keepsake. Refuses to know what backends do."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from glasslog.chaos.backends.backend import Backend
from glasslog.chaos.backends.compose import ComposeBackend
from glasslog.chaos.backends.local import LocalBackend
from glasslog.chaos.backends.proxies import ProxiesBackend
from glasslog.chaos.backends.toxiproxy import Toxiproxy
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.output import Json


def revived(keepsake: Mapping[str, Json]) -> Backend:
    """Raises ``CommandError`` for a keepsake of no backend."""
    match keepsake:
        case {"kind": "local", "directory": str(directory)}:
            return LocalBackend(Path(directory))
        case {"kind": "compose", "project": str(project), "networks": Mapping() as networks}:
            known = {
                str(name): [str(each) for each in found]
                for name, found in networks.items()
                if isinstance(found, Sequence)
            }
            return ComposeBackend(project, networks=known)
        case {"kind": "proxies", "address": str(address), "bootstrap": Sequence() as bootstrap}:
            return ProxiesBackend(Toxiproxy(address), [str(each) for each in bootstrap], nodes=())
        case _:
            raise CommandError(f"no backend left this keepsake: {keepsake}")
