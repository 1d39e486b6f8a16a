"""Findings collected, so many of them kept and all of them counted.

This module knows nothing of what they say.
"""

from collections.abc import Iterable, Iterator

from glasslog.log.inspection.items import Finding, Severity

MAX_KEPT = 1_000
"""Of the findings of one folder: a file of nothing but damage must not fill the memory with sentences."""


class Findings:
    """Iterates over those that are kept, in the order they came."""

    __slots__ = ("_kept", "damage", "notes")

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self.damage = 0
        self.notes = 0

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._kept)

    @property
    def dropped(self) -> int:
        """How many were counted and not kept."""
        return self.damage + self.notes - len(self._kept)

    def add(self, finding: Finding) -> None:
        if finding.severity is Severity.NOTE:
            self.notes += 1
        else:
            self.damage += 1
        if len(self._kept) < MAX_KEPT:
            self._kept.append(finding)

    def note(self, path: str, text: str) -> None:
        """Something worth a word that is no damage."""
        self.add(Finding(path=path, text=text, severity=Severity.NOTE))

    def extend(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.add(finding)

    def absorb(self, others: "Findings") -> None:
        """Take over what others were found, the ones not kept included."""
        dropped_damage = others.damage - sum(each.severity is not Severity.NOTE for each in others)
        dropped_notes = others.notes - sum(each.severity is Severity.NOTE for each in others)
        self.extend(others)
        self.damage += dropped_damage
        self.notes += dropped_notes

    def excuse(self, finding: Finding, text: str) -> None:
        """What was counted as damage turns out to be a note that says ``text``."""
        note = Finding(
            path=finding.path,
            text=text,
            position=finding.position,
            offset=finding.offset,
            severity=Severity.NOTE,
        )
        self._kept[self._kept.index(finding)] = note
        self.damage -= 1
        self.notes += 1
