"""Where scenario files are: a path, or the name of one that comes with glasslog."""

from pathlib import Path

from glasslog.chaos.scenario.model import Scenario
from glasslog.chaos.scenario.reading import read_scenario
from glasslog.chaos.scenario.yaml_fields import ScenarioError

FOLDER = Path(__file__).parent.parent / "scenarios"
_SUFFIX = ".yaml"


def shipped_names() -> list[str]:
    """Of all scenarios that come with glasslog, sorted."""
    return sorted(path.stem for path in FOLDER.glob(f"*{_SUFFIX}"))


def find_scenario(name: str) -> Scenario:
    """By the path of a file or by name. Raises ``ScenarioError``, also for a file that can not be read."""
    return read_scenario(*scenario_text(name))


def scenario_text(name: str) -> tuple[str, str]:
    """The file's text, and what to call it. Raises ``ScenarioError``."""
    path = FOLDER / f"{name}{_SUFFIX}" if name in shipped_names() else Path(name)
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError:
        known = ", ".join(shipped_names())
        raise ScenarioError(f"{name} is no file and no scenario of ours; there are {known}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise ScenarioError(f"{name}: {reason}") from None
