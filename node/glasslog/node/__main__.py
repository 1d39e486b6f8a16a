"""``python -m glasslog.node``: arguments in, exit status out. Loads as little as it can before it must.

Exit status 0 after an orderly stop, 1 when it could not start or go on, 2 for wrong usage or settings.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glasslog.common.errors import ConfigError

if TYPE_CHECKING:
    from glasslog.common.node_config import NodeConfig

_PROGRAM = "glasslog server"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one node; returns the exit status."""
    options = _parse(arguments)
    if options.describe_config:
        return _describe(str(options.format))
    from glasslog.node import settings

    file = None if options.config is None else Path(options.config)
    try:
        config = settings.load(file, environment=os.environ, assignments=options.assignments)
    except ConfigError as error:
        return _fail(str(error), status=2)
    return _serve(config)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Run one node in the foreground. SIGTERM and Ctrl-C stop it in order, a second at once.",
        epilog="Settings come from the file, from GLASSLOG_* in the environment (GLASSLOG_NODE_ID), "
        "and from --set; the last wins.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="a properties file")
    parser.add_argument(
        "--set",
        dest="assignments",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one setting; may be repeated",
    )
    parser.add_argument("--describe-config", action="store_true", help="print every setting and exit")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of --describe-config")
    return parser.parse_args(arguments)


def _describe(output_format: str) -> int:
    from glasslog.node import settings

    try:
        sys.stdout.write(settings.as_json() if output_format == "json" else settings.as_text())
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _serve(config: "NodeConfig") -> int:
    import gc
    import logging
    import signal

    # Nothing of what modules are made of is garbage; looking for it is a tenth of what a start costs.
    gc.disable()
    from glasslog.common.addresses import parse_detours
    from glasslog.common.runtime.production.start import run, settle_process, wait_for_termination
    from glasslog.common.runtime.protocols import Runtime
    from glasslog.node.detours import with_detours
    from glasslog.node.logs import configure
    from glasslog.node.process import Node, explain, first_cause, is_expected
    from glasslog.node.roles import build

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    configure(node_name=f"{'+'.join(config.process_roles)}-{config.node_id}", level=config.log_level)

    async def serve(runtime: Runtime) -> None:
        runtime = with_detours(runtime, parse_detours(config.chaos_detours))
        roles = build(runtime, config)
        gc.enable()
        node = Node(
            runtime=runtime,
            config=config,
            roles=roles,
            termination=wait_for_termination,
            settle=settle_process,
        )
        await node.run()

    try:
        run(serve, max_message_bytes=config.socket_request_max_bytes)
    except ConfigError as error:
        return _fail(str(error), status=2)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        cause = first_cause(error)
        if not is_expected(cause):
            logging.getLogger(__name__).error("unexpected", exc_info=cause)
        return _fail(explain(cause, config), status=2 if isinstance(cause, ConfigError) else 1)
    return 0


def _fail(message: str, *, status: int) -> int:
    print(f"{_PROGRAM}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
