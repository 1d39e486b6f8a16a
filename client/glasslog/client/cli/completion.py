"""``glasslog completion``: what a shell needs to complete commands and options. Shells are known to click."""

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_GLASSLOG_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that has SHELL complete commands and options.

    \b
    eval "$(glasslog completion bash)"                                 in ~/.bashrc
    eval "$(glasslog completion zsh)"                                  in ~/.zshrc
    glasslog completion fish > ~/.config/fish/completions/glasslog.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these"
    root = context.find_root()
    print(kind(root.command, {}, root.info_name or "glasslog", _VARIABLE).source())
