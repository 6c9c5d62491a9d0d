"""All formats together: which files are whose, and reading them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from orchestrator.adapters.collectors import dvclive, histories, mlflow_files
from orchestrator.adapters.collectors.dvcyaml import metrics_named, read_dvc_yaml
from orchestrator.adapters.collectors.jsonlines import read_json_lines
from orchestrator.adapters.collectors.junit import read_junit
from orchestrator.adapters.collectors.mlflow_db import NAME, read_database
from orchestrator.adapters.collectors.plain import kind_of, load_mapping, read_plain
from orchestrator.adapters.collectors.plots import kind_of_plot, read_plots
from orchestrator.adapters.collectors.predictions import read_predictions
from orchestrator.adapters.collectors.shapes import read_shaped
from orchestrator.adapters.collectors.tables import read_table
from orchestrator.adapters.collectors.text import compiled, read_printed, search_text
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.predictions import Predictions
from orchestrator.ports.collecting import Claim, LeftFile, Wanted

LAYOUTS: Final = (
    *(f"metrics.{suffix}" for suffix in ("json", "yaml", "yml", "toml", "jsonl", "csv", "tsv")),
    "dvc.yaml",
    "dvclive/metrics.json",
    "dvclive/params.yaml",
    "dvclive/plots/**",
    "mlflow.db",
    "mlflow.db-wal",
    "mlruns/*/*/meta.yaml",
    "mlruns/*/*/metrics/**",
    "mlruns/*/*/params/**",
    "mlruns/*/*/tags/*",
    "lightning_logs/*/metrics.csv",
    "lightning_logs/*/hparams.yaml",
    "lightning_logs/*/*.tfevents.*",
    "runs/**/*.tfevents.*",
    "runs/**/results.csv",
    "runs/**/args.yaml",
    "logs/**/*.tfevents.*",
    "logs/**/metrics.csv",
    "logs/**/hparams.yaml",
    "tb_logs/**/*.tfevents.*",
    "plots/*",
)
"""What is looked for in the working folder. In the output folder everything is looked at."""

_TABLES: Final = (".csv", ".tsv")
_LINES: Final = (".jsonl", ".ndjson")
_DATABASES: Final = (".db", ".sqlite", ".sqlite3")
_KNOWN_JSON: Final = ("classification_report", "bencher", "bmf", "benchmark")
_ULTRALYTICS: Final = frozenset({"results.csv", "args.yaml"})


@dataclass(frozen=True, slots=True)
class _Format:
    """One format: which group of files a path belongs to, None for none, and how a group is read.

    A group is read when it has one of the files that its ``anchor`` accepts.
    """

    name: str
    group: Callable[[str], str | None]
    read: Callable[[str, Sequence[LeftFile]], Reading]
    anchor: Callable[[str], bool] = lambda path: True


class FormatReaders:
    """Readers of all formats. Thread-safe. Copies lie in ``scratch``, or the system's temporary folder."""

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch

    @property
    def layouts(self) -> Sequence[str]:
        """What is found in the working folder without being declared."""
        return LAYOUTS

    def reads(self, path: str, declared: bool = False) -> bool:
        """Whether a path may be of a known format."""
        return any(each.group(path) is not None for each in (*_FOUND, *(_DECLARED if declared else ())))

    def claims(self, paths: Iterable[str], declared: Callable[[str], bool]) -> Sequence[Claim]:
        """Who reads what; formats of several files come before those of one."""
        left = dict.fromkeys(sorted(paths))
        homes = _dvclive_homes(left)
        claims = []
        for each in (*_FOUND, *_DECLARED):
            groups: dict[str, list[str]] = {}
            for path in left:
                group = _home(path, homes) if each.name == dvclive.NAME else each.group(path)
                if group is not None and (each not in _DECLARED or declared(path)):
                    groups.setdefault(group, []).append(path)
            for group, members in groups.items():
                if any(map(each.anchor, members)):
                    claims.append(Claim(f"{each.name}:{group}", tuple(members), any(map(declared, members))))
                    for path in members:
                        del left[path]
        return claims

    def read(self, claim: Claim, files: Mapping[str, LeftFile]) -> Reading:
        """What the files of a claim hold."""
        name, _, group = claim.reader.partition(":")
        each = next(one for one in (*_FOUND, *_DECLARED) if one.name == name)
        there = [files[path] for path in claim.paths if path in files]
        if not there:
            return Reading()
        try:
            if each.group in (_mlflow_db, _database):
                return read_database(there, self._scratch)
            return each.read(group, there)
        except RecursionError:
            raise _too_deep(there[0]) from None

    def read_as(self, file: LeftFile, form: str) -> Reading:
        """A file as of that format, whatever its name."""
        try:
            return read_database([file], self._scratch) if form == NAME else _BY_FORMAT[form](file)
        except KeyError:
            raise InvalidInput(f"{form!r} is no format of files", f"one of {', '.join(_BY_FORMAT)}") from None
        except RecursionError:
            raise _too_deep(file) from None

    def named_by(self, file: LeftFile) -> Sequence[str]:
        """The files of metrics that a ``dvc.yaml`` declares; none for any other file."""
        return metrics_named(file) if _name(file.path) == "dvc.yaml" else ()

    def check(self, pattern: str) -> None:
        """Raises InvalidInput for a pattern that cannot be searched for."""
        compiled(pattern)

    def predictions(self, file: LeftFile, wanted: Wanted, most: int) -> Predictions:
        """A file with a prediction for each row."""
        return read_predictions(file, wanted, most)

    def search(self, file: LeftFile, pattern: str) -> Reading:
        """A text's numbers by a pattern."""
        return search_text(file, pattern)

    def printed(self, lines: Iterable[bytes], wanted: Collection[str], pattern: str = "") -> Reading:
        """What a program printed."""
        return read_printed(lines, wanted, pattern)


