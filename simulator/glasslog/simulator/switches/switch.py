"""What a switch is, and how it puts a bug back. Refuses to know any bug.

Production code knows nothing of switches: a switch replaces attributes of its classes and modules, in the
process that simulates, for as long as its context lasts.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """A historical bug. ``bug`` is a context in which the code has it.

    ``scenario`` names the scenario that shows it, empty for the drawn mix of faults; the checker or an
    invariant catches it with one of the seeds below ``seeds``, and with none of them when it is off.
    """

    name: str
    description: str
    origin: str
    bug: Callable[[], AbstractContextManager[None]]
    scenario: str
    seeds: int


def instead_of(original: Callable[P, T]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Marks a replacement, so that the type checker holds it to the signature of what it replaces."""
    return lambda replacement: replacement


@contextmanager
def patched(owner: object, name: str, replacement: object) -> Iterator[None]:
    """``owner.name`` is ``replacement`` for the length of the context.

    Raises ``AttributeError`` when there is nothing of that name to replace: then the code has moved on, and
    the switch has to follow it.
    """
    if name not in vars(owner):
        raise AttributeError(f"{owner!r} has no {name} of its own")
    original = vars(owner)[name]
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
