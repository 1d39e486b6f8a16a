"""What the API refuses, with the HTTP status of each. Source of texts and statuses: Toxiproxy 2's API."""

from typing import ClassVar


class ToxiproxyError(Exception):
    """A refused request; ``detail`` says what was wrong with it."""

    status: ClassVar[int] = 500
    text: ClassVar[str] = "internal error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(f"{self.text}: {detail}" if detail else self.text)


class BadRequestBody(ToxiproxyError):  # noqa: N818 - these are named as the API names them
    """Not JSON, or a field has the wrong type or range."""

    status, text = 400, "bad request body"


class MissingField(ToxiproxyError):  # noqa: N818
    """A proxy without a name or an upstream."""

    status, text = 400, "missing required field"


class InvalidStream(ToxiproxyError):  # noqa: N818
    """Neither upstream nor downstream."""

    status, text = 400, "stream was invalid, can be either upstream or downstream"


class InvalidToxicType(ToxiproxyError):  # noqa: N818
    """A toxic that there is not."""

    status, text = 400, "invalid toxic type"


class ProxyNotFound(ToxiproxyError):  # noqa: N818
    """No proxy of that name."""

    status, text = 404, "proxy not found"


class ToxicNotFound(ToxiproxyError):  # noqa: N818
    """No toxic of that name."""

    status, text = 404, "toxic not found"


class ProxyAlreadyExists(ToxiproxyError):  # noqa: N818
    """The name is taken."""

    status, text = 409, "proxy already exists"


class ToxicAlreadyExists(ToxiproxyError):  # noqa: N818
    """The name is taken."""

    status, text = 409, "toxic already exists"


class CannotListen(ToxiproxyError):  # noqa: N818
    """The OS refused the address."""

    status, text = 500, "can not listen"
