"""``python -m tests.benchmarks.detect_github COUNT FOLDER``: GitHub's stand-in with so many repositories.

A process of its own, so that what it takes is not counted. It prints where it is, and then, for each line
that it reads, what it was asked so far.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from unittest import mock

from orchestrator.adapters.github import Account, GitHub, client
from orchestrator.adapters.github.pace import Pace
from orchestrator.adapters.process import SystemClock
from orchestrator.domain.pipeline import SourceSpec
from tests.benchmarks.harness import Parameters, Samples, table
from tests.support.github import GitHubStandIn


@dataclass(frozen=True)
class Asked:
    """What the stand-in was asked so far; ``traffic`` in bytes."""

    requests: int
    charged: int
    traffic: int


@dataclass(frozen=True)
class Remote:
    """The stand-in in its process."""

    api_url: str
    web_url: str
    token: str
    said: IO[str]
    told: IO[str]

    def asked(self) -> Asked:
        self.told.write("\n")
        self.told.flush()
        return Asked(**json.loads(self.said.readline()))


def idle_on_github(
    parameters: Parameters, folder: Path
) -> tuple[dict[str, float], Samples, dict[str, object]]:
    """Rounds over ``repositories`` on GitHub with nothing new: processor time, bytes, quota."""
    count, rounds = parameters.number("repositories", 1000), parameters.number("rounds", 5)
    with _stand_in(count, folder) as remote, mock.patch.object(client, "Pace", partial(Pace, rate=1e6)):
        # Requests are not spread here: that takes time, and no processor.
        github = GitHub(lambda source: Account(remote.api_url, remote.token), SystemClock())
        sources = [
            SourceSpec(f"r{n}", f"{remote.web_url}/acme/r{n}.git", github=f"acme/r{n}") for n in range(count)
        ]

        def look() -> None:
            for source in sources:
                github.refs(source)

        look()
        before = remote.asked()
        samples = {"idle_github_cpu": [_cpu(look) for _ in range(rounds)]}
        after = remote.asked()
    if after.charged != before.charged:
        raise RuntimeError(f"{after.charged - before.charged} looks at nothing new cost quota")
    table(f"{count} repositories on GitHub, nothing new: processor time", samples, "ms", 1000)
    details: dict[str, object] = {
        "github_repositories": count,
        "github_requests_a_round": (after.requests - before.requests) // rounds,
        "github_bytes_a_round": (after.traffic - before.traffic) // rounds,
        "github_quota_used": after.charged - before.charged,
    }
    return {}, samples, details


def _cpu(work: Callable[[], None]) -> float:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = used()
    work()
    return used() - before


@contextmanager
def _stand_in(count: int, folder: Path) -> Iterator[Remote]:
    command = (sys.executable, "-m", "tests.benchmarks.detect_github", str(count), str(folder))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with closing(process.stdin):
            where = json.loads(process.stdout.readline())
            yield Remote(**where, said=process.stdout, told=process.stdin)


def _serve(count: int, folder: Path) -> None:
    with GitHubStandIn(folder) as hub:
        first = hub.repository("acme/r0")
        first.peel(first.push())
        for number in range(1, count):
            hub.world.copy(first, f"acme/r{number}")
        where = {"api_url": hub.api_url, "web_url": hub.web_url, "token": hub.token("ci-bot")}
        sys.stdout.write(f"{json.dumps(where)}\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            told = {"requests": len(hub.requests), "charged": hub.charged, "traffic": hub.traffic}
            sys.stdout.write(f"{json.dumps(told)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
