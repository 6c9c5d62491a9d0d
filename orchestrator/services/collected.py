"""What one attempt left, while it is gathered."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.domain.collected import Param, Plot
from orchestrator.domain.curves import KeptSeries
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import Reason
from orchestrator.ports.records import StoredArtifact

LISTED = 1000
"""So many entries that were left out are named; a container can make any number of them."""
NAMED = 10
"""So many names are listed in a message."""


@dataclass(slots=True)
class Collected:
    """What was found. ``problem`` is why the metrics are not usable, as a reason with a message."""

    metrics: list[Metric] = field(default_factory=list)
    series: list[KeptSeries] = field(default_factory=list)
    params: list[Param] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    artifacts: list[StoredArtifact] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problem: tuple[Reason, str] | None = None
    seen: list[str] = field(default_factory=list)
    """The first paths in the output folder, for messages."""
    seen_more: int = 0
    """How many paths there are beyond those in ``seen``."""
    read: set[str] = field(default_factory=set)
    """Files that were looked into for metrics, for good or ill."""
    invalid: list[str] = field(default_factory=list)
    """What is wrong with declared ones."""
    stale: set[str] = field(default_factory=set)
    """Files of metrics that are the repository's own."""
    unread: dict[str, str] = field(default_factory=dict)
    """Declared files of metrics that were there and were not kept, with why."""
    not_kept: dict[str, str] = field(default_factory=dict)
    """What is in ``left_out``, by path."""
    unlisted: int = 0
    """How many entries were left out beyond those in ``left_out``."""

    def see(self, path: str) -> None:
        """Note a path of the output folder."""
        if len(self.seen) < NAMED:
            self.seen.append(path)
        else:
            self.seen_more += 1

    def leave_unread(self, path: str, why: str) -> None:
        """Note a declared file of metrics that is not read."""
        if len(self.unread) < LISTED:
            self.unread[path] = why

    def leave_out(self, path: str, why: str) -> None:
        """List an entry that is not kept, or count it when the list is long enough."""
        if len(self.left_out) < LISTED:
            self.left_out.append(f"{path}: {why}")
            self.not_kept[path] = why
        else:
            self.unlisted += 1

    def warn(self, message: str) -> None:
        """Add a warning, unless there are far too many."""
        if len(self.warnings) < LISTED:
            self.warnings.append(message)


def few(names: list[str], uncounted: int = 0) -> str:
    """The first of some names, and how many more there are."""
    if not names:
        return "nothing"
    rest = len(names[NAMED:]) + uncounted
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest else "")
