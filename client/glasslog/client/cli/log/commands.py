"""``glasslog log``: what is in the files of a data directory, and whether it is sound.

Shows pieces as they come, and turns what is unsound into an exit status.
Reads only: the files of a running node may be looked into.
"""

import os
from pathlib import Path

import click
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.log.decoders import decoder_for
from glasslog.client.cli.log.shown import Showing, as_json, as_text
from glasslog.client.cli.log.verify import verify
from glasslog.client.cli.options import format_option
from glasslog.client.cli.output import Format, print_json_line
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.log.inspection.dump import DumpOptions, dump_file
from glasslog.log.inspection.items import FileEnd
from glasslog.log.inspection.kinds import Contents

_MIB = 1024 * 1024


@click.group("log")
def log() -> None:
    """Look into the files of a data directory. Reads only, also while a node uses them."""


log.add_command(verify)


@log.command("dump")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--print-records", is_flag=True, help="Show the records of each batch (implies --deep).")
@click.option("--deep", is_flag=True, help="Check the records of each batch as well.")
@click.option(
    "--decoder",
    type=click.Choice([each.value for each in Contents]),
    help="What records of internal topics mean; default: by the name of the file's folder.",
)
@click.option(
    "--offset", "from_offset", type=click.IntRange(0), default=0, help="Begin at the batch with it."
)
@click.option("--max-batches", type=click.IntRange(1), help="Stop after so many batches of each file.")
@click.option(
    "--max-bytes",
    type=click.IntRange(0),
    default=1024,
    show_default=True,
    help="Of each key and value so many bytes are shown; 0: all.",
)
@click.option(
    "--max-batch-mib",
    type=click.IntRange(1, 2048),
    default=64,
    show_default=True,
    help="Batches larger than this, packed or unpacked, are not looked into.",
)
@format_option
def dump(
    paths: tuple[Path, ...],
    print_records: bool,
    deep: bool,
    decoder: str | None,
    from_offset: int,
    max_batches: int | None,
    max_bytes: int,
    max_batch_mib: int,
    output_format: Format,
) -> None:
    """Show what is in FILE: a segment, an index, a snapshot, a checkpoint, by its name.

    With --format json each line is one object whose "type" says what it is: file, batch, record, problem,
    end, or an entry of the file's own kind. Exit status 1 when anything is unsound.

    \b
    glasslog log dump --print-records data/orders-0/00000000000000000000.log
    glasslog log dump --offset 1500 --max-batches 3 --format json data/orders-0/*.log
    """
    showing = Showing(records=print_records, max_bytes=max_bytes)
    unsound = 0
    for path in paths:
        options = DumpOptions(
            records=print_records or deep,
            decoder=decoder_for(os.path.dirname(os.path.abspath(path)), decoder),
            from_offset=from_offset,
            max_batches=max_batches,
            max_body_bytes=max_batch_mib * _MIB,
        )
        unsound += _dump(path, options, showing, output_format)
    if unsound:
        of = f" of {len(paths)} files are" if len(paths) > 1 else " file is"
        raise CommandError(f"{unsound}{of} unsound")


def _dump(path: Path, options: DumpOptions, showing: Showing, output_format: Format) -> bool:
    """Show one file; whether it is unsound."""
    if not path.exists():
        raise CommandError(f"{path}: there is no such file")
    if path.is_dir():
        raise CommandError(f"{path} is a folder; `glasslog log verify {path}` looks at all of it")
    unsound = False
    try:
        for item in dump_file(OsFileSystem(), str(path), options):
            unsound = unsound or (isinstance(item, FileEnd) and item.problems > 0)
            if output_format == "json":
                line = as_json(item, showing)
                if line is not None:
                    print_json_line(line)
            elif (text := as_text(item, showing)) is not None:
                print(text)
    except ValueError as error:
        raise CommandError(str(error)) from None
    return unsound
