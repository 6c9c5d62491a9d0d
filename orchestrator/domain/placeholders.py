"""Words in braces that stand for something of a run, in names that results get elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.run import Run

PLACEHOLDERS: Final = ("pipeline", "run", "number", "commit", "short", "branch")
"""What may stand in braces: the pipeline's name, the run's id and number, the commit, its first 12 digits,
and the branch."""
_BRACES: Final = re.compile(r"\{([^{}]*)\}")


def unknown_in(text: str) -> str:
    """The first word in braces that stands for nothing; empty when there is none."""
    return next((name for name in _BRACES.findall(text) if name not in PLACEHOLDERS), "")


def values_of(run: Run) -> Mapping[str, str]:
    """What each placeholder stands for."""
    revision = run.change.revision
    return {
        "pipeline": run.pipeline,
        "run": str(run.id),
        "number": str(run.number),
        "commit": revision.commit,
        "short": revision.commit[:12],
        "branch": revision.branch,
    }


def filled(text: str, run: Run) -> str:
    """The text with what its words in braces stand for. Raises InvalidInput for one that is not known."""
    unknown = unknown_in(text)
    if unknown:
        raise InvalidInput(
            f"{{{unknown}}} in '{text}' stands for nothing", f"one of {', '.join(PLACEHOLDERS)}"
        )
    values = values_of(run)
    return _BRACES.sub(lambda found: values[found.group(1)], text)
