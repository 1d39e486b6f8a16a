"""The entry point of the ``glasslog`` command, also ``python -m glasslog.client``. Loads little."""

import sys


def main() -> None:
    """Run the command and exit with its status."""
    if len(sys.argv) > 1 and sys.argv[1] == "server":
        # Straight to the node: this process becomes it, without loading the command line first.
        from glasslog.client.cli.server import become_node

        become_node(sys.argv[2:])
    from glasslog.client.cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
