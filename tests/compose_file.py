"""docker-compose.yml as tests read it: variables put in, anchors resolved. Refuses to know what is right."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.source_tree import ROOT

COMPOSE_FILE = ROOT / "docker-compose.yml"
CHAOS_ENVIRONMENT = ROOT / "deploy" / "chaos.env"
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service, in its long form where tests look."""

    name: str
    image: str
    profiles: tuple[str, ...]
    environment: Mapping[str, str]
    ports: tuple[str, ...]
    volumes: tuple[str, ...]
    depends_on: tuple[str, ...]
    keys: frozenset[str]


def variables(path: Path) -> dict[str, str]:
    """What a file of ``NAME=value`` lines says."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def document(values: Mapping[str, str] | None = None) -> dict[str, object]:
    """The whole file, with ``values`` in place of the defaults of its variables."""
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    filled = _VARIABLE.sub(lambda found: (values or {}).get(found[1], found[2]), text)
    read = yaml.safe_load(filled)
    assert isinstance(read, dict)
    return read


def services(values: Mapping[str, str] | None = None) -> dict[str, Service]:
    """Every service by its name."""
    found = document(values)["services"]
    assert isinstance(found, dict)
    return {name: _service(name, each) for name, each in found.items()}


def _service(name: str, each: Mapping[str, object]) -> Service:
    environment = each.get("environment", {})
    assert isinstance(environment, dict)
    return Service(
        name=name,
        image=str(each["image"]),
        profiles=_texts(each.get("profiles", ())),
        environment={key: str(value) for key, value in environment.items()},
        ports=_texts(each.get("ports", ())),
        volumes=_texts(each.get("volumes", ())),
        depends_on=_texts(each.get("depends_on", ())),
        keys=frozenset(each),
    )


def _texts(found: object) -> tuple[str, ...]:
    assert isinstance(found, list | tuple | dict)
    return tuple(map(str, found))
