"""``--help`` of every command says what it does and shows it in use; what it shows can be typed as it is."""

import shlex
from collections.abc import Iterator

import click
import pytest
from glasslog.client.cli.main import glasslog

Named = tuple[str, click.Command]


def commands(command: click.Command, name: str) -> Iterator[Named]:
    """Every command that does something, by its whole name."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command, info_name=name)
    for each in command.list_commands(context):
        found = command.get_command(context, each)
        assert found is not None
        yield from commands(found, f"{name} {each}")


# A node's help is a node's: see tests/unit/node.
ALL = [named for named in commands(glasslog, "glasslog") if named[0] != "glasslog server"]


def examples(command: click.Command) -> list[str]:
    """The lines of its help that are to be typed; an explanation may stand beside one, far to the right."""
    lines = [line.strip() for line in (command.help or "").splitlines()]
    return [
        line.partition("   ")[0] for line in lines if "glasslog " in line and " " in line and "`" not in line
    ]


def calls(example: str) -> Iterator[list[str]]:
    """The words of each call of ``glasslog`` in a shell's line."""
    lexer = shlex.shlex(example, posix=True, punctuation_chars="|&<>;()")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("|&<>;()"):
            if words[:1] == ["glasslog"]:
                yield words[1:]
            words = []
        else:
            words.append(token)


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_command_explains_itself_by_examples_that_parse(name: str, command: click.Command) -> None:
    assert command.help, name
    own = [example for example in examples(command) if name in example]
    assert own, f"{name} --help shows no example"
    for example in own:
        for words in calls(example):
            _parse(glasslog, words, example)


def _parse(command: click.Command, words: list[str], example: str) -> None:
    """As click would before it calls the command; raises what it would complain about."""
    context = command.make_context(command.name, list(words), resilient_parsing=False)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None, example
        _parse(found, rest, example)


def test_every_option_has_a_word_of_explanation() -> None:
    """Completion shows these, too, beside what it offers."""
    for name, command in ALL:
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                said = parameter.help or isinstance(parameter.type, click.Choice)
                assert said, f"{name} {parameter.opts[0]} says nothing about itself"
