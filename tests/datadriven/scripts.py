"""Reads and checks scripts of commands with the output they must have, in cockroachdb's datadriven form.

A script is a sequence of blocks: lines of commands, a line of four dashes, the expected output, an empty
line.  Lines that begin with # before a block are comments.  With GLASSLOG_REWRITE=1 in the environment the
outputs are written anew instead of being compared: read the difference before you keep it.  This module
refuses to know what a command does.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SEPARATOR = "----"


@dataclass(frozen=True, slots=True)
class Block:
    """``comments`` and ``commands`` as they stand, and the output expected."""

    line: int
    comments: tuple[str, ...]
    commands: tuple[str, ...]
    expected: str


def parse_script(text: str) -> list[Block]:
    """The blocks of a script."""
    blocks: list[Block] = []
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        comments: list[str] = []
        while position < len(lines) and (not lines[position].strip() or lines[position].startswith("#")):
            comments += [lines[position]] if lines[position] else []
            position += 1
        if position == len(lines):
            break
        start, commands, output = position, [], []
        while position < len(lines) and lines[position] != _SEPARATOR:
            commands.append(lines[position])
            position += 1
        position += 1
        while position < len(lines) and lines[position].strip():
            output.append(lines[position])
            position += 1
        blocks.append(Block(start + 1, tuple(comments), tuple(commands), "\n".join(output)))
    return blocks


def run_script(path: Path, execute: Callable[[str], str]) -> None:
    """Run every command; compare each block's output, or rewrite the script."""
    written: list[str] = []
    for block in parse_script(path.read_text(encoding="utf-8")):
        outputs = (execute(command) for command in block.commands)
        output = "\n".join(text for text in outputs if text) or "ok"
        if os.environ.get("GLASSLOG_REWRITE") != "1":
            assert output == block.expected, f"{path.name}:{block.line}: {' '.join(block.commands)}"
        written += [*block.comments, *block.commands, _SEPARATOR, output, ""]
    if os.environ.get("GLASSLOG_REWRITE") == "1":
        path.write_text("\n".join(written).strip() + "\n", encoding="utf-8")
