"""``glasslog server``: this process becomes a node. Refuses to know its options; the node explains them."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

NODE_MODULE = "glasslog.node"


def become_node(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``python -m glasslog.node`` with the same arguments.

    ``-P``: a file in the current folder must not stand in for a module.
    """
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", NODE_MODULE, *arguments])
