"""``glasslog log verify``: goes through directories and shows what was found as a table or a document.

Refuses to know what is checked.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from glasslog.client.cli.errors import CommandError
from glasslog.client.cli.log.decoders import decoder_for
from glasslog.client.cli.log.shown import counted, fields_as_json, finding_as_json
from glasslog.client.cli.options import format_option
from glasslog.client.cli.output import Format, Json, print_json, print_table
from glasslog.client.cli.progress import Advance, progress
from glasslog.common.runtime.production.files import OsFileSystem
from glasslog.log.inspection.directories import DataDirectory, find_directories
from glasslog.log.inspection.dump import DumpOptions
from glasslog.log.inspection.findings import Findings
from glasslog.log.inspection.items import Severity
from glasslog.log.inspection.partition_check import PartitionReport, log_bytes, verify_partition

_COLUMNS = ("partition", "segments", "batches", "records", "bytes", "start", "end", "epoch", "state")
_SHOWN_FINDINGS = 100

_Checked = tuple[DataDirectory, list[PartitionReport]]


@click.command("verify")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--deep", is_flag=True, help="Look into every record as well.")
@format_option
def verify(directory: Path, deep: bool, output_format: Format) -> None:
    """Check every file in DIR: a data directory, a partition's folder, or the folder of a local cluster.

    Checksums, offsets and leader epochs of every batch; indexes, snapshots and the epoch cache against the
    batches; checkpoints against the logs. What recovery would cut from a log that was not closed in order is
    no damage. Exit status 1 when anything is unsound.

    \b
    glasslog log verify data
    glasslog log verify data/orders-0 --deep
    """
    files = OsFileSystem()
    found = find_directories(files, str(directory))

    def total() -> int:
        return sum(log_bytes(files, path) for each in found for path in each.partitions)

    with progress("checking", total, in_bytes=True) as on_bytes:
        checked = [(each, _check(files, each, deep, on_bytes)) for each in found]
    if output_format == "json":
        print_json({"path": str(directory), **_document(checked)})
    else:
        _print(checked)
    damage = sum(findings.damage for findings in _all_findings(checked))
    if damage:
        raise CommandError(f"{directory} is unsound: {counted(damage, 'problems')}")


def _check(
    files: OsFileSystem, directory: DataDirectory, deep: bool, on_bytes: Advance
) -> list[PartitionReport]:
    return [
        verify_partition(
            files,
            path,
            directory.claims_of(path),
            DumpOptions(records=deep, decoder=decoder_for(path) if deep else None),
            on_bytes,
        )
        for path in directory.partitions
    ]


def _all_findings(checked: Sequence[_Checked]) -> Iterator[Findings]:
    for directory, reports in checked:
        yield directory.findings
        yield from (report.findings for report in reports)


# --- text -------------------------------------------------------------------------------------------------


def _print(checked: Sequence[_Checked]) -> None:
    for directory, reports in checked:
        if directory.identity:
            state = "closed in order" if directory.is_clean else "in use, or not closed in order"
            print(f"{directory.path}  {state}")
        if reports:
            print_table(_COLUMNS, [_row(report) for report in reports])
    for findings in _all_findings(checked):
        _print_findings(findings)
    print(_verdict(checked))


def _row(report: PartitionReport) -> Sequence[object]:
    return (
        report.name,
        report.segments,
        report.batches,
        report.records,
        report.size_bytes,
        report.start_offset,
        report.end_offset,
        report.latest_epoch if report.latest_epoch >= 0 else None,
        "UNSOUND" if report.findings.damage else "sound",
    )


def _print_findings(findings: Findings) -> None:
    shown = 0
    for finding in findings:
        shown += 1
        if shown > _SHOWN_FINDINGS:
            break
        print(f"{'note' if finding.severity is Severity.NOTE else 'UNSOUND'}: {finding}")
    more = findings.damage + findings.notes - min(shown, _SHOWN_FINDINGS)
    if more:
        print(f"... and {more} more")


def _verdict(checked: Sequence[_Checked]) -> str:
    reports = [report for _, each in checked for report in each]
    damage = sum(findings.damage for findings in _all_findings(checked))
    sizes = ", ".join(
        (
            counted(len(checked), "directories"),
            counted(len(reports), "partitions"),
            counted(sum(report.segments for report in reports), "segments"),
            counted(sum(report.records for report in reports), "records"),
            counted(sum(report.size_bytes for report in reports), "bytes"),
        )
    )
    return f"{sizes}: " + (f"UNSOUND, {counted(damage, 'problems')}" if damage else "sound")


# --- JSON -------------------------------------------------------------------------------------------------


def _document(checked: Sequence[_Checked]) -> dict[str, Json]:
    damage = sum(findings.damage for findings in _all_findings(checked))
    notes = sum(findings.notes for findings in _all_findings(checked))
    return {
        "sound": not damage,
        "problems": damage,
        "notes": notes,
        "directories": [_directory(directory, reports) for directory, reports in checked],
    }


def _directory(directory: DataDirectory, reports: Sequence[PartitionReport]) -> dict[str, Json]:
    return {
        "path": directory.path,
        "closed_in_order": directory.is_clean,
        **fields_as_json(directory.identity),
        "findings": [finding_as_json(finding) for finding in directory.findings],
        "partitions": [_partition(report) for report in reports],
    }


def _partition(report: PartitionReport) -> dict[str, Json]:
    return {
        "partition": report.name,
        "path": report.path,
        "sound": not report.findings.damage,
        "segments": report.segments,
        "batches": report.batches,
        "records": report.records,
        "size_bytes": report.size_bytes,
        "start_offset": report.start_offset,
        "end_offset": report.end_offset,
        "leader_epoch": report.latest_epoch,
        "problems": report.findings.damage,
        "notes": report.findings.notes,
        "findings": [finding_as_json(finding) for finding in report.findings],
    }
