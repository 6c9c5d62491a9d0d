"""``python -m tests.benchmarks [NAME ...] [PARAMETER=VALUE ...]``: run some benchmarks, or all.

Each ends with a line of JSON. Figures, no verdicts: the exit code says only whether they could be taken.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

from tests.benchmarks import (
    collect,
    commands,
    deploy,
    detect,
    dispatch,
    gates,
    logs,
    looks,
    masking,
    remote,
    report,
    retention,
)
from tests.benchmarks.harness import Figures, Parameters

BENCHMARKS: Final[Mapping[str, Callable[[Parameters], Figures]]] = {
    "commands": commands.measure,
    "logs": logs.measure,
    "masking": masking.measure,
    "detect": detect.measure,
    "dispatch": dispatch.measure,
    "remote": remote.measure,
    "retention": retention.measure,
    "gates": gates.measure,
    "collect": collect.measure,
    "looks": looks.measure,
    "deploy": deploy.measure,
    "report": report.measure,
}


def main(arguments: list[str]) -> int:
    """Run what the arguments name; 2 when they name nothing that there is."""
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    names = [argument for argument in arguments if "=" not in argument] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.stderr.write(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}\n")
        return 2
    for name in names:
        sys.stdout.write(BENCHMARKS[name](Parameters(given)).line(name) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
