"""Error numbers from messages of other nodes, as codes. Refuses to know which message they were in."""

from glasslog.common.errors import ErrorCode, GlasslogError

_KNOWN = {code.value: code for code in ErrorCode}


def error_code_of(number: int) -> ErrorCode:
    """The code with ``number``; UNKNOWN_SERVER_ERROR for one that a newer version may have sent."""
    return _KNOWN.get(number, ErrorCode.UNKNOWN_SERVER_ERROR)


def raise_for(number: int, reason: str = "") -> None:
    """Raise the ``GlasslogError`` that an answer's ``error_code`` stands for, nothing for 0."""
    if number:
        raise GlasslogError(error_code_of(number), reason)
