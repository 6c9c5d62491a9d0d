"""Looking whether there is something new: folders of many files, large files, repositories.

- ``scan_vs_scandir``: a dataset of a million small files that has not changed, over a bare walk with stat;
- ``dvc_status_vs_scan``: ``dvc status`` of a hundred thousand files, over our look at the same folder;
- ``hash_vs_b3sum``: what b3sum takes for 4 GB, over what the first version of the same dataset takes;
- ``idle_vs_ls_remote``: the processor time of a round over a thousand repositories with nothing new, over
  that of as many plain ``git ls-remote``; beside it, as many on GitHub, with the bytes and the quota of a
  round.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import yaml

from orchestrator.bootstrap import Application, read_configuration
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.records import HeadMove
from tests.benchmarks.detect_folder import bare_walk, timed
from tests.benchmarks.detect_github import idle_on_github
from tests.benchmarks.harness import Figures, Parameters, Samples, in_turns, table
from tests.support.dvc import DvcRepository
from tests.support.git import GitRepository

_IN_A_FOLDER = 1000
_LARGE = 64 << 20
_SETTLED = 2.5
"""Seconds after which what was written no longer counts as fresh."""
Ratios = dict[str, float]
Details = dict[str, object]


def measure(parameters: Parameters) -> Figures:
    """``parts``: all, or one of scan, dvc, hash, idle, github; ``files``: 1,000,000; ``dvc_files``: 100,000;
    ``megabytes``: 4096; ``repositories``: 1000; ``rounds``: 5.
    """
    chosen = parameters.choice("parts", ("all", "scan", "dvc", "hash", "idle", "github"))
    parts: dict[str, Callable[[Parameters, Path], tuple[Ratios, Samples, Details]]] = {
        "scan": _scan,
        "dvc": _dvc,
        "hash": _hash,
        "idle": _idle,
        "github": idle_on_github,
    }
    ratios: Ratios = {}
    samples: Samples = {}
    details: Details = {}
    for name, part in parts.items():
        if chosen in ("all", name):
            with _folder() as folder:
                found, taken, more = part(parameters, folder)
            ratios |= found
            samples |= taken
            details |= more
    return Figures(ratios, samples, details)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _scan(parameters: Parameters, folder: Path) -> tuple[Ratios, Samples, Details]:
    _fill(folder / "data", parameters.number("files", 1_000_000))
    config = _configure(folder, folder / "data")
    bare_walk(str(folder / "data"))
    command = (sys.executable, "-m", "tests.benchmarks.detect_folder", str(config))
    done = subprocess.run(
        (*command, str(parameters.number("rounds", 5))), check=True, capture_output=True, text=True
    )
    told = json.loads(done.stdout)
    samples = {"bare_walk": told["bare"], "unchanged": told["unchanged"]}
    table(f"{told['files']} small files, nothing new", samples, "ms", 1000)
    details: Details = {
        "files": told["files"],
        "first_version_s": round(told["first"], 2),
        "one_changed_s": round(told["one_changed"], 2),
        "peak_mb": told["peak"] >> 20,
        "peak_before_mb": told["peak_before"] >> 20,
    }
    return {"scan_vs_scandir": _over(samples["unchanged"], samples["bare_walk"])}, samples, details


def _dvc(parameters: Parameters, folder: Path) -> tuple[Ratios, Samples, Details]:
    repository = DvcRepository(folder / "repository")
    data = repository.folder / "data"
    _fill(data, parameters.number("dvc_files", 100_000))
    repository.track("data")
    with closing(Application(read_configuration(_configure(folder, data)))) as app:
        dataset = next(iter(app.pipelines.values())).datasets[0]
        app.detector.refresh(dataset)

        def status() -> None:
            said = repository.dvc("status")
            if "up to date" not in said:
                raise RuntimeError(f"dvc status: {said}")

        status()
        samples = in_turns(
            {
                "scan": lambda: timed(lambda: app.detector.refresh(dataset)),
                "dvc_status": lambda: timed(status),
                "dvc_version": lambda: timed(lambda: repository.dvc("version")),
            },
            parameters.number("rounds", 5),
        )
    table("the same files in dvc, nothing new", samples, "ms", 1000)
    return {"dvc_status_vs_scan": _over(samples["dvc_status"], samples["scan"])}, samples, {}


def _hash(parameters: Parameters, folder: Path) -> tuple[Ratios, Samples, Details]:
    size = parameters.number("megabytes", 4096) << 20
    data = folder / "data"
    data.mkdir()
    block = os.urandom(1 << 20)
    for number in range(-(-size // _LARGE)):
        with (data / f"{number:04}.bin").open("wb") as file:
            for at in range(min(_LARGE, size - number * _LARGE) >> 20):
                file.write(number.to_bytes(8, "big") + at.to_bytes(8, "big") + block[16:])
    os.sync()
    time.sleep(_SETTLED)
    files = sorted(str(path) for path in data.iterdir())
    program = shutil.which("b3sum")
    versions = iter(range(1_000_000))

    def first() -> float:
        # Another installation each time: nothing of it is known.
        config = _configure(folder / f"installation-{next(versions)}", data)
        with closing(Application(read_configuration(config))) as app:
            dataset = next(iter(app.pipelines.values())).datasets[0]
            app.store.detection.versions(dataset)
            return timed(lambda: app.detector.refresh(dataset))

    def b3sum() -> float:
        if program is not None:
            return timed(lambda: subprocess.run([program, *files], check=True, capture_output=True))
        return timed(lambda: _b3sum(files))

    def raw() -> float:
        return timed(lambda: _read(files))

    raw()
    samples = in_turns(
        {"b3sum": b3sum, "raw_read": raw, "first_version": first}, parameters.number("rounds", 5)
    )
    table(f"{size >> 20} MB, first version", samples, "ms", 1000)
    return (
        {
            "hash_vs_b3sum": _over(samples["b3sum"], samples["first_version"]),
            "hash_vs_raw_read": _over(samples["raw_read"], samples["first_version"]),
        },
        samples,
        {"b3sum": program or "its library"},
    )


def _b3sum(files: list[str]) -> None:
    """What b3sum does, where the program is not installed: its library, with its way of reading."""
    from blake3 import blake3

    for file in files:
        blake3(max_threads=blake3.AUTO).update_mmap(file).digest()


def _read(files: list[str]) -> None:
    buffer = bytearray(1 << 20)
    for file in files:
        with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 - the plainest way there is
            while stream.readinto(buffer):
                pass


def _idle(parameters: Parameters, folder: Path) -> tuple[Ratios, Samples, Details]:
    count = parameters.number("repositories", 1000)
    origin = GitRepository.create(folder)
    commit = origin.commit({"train.py": "print(1)\n"}, "Begin")
    sources = []
    for number in range(count):
        copied = folder / "many" / f"{number:04}.git"
        shutil.copytree(origin.remote, copied)
        sources.append(SourceSpec(f"r{number:04}", str(copied)))
    config = _configure(folder, None, origin.url)
    with closing(Application(read_configuration(config))) as app:
        pipeline = replace(next(iter(app.pipelines.values())), sources=tuple(sources), datasets=())

        def round_of_ours() -> None:
            for source in sources:
                app.detector.poll_source(pipeline, source)

        def plain() -> None:
            for source in sources:
                subprocess.run(["git", "ls-remote", "--", source.location], check=True, capture_output=True)

        # As if they had been seen before: to fetch them all takes minutes, and is not what is measured.
        for source in sources:
            seen = HeadMove(source.name, "main", None, commit)
            app.store.runs.enqueue(None, (seen,), pipeline.name, app.clock.now())
        round_of_ours()
        rounds = parameters.number("rounds", 5)
        samples = in_turns(
            {"ls_remote_cpu": lambda: _cpu(plain), "idle_round_cpu": lambda: _cpu(round_of_ours)}, rounds
        )
        if app.store.runs.listing(pipeline.name):
            raise RuntimeError("a run was made of nothing new")
    table(f"{count} repositories, nothing new: processor time", samples, "ms", 1000)
    ratio = _over(samples["idle_round_cpu"], samples["ls_remote_cpu"])
    return {"idle_vs_ls_remote": ratio}, samples, {"repositories": count}


def _cpu(work: Callable[[], None]) -> float:
    """Seconds of processor time of this process and of the programs that it ran."""

    def used() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    before = used()
    work()
    return used() - before


def _over(one: list[float], other: list[float]) -> float:
    return statistics.median(one) / statistics.median(other)


def _fill(data: Path, count: int) -> None:
    """So many small files, a thousand in a folder."""
    for number in range(count):
        folder = data / f"{number // _IN_A_FOLDER:06}"
        if number % _IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        with open(folder / f"sample-{number:07}.txt", "w") as file:  # noqa: PTH123 - a million of them
            file.write(f"sample {number}\n")
    time.sleep(_SETTLED)


def _configure(folder: Path, data: Path | None, repository: str = "/nowhere") -> Path:
    """A configuration whose one pipeline watches a folder."""
    config = folder / "config"
    pipeline: dict[str, object] = {
        "pipeline": "watch",
        "source": {"git": repository},
        "run": {"runner": "none", "command": ["true"]},
        "collect": ["metrics.json"],
        "gate": {"checks": ["accuracy >= 0.5"]},
    }
    if data is not None:
        (folder / "origin").mkdir(parents=True)
        repository_of = GitRepository.create(folder / "origin")
        repository_of.commit({"train.py": ""}, "Begin")
        pipeline["source"] = {"git": repository_of.url}
        pipeline["datasets"] = {"many": {"path": str(data), "settle": "0s"}}
    files = {
        "orchestrator.yaml": {"storage": {"path": "../var"}, "web": {"port": 0}},
        "runners/none.yaml": {"runner": "none", "image": "none"},
        "pipelines/watch.yaml": pipeline,
    }
    for name, content in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    return config
