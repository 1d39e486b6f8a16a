"""House rules on every file a person wrote: length, docstring, nothing left for later, no machine's paths.

Each rule is a function from source text to complaints, tried on a sample that breaks it and then on the tree.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.source_tree import ROOT, files, name_of, written_modules

MAX_LINES_PER_FILE = 800
MAX_LINES_PER_FUNCTION = 70

# In pieces, so that this file keeps its own rules.
LATER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w./<>{}$-])/(?:work|root|home|Users)" + r"/\w")
IGNORE = re.compile(r"#\s*type:\s*ignore(?P<code>\[[\w, -]+\])?(?P<reason>.*)")

Rule = Callable[[str], list[str]]


def too_long(source: str) -> list[str]:
    lines = len(source.splitlines())
    return (
        [f"1: {lines} lines, more than {MAX_LINES_PER_FILE}: split it by role"]
        if lines > MAX_LINES_PER_FILE
        else []
    )


def long_functions(source: str) -> list[str]:
    complaints = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_LINES_PER_FUNCTION:
                complaints.append(
                    f"{node.lineno}: {node.name} has {lines} lines, more than {MAX_LINES_PER_FUNCTION}"
                )
    return complaints


def no_docstring(source: str) -> list[str]:
    return [] if ast.get_docstring(ast.parse(source)) else ["1: does not start by saying what it is"]


def left_for_later(source: str) -> list[str]:
    return [
        f"{number}: {found[0]}"
        for number, line in enumerate(source.splitlines(), 1)
        if (found := LATER.search(line))
    ]


def machine_paths(source: str) -> list[str]:
    lines = enumerate(source.splitlines(), 1)
    return [
        f"{number}: names a folder of one machine: {line.strip()}"
        for number, line in lines
        if MACHINE_PATH.search(line)
    ]


def unexplained_ignores(source: str) -> list[str]:
    """A switched-off type error needs its code in brackets and, after it, the reason."""
    complaints = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        found = IGNORE.search(token.string) if token.type == tokenize.COMMENT else None
        if found and not (found["code"] and found["reason"].strip(" #-:")):
            complaints.append(
                f"{token.start[0]}: switches a type error off without its code and a reason after it"
            )
    return complaints


FOR_MODULES: tuple[Rule, ...] = (too_long, long_functions, left_for_later, machine_paths, unexplained_ignores)
FOR_TEXT: tuple[Rule, ...] = (left_for_later, machine_paths)


def complaints_about(path: Path, rules: tuple[Rule, ...]) -> list[str]:
    source = path.read_text(encoding="utf-8")
    return [f"{name_of(path)}:{complaint}" for rule in rules for complaint in rule(source)]


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (too_long, "a = 1\n" * (MAX_LINES_PER_FILE + 1)),
        (long_functions, "def long():\n" + "    a = 1\n" * MAX_LINES_PER_FUNCTION),
        (long_functions, "class A:\n  async def long():\n" + "    a = 1\n" * MAX_LINES_PER_FUNCTION),
        (no_docstring, "import struct\n"),
        (left_for_later, "a = 1  # TO" + "DO: more"),
        (machine_paths, "FOLDER = '/ho" + "me/somebody/glasslog'"),
        (unexplained_ignores, "a = 1  # type: " + "ignore"),
        (unexplained_ignores, "a = 1  # type: " + "ignore[assignment]"),
        (unexplained_ignores, "a = 1  # type: " + "ignore # because"),
    ],
)
def test_a_broken_rule_is_noticed(rule: Rule, source: str) -> None:
    assert rule(source)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (too_long, "a = 1\n" * MAX_LINES_PER_FILE),
        (long_functions, "def fits():\n" + "    a = 1\n" * (MAX_LINES_PER_FUNCTION - 1)),
        (no_docstring, '"""What it is."""\n'),
        (machine_paths, "see https://example.org/home/page and data/ro" + "ot/file"),
        (unexplained_ignores, "a = 1  # type: " + "ignore[assignment]  # the library's stub is wrong"),
        (unexplained_ignores, "a = '# type: " + "ignore'"),
    ],
)
def test_a_kept_rule_is_let_through(rule: Rule, source: str) -> None:
    assert rule(source) == []


def test_every_module_is_tidy() -> None:
    complaints = [line for path in written_modules() for line in complaints_about(path, FOR_MODULES)]
    assert not complaints, "\n".join(complaints)


def test_every_module_starts_by_saying_what_it_is() -> None:
    modules = (path for path in written_modules() if not name_of(path).startswith("tests/"))
    complaints = [line for path in modules for line in complaints_about(path, (no_docstring,))]
    assert not complaints, "\n".join(complaints)


def test_other_sources_are_tidy() -> None:
    named = files(ROOT, ".proto", ".toml", "Makefile")
    complaints = [
        line for path in [*named, ROOT / ".ci" / "run"] for line in complaints_about(path, FOR_TEXT)
    ]
    assert not complaints, "\n".join(complaints)


def test_documents_name_no_machine() -> None:
    complaints = [line for path in files(ROOT, ".md") for line in complaints_about(path, (machine_paths,))]
    assert not complaints, "\n".join(complaints)
