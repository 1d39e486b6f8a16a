"""README.md, ARCHITECTURE.md and CONTRIBUTING.md name what there is: paths, packages, classes, settings.

What README's commands print is tested by running them, in ``tests/e2e``.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from glasslog.common.config import describe, parse
from glasslog.common.config_sources import parse_properties
from glasslog.common.node_config import NodeConfig

from tests.source_tree import ROOT, SHARES, files, name_of

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
MAX_ARCHITECTURE_LINES = 350
MIN_REASON_WORDS = 4

_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(?:/[\w.*-]+)*/?")
_LINK = re.compile(r"\[[^\]]+\]\(([^)#:]+)\)")
_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_REQUIREMENT = re.compile(r"[\w.-]+")


def document(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def paragraphs(markdown: str) -> Iterator[str]:
    """Prose and tables without fenced blocks; a row of a table is a paragraph, an item of a list too."""
    yield from re.split(r"\n\s*\n|\n(?=\||\d+\. |- )", _BLOCK.sub("", markdown))


def missing_paths(markdown: str) -> list[str]:
    """Paths in back quotes that do not exist.

    A path starts with a top-level folder or file. ``name.py`` alone lies beside, or in, one named earlier in
    the paragraph; if none was, anywhere.
    """
    top = {path.name for path in ROOT.iterdir()}
    missing = []
    for paragraph in paragraphs(markdown):
        folders: list[Path] = []
        for token in _CODE.findall(paragraph):
            if not _PATH.fullmatch(token):
                continue
            if token.split("/")[0] in top:
                found = list(ROOT.glob(token.rstrip("/")))
                folders += [path if path.is_dir() else path.parent for path in found]
            elif re.fullmatch(r"(?!__init__)\w+\.py", token):
                found = [folder / token for folder in folders if (folder / token).exists()]
                if not folders:
                    found = [path for path in files(ROOT, token) if path.name == token]
            else:
                continue
            if not found:
                missing.append(token)
    return missing


def tables(markdown: str) -> list[list[list[str]]]:
    """Every table as rows of cells, without the lines below the headings."""
    found: list[list[list[str]]] = []
    before = ""
    for line in markdown.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            if not set(line) <= set("|-: "):
                found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return found


def table(markdown: str, *heading: str) -> list[list[str]]:
    """The rows of the one table whose heading begins so."""
    (found,) = (rows for rows in tables(markdown) if rows[0][: len(heading)] == list(heading))
    return found[1:]


def packages() -> Iterator[str]:
    """``glasslog.x`` and ``glasslog.x.y`` for every folder of a share that holds modules."""
    for share in SHARES:
        base = ROOT / share
        for folder in {path.parent for path in files(base / "glasslog", ".py")}:
            parts = folder.relative_to(base).parts
            if 2 <= len(parts) <= 3:
                yield ".".join(parts)


def project() -> Mapping[str, Mapping[str, object]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def required(section: str, key: str) -> set[str]:
    listed = project()[section][key]
    assert isinstance(listed, list)
    return {found[0] for item in listed if (found := _REQUIREMENT.match(str(item)))}


def test_a_missing_path_is_noticed() -> None:
    markdown = (
        "`common/glasslog` and `proto/no_such` and `no_such.py`\n\n"
        "`common/glasslog/common/ids.py`, `errors.py` beside it, `word`, `orders-0/data`\n"
    )
    assert missing_paths(markdown) == ["proto/no_such", "no_such.py"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_exists(name: str) -> None:
    assert missing_paths(document(name)) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    assert [link for link in _LINK.findall(document(name)) if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_make_target_exists(name: str) -> None:
    text = document(name)
    indented = re.findall(r"^(?: {4})?make ([a-z-]+)", text, re.MULTILINE)
    named = set(re.findall(r"`make ([a-z-]+)`", text)) | set(indented)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


def test_every_package_is_on_the_map() -> None:
    rows = table(document("ARCHITECTURE.md"), "package", "folder")
    on_map = {row[0].strip("`"): row[1].strip("`") for row in rows}
    assert set(packages()) == set(on_map)
    for name, folder in on_map.items():
        assert folder.split("/", 1)[1] == name.replace(".", "/")


def test_every_folder_with_code_is_on_the_map() -> None:
    text = document("ARCHITECTURE.md")
    rows = [*table(text, "package", "folder"), *table(text, "folder", "what is in it")]
    named = {token.split("/")[0] for row in rows for token in _CODE.findall(" ".join(row[:2]))}
    with_code = {name_of(path).split("/")[0] for path in files(ROOT, ".py")}
    assert with_code <= named


def test_every_kind_of_test_is_on_the_map() -> None:
    named = {row[0].strip("`") for row in table(document("ARCHITECTURE.md"), "folder", "what is in it")}
    there = {
        name_of(path)
        for path in (ROOT / "tests").iterdir()
        if path.is_dir() and any(files(path, ".py")) and any(path.rglob("test_*.py"))
    }
    assert there <= named


def test_every_class_is_where_the_table_says() -> None:
    for row in table(document("ARCHITECTURE.md"), "", "class"):
        first, *others = _CODE.findall(row[2])
        paths = [ROOT / first, *((ROOT / first).parent / other for other in others)]
        source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
        for name in _CODE.findall(row[1]):
            assert re.search(rf"^class {name}\b", source, re.MULTILINE), f"{name} is not in {row[2]}"


def test_every_runtime_dependency_has_its_reason() -> None:
    rows = table(document("ARCHITECTURE.md"), "package", "why")
    reasons = {row[0].strip("`"): row[1] for row in rows}
    assert set(reasons) == required("project", "dependencies")
    assert [name for name, reason in reasons.items() if len(reason.split()) < MIN_REASON_WORDS] == []


def test_every_development_dependency_is_mentioned() -> None:
    section = document("ARCHITECTURE.md").split("## Dependencies")[1].split("\n## ")[0]
    assert required("dependency-groups", "dev") <= set(_CODE.findall(section))


def test_settings_in_readme_have_the_defaults_it_gives() -> None:
    known = {row.setting.key: str(row.default) for row in describe(NodeConfig)}
    shown = {row[0].strip("`"): row[1] for row in table(document("README.md"), "key", "default")}
    assert shown == {key: known.get(key) for key in shown}


def test_own_settings_are_all_in_readme() -> None:
    own = {row.setting.key for row in describe(NodeConfig) if row.setting.doc.startswith("own key")}
    assert own <= {row[0].strip("`") for row in table(document("README.md"), "key", "default")}


def test_the_example_settings_are_accepted() -> None:
    examples = re.findall(r"^```properties\n(.*?)^```$", document("README.md"), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        parse(NodeConfig, parse_properties(example, where="README.md"))


def test_architecture_stays_short() -> None:
    assert len(document("ARCHITECTURE.md").splitlines()) <= MAX_ARCHITECTURE_LINES
