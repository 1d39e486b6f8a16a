"""Making a folder so that a crash does not take it back.

This module knows that a name is durable only once its parent was synced; it refuses to know what goes inside.
"""

from glasslog.common.runtime.protocols import FileSystem


def make_durable_folder(files: FileSystem, path: str) -> None:
    """Create ``path`` and whatever is missing above it, durably. May raise ``OSError``."""
    parents = []
    missing = path.rstrip("/")
    while missing and not files.is_dir(missing):
        missing, _, _ = missing.rpartition("/")
        parents.append(missing or ("/" if path.startswith("/") else "."))
    if parents:
        files.make_dirs(path)
    for parent in reversed(parents):
        files.sync_dir(parent)