def _too_deep(file: LeftFile) -> InvalidInput:
    return InvalidInput(f"{file.path}: it is nested too deeply", "at most 100 levels")


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _folder(path: str) -> str:
    return str(PurePosixPath(path).parent)


def _named(*suffixes: str) -> Callable[[str], str | None]:
    return lambda path: path if path.lower().endswith(suffixes) else None


def _dvclive_homes(paths: Iterable[str]) -> set[str]:
    """Folders that DVCLive wrote: by their name, or by the series that are in them."""
    homes = set()
    for path in paths:
        parts = PurePosixPath(path).parts
        if "dvclive" in parts[:-1]:
            homes.add("/".join(parts[: parts.index("dvclive") + 1]))
        elif path.endswith(".tsv") and "/plots/metrics/" in f"/{path}":
            homes.add(f"/{path}".partition("/plots/metrics/")[0].lstrip("/"))
    return homes


def _home(path: str, homes: Collection[str]) -> str | None:
    for home in homes:
        inside = path.removeprefix(f"{home}/") if home else path
        if (inside != path or not home) and _is_dvclive(inside):
            return home
    return None


def _is_dvclive(inside: str) -> bool:
    return inside in ("metrics.json", "params.yaml", "params.yml") or inside.startswith("plots/")


def _below(folder: str) -> Callable[[str], str | None]:
    def group(path: str) -> str | None:
        parts = PurePosixPath(path).parts
        return "/".join(parts[: parts.index(folder) + 1]) if folder in parts[:-1] else None

    return group


def _mlruns(path: str) -> str | None:
    root = _below("mlruns")(path)
    return root if root is not None and mlflow_files.wanted(path.removeprefix(f"{root}/")) else None


def _database(path: str) -> str | None:
    main = path.removesuffix("-wal").removesuffix("-shm")
    return main if main.lower().endswith(_DATABASES) else None


def _mlflow_db(path: str) -> str | None:
    main = _database(path)
    return main if main is not None and _name(main) == "mlflow.db" else None


def _lightning(path: str) -> str | None:
    at = PurePosixPath(path)
    version = at.parent.name.startswith("version_")
    return str(at.parent.parent) if version and at.name in ("metrics.csv", "hparams.yaml") else None


def _trainer(path: str) -> str | None:
    at = PurePosixPath(path)
    if at.name == histories.TRAINER_STATE and at.parent.name.startswith("checkpoint-"):
        return str(at.parent.parent)
    return str(at.parent) if at.name in (*histories.TRAINER_RESULTS, histories.TRAINER_STATE) else None


