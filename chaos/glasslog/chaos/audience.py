"""Shows a run as it goes, on the demo's screens: a live table on a terminal, plain lines elsewhere.

Refuses to know what happens.
"""

from glasslog.chaos.run.chronicle import Chronicle
from glasslog.chaos.run.recorder import Recorder
from glasslog.client.cli.demo.narrator import PartitionView
from glasslog.client.cli.demo.screen import Progress, Rate, Screen


class Audience:
    """Tells a screen. ``duration_ms`` is that of the load under faults."""

    def __init__(self, screen: Screen, duration_ms: int) -> None:
        self._screen = screen
        self._duration_ms = duration_ms
        self._rate = Rate()
        self._told = 0

    def event(self, text: str) -> None:
        self._screen.event(text)

    def progress(self, recorder: Recorder, chronicle: Chronicle, now_ms: float) -> None:
        for event in chronicle.events[self._told :]:
            if event.kind in ("leader", "controller"):
                self._screen.event(event.text)
        self._told = len(chronicle.events)
        figures = recorder.figures
        records_per_s, _ = self._rate.update(now_ms / 1000, figures.acknowledged, 0)
        placed = {} if chronicle.view is None else chronicle.view.partitions
        self._screen.progress(
            Progress(
                elapsed_s=now_ms / 1000,
                fraction=min(1.0, now_ms / self._duration_ms),
                written=figures.acknowledged,
                read=figures.read,
                records_per_s=records_per_s,
                mb_per_s=None,
                partitions=[
                    (
                        str(name),
                        PartitionView(
                            each.leader, each.leader_epoch, each.isr, each.replicas, each.partition_epoch
                        ),
                    )
                    for name, each in sorted(placed.items())
                ],
            )
        )
