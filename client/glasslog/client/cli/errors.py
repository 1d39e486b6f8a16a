"""What the command line refuses, and how it ends when interrupted. Refuses to know how an error is shown."""

from glasslog.common.errors import ErrorCode, GlasslogError


class CommandError(GlasslogError):
    """A command that can not be done; the text is the one line that the user reads. Exit status 1."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_REQUEST, message)


class UsageError(CommandError):
    """A command that was not asked for rightly. Exit status 2."""


class Interrupted(Exception):  # noqa: N818 - an ending that was asked for, like KeyboardInterrupt
    """The user asked to stop (Ctrl-C, SIGTERM) and everything begun has been undone. Exit status 130."""
