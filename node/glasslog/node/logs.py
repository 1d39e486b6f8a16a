"""The node's own log: one line an event on standard error. Refuses to know what is logged."""

import logging
import sys
import time


class _OneLine(logging.Formatter):
    """UTC to the millisecond, level, node, logger, text; a traceback only below an unexpected error."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


def configure(*, node_name: str, level: str) -> None:
    """Send all logging of this process to standard error, under the node's name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine(f"%(asctime)s %(levelname)s {node_name} %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What costs a look-up per event and is never shown.
    logging.logThreads = False
    logging.logMultiprocessing = False
    logging.logProcesses = False