def _ultralytics(path: str) -> str | None:
    return _folder(path) if _name(path) in _ULTRALYTICS or kind_of_plot(path) else None


def _lm_eval(path: str) -> str | None:
    name = _name(path)
    return path if name.startswith("results_") and name.endswith(".json") else None


def _junit(path: str) -> str | None:
    name = _name(path).lower()
    known = "junit" in name or name.startswith("test-") or name in ("pytest.xml", "test-results.xml")
    return path if known and name.endswith(".xml") else None


def _known_json(path: str) -> str | None:
    name = _name(path).lower()
    return path if name.endswith(".json") and name.startswith(_KNOWN_JSON) else None


def _metrics(path: str) -> str | None:
    """``metrics.json`` and its like, at any depth."""
    name = _name(path).lower()
    known = kind_of(name) or name.endswith((*_TABLES, *_LINES))
    return path if known and PurePosixPath(name).stem == "metrics" else None


def _single(path: str) -> str | None:
    name = path.lower()
    return path if kind_of(name) or name.endswith((*_TABLES, *_LINES, ".xml")) else None


def _plot(path: str) -> str | None:
    return "" if kind_of_plot(path) else None


def _read_single(_: str, files: Sequence[LeftFile]) -> Reading:
    """A file by its suffix."""
    name = files[0].path.lower()
    if name.endswith(_TABLES):
        return read_table(files[0])
    if name.endswith(_LINES):
        return read_json_lines(files[0])
    if name.endswith(".xml"):
        return read_junit(files[0])
    return _read_document(files[0], kind_of(name))


def _read_document(file: LeftFile, kind: str) -> Reading:
    """A document by what it holds."""
    document = load_mapping(file, kind)
    return read_shaped(file.path, document) or read_plain(file, document, kind)


def _read_found(group: str, files: Sequence[LeftFile]) -> Reading:
    """As above, for a file whose name alone says little: one of no known shape has no metrics."""
    document = load_mapping(files[0])
    return read_shaped(files[0].path, document) or Reading()


def _read_events(_: str, files: Sequence[LeftFile]) -> Reading:
    from orchestrator.adapters.collectors.tensorboard import read_events

    return read_events(files)


_FOUND: Final = (
    _Format(dvclive.NAME, _below("dvclive"), dvclive.read_dvclive),
    _Format("dvc.yaml", lambda p: p if _name(p) == "dvc.yaml" else None, lambda _, f: read_dvc_yaml(f[0])),
    _Format("mlflow-db", _mlflow_db, lambda _, files: read_database(files)),
    _Format("mlflow-files", _mlruns, mlflow_files.read_folder),
    _Format("tensorboard", lambda path: "" if ".tfevents." in _name(path) else None, _read_events),
    _Format("lightning", _lightning, lambda _, f: histories.read_lightning(f), lambda p: p.endswith(".csv")),
    _Format("trainer", _trainer, lambda _, files: histories.read_trainer(files)),
    _Format(
        "ultralytics",
        _ultralytics,
        lambda _, files: histories.read_ultralytics(files),
        lambda path: _name(path) == "results.csv",
    ),
    _Format("lm-eval", _lm_eval, _read_found),
    _Format("junit", _junit, lambda _, files: read_junit(files[0])),
    _Format("json", _known_json, _read_found),
    _Format("metrics", _metrics, _read_single),
    _Format("plot", _plot, lambda _, files: read_plots(files)),
)
_DECLARED: Final = (
    _Format("database", _database, lambda _, files: read_database(files)),
    _Format("file", _single, _read_single),
)

_BY_FORMAT: Final[Mapping[str, Callable[[LeftFile], Reading]]] = {
    "json": lambda file: _read_document(file, "json"),
    "yaml": lambda file: _read_document(file, "yaml"),
    "toml": lambda file: _read_document(file, "toml"),
    "jsonl": read_json_lines,
    "csv": read_table,
    "tsv": read_table,
    "junit": read_junit,
    "mlflow": lambda file: read_database([file]),
    "tensorboard": lambda file: _read_events("", [file]),
}
