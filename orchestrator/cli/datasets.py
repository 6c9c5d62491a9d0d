"""``orchestrator datasets``: the watched data and their versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, REJECTED, global_options, this

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.change import DatasetVersion, ManifestDiff
    from orchestrator.domain.pipeline import DatasetSpec
    from orchestrator.domain.tabular import TableFacts


@click.group(cls=CommandGroup)
@global_options
def datasets() -> None:
    """Show datasets and their versions. NAME is a dataset, or PIPELINE/NAME where several have it."""


def _specs(app: Application) -> list[tuple[str, DatasetSpec]]:
    return [
        (pipeline.name, dataset) for pipeline in app.known_pipelines.values() for dataset in pipeline.datasets
    ]


def _find(app: Application, name: str, fresh: bool = False) -> DatasetSpec:
    """``fresh``: as it is defined now, also where a repository has to be asked for that.

    Raises NotFound, also when the name means several datasets, and SourceError.
    """
    from orchestrator.domain.errors import NotFound

    pipeline, _, plain = name.rpartition("/")
    specs = [(p, d) for p, d in _specs(app) if d.name == plain and pipeline in ("", p)]
    if fresh:
        specs = [(p, now) for p, d in specs if (now := _now(app, p, d)) is not None]
    found = {d.key: d for _, d in specs}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise NotFound(f'several pipelines have a dataset "{name}"', "write PIPELINE/NAME")
    known = ", ".join(sorted({d.name for _, d in _specs(app)})) or "none"
    raise NotFound(f'there is no dataset "{name}"', f"the configuration has: {known}")


def _now(app: Application, pipeline: str, dataset: DatasetSpec) -> DatasetSpec | None:
    defined = app.pipelines.get(pipeline)
    return None if defined is None else defined.dataset_named(dataset.name)


@datasets.command("list")
@global_options
def list_datasets() -> int:
    """All datasets of the configuration with their newest version."""
    from orchestrator.cli.output import Column, print_json, print_table
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.report import format_size

    settings = this()
    with settings.application() as app:
        rows, plain = [], []
        for pipeline, spec in _specs(app):
            versions = app.store.detection.versions(spec)
            newest = versions[-1] if versions else None
            plain.append({"pipeline": pipeline, **to_plain(spec), "newest": to_plain(newest)})
            facts = (
                (f"v{newest.number}", str(newest.files), format_size(newest.size))
                if newest
                else ("-", "", "")
            )
            rows.append((spec.name, pipeline, spec.role.value, *facts, spec.path))
        if settings.json:
            print_json(plain)
            return PASSED
        columns = (
            "dataset",
            "pipeline",
            "role",
            "version",
            Column("files", right=True),
            Column("size", right=True),
            Column("path", elastic=True),
        )
        print_table(columns, rows, "no pipeline watches a dataset")
        return PASSED


@datasets.command("show")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Versions at most.")
@click.option("--all", "every", is_flag=True, help="Show all versions, which may take a while.")
@global_options
def show(name: str, limit: int, every: bool) -> int:
    """The newest versions of a dataset, what changed from one to the next, and the tables of the newest."""
    from orchestrator.cli.output import Column, print_json, print_table
    from orchestrator.domain.change import diff_manifests
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.report import format_size
    from orchestrator.domain.tabular import described

    settings = this()
    with settings.application() as app:
        spec = _find(app, name)
        rows, plain, before = [], [], None
        tables: Mapping[str, TableFacts] = {}
        # One more, to tell what changed since.
        stored = app.store.detection.versions(spec, None if every else limit + 1)
        for version in stored:
            manifest = app.store.detection.manifest(spec, version.fingerprint)
            changed = "" if before is None else diff_manifests(before, manifest).summary
            before = manifest
            if not every and len(stored) > limit and version is stored[0]:
                continue
            tables = app.store.detection.tables(spec, version.fingerprint)
            plain.append({**to_plain(version), "changed": changed, "tables": to_plain(dict(tables))})
            size = format_size(version.size)
            rows.append((f"v{version.number}", str(version.files), size, changed, version.fingerprint[:16]))
        if settings.json:
            print_json(plain)
            return PASSED
        columns = (
            "version",
            Column("files", right=True),
            Column("size", right=True),
            "changed",
            "fingerprint",
        )
        print_table(
            columns, rows, f"no version of {spec.name} is stored yet: `orchestrator datasets scan {name}`"
        )
        if tables:
            shown = [(path, described(facts), _names(facts)) for path, facts in tables.items()]
            print_table(("table", "holds", Column("columns", elastic=True)), shown)
        return PASSED


@datasets.command("diff")
@click.argument("name")
@click.argument("old", required=False)
@click.argument("new", required=False)
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="Files to name at most.")
@click.option("--exit-code", is_flag=True, help="End with 1 when anything differs.")
@global_options
def diff(name: str, old: str | None, new: str | None, limit: int, exit_code: bool) -> int:
    """What differs between two versions of a dataset: OLD, else the last but one, and NEW, else the last.

    Each is a version (v3) or a run that had it (wine#12). JSON names all files.
    """
    from orchestrator.cli.output import print_json

    settings = this()
    with settings.application() as app:
        spec = _find(app, name)
        told = _difference(app, spec, name, old, new)
        if settings.json:
            print_json(told.plain())
        else:
            _print_difference(told, limit)
        return REJECTED if exit_code and told.differs else PASSED


@dataclass(frozen=True)
class _Difference:
    """Two versions and what differs between them; sizes in bytes by path, before and after."""

    old: DatasetVersion
    new: DatasetVersion
    changes: ManifestDiff
    sizes: Mapping[str, tuple[int, int]]
    tables: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether anything does."""
        return self.old.fingerprint != self.new.fingerprint

    def lines(self) -> Iterator[tuple[str, str, str]]:
        """Each file that differs: how, its path and its size."""
        from orchestrator.domain.report import format_size

        for sign, paths in (
            ("+", self.changes.added),
            ("-", self.changes.removed),
            ("~", self.changes.changed),
        ):
            for path in paths:
                was, now = self.sizes[path]
                size = f"{format_size(was)} -> {format_size(now)}" if sign == "~" else format_size(was or now)
                yield sign, path, size

    def plain(self) -> Json:
        """For programs."""
        from orchestrator.domain.codec import to_plain

        return {
            "old": to_plain(self.old),
            "new": to_plain(self.new),
            "summary": self.changes.summary,
            "size_delta": self.changes.size_delta,
            "added": {path: self.sizes[path][1] for path in self.changes.added},
            "removed": {path: self.sizes[path][0] for path in self.changes.removed},
            "changed": {path: list(self.sizes[path]) for path in self.changes.changed},
            "tables": list(self.tables),
        }


def _difference(
    app: Application, spec: DatasetSpec, name: str, old: str | None, new: str | None
) -> _Difference:
    from orchestrator.domain.change import diff_manifests
    from orchestrator.domain.errors import NotFound
    from orchestrator.domain.tabular import table_changes

    detection = app.store.detection
    stored = detection.versions(spec)
    if not stored or (old is None and len(stored) < 2):
        raise NotFound(
            f"{spec.name} has {'one version' if stored else 'no version'}, and two are compared",
            f"`orchestrator datasets scan {name}` stores one when the data changed",
        )
    before_spec, before = _version(app, spec, stored, old) if old else (spec, stored[-2])
    after_spec, after = _version(app, spec, stored, new) if new else (spec, stored[-1])
    one = detection.manifest(before_spec, before.fingerprint)
    other = detection.manifest(after_spec, after.fingerprint)
    changes = diff_manifests(one, other)
    wanted = {*changes.added, *changes.removed, *changes.changed}
    was = {entry.path: entry.size for entry in one if entry.path in wanted}
    now = {entry.path: entry.size for entry in other if entry.path in wanted}
    tables = table_changes(
        detection.tables(before_spec, before.fingerprint), detection.tables(after_spec, after.fingerprint)
    )
    sizes = {path: (was.get(path, 0), now.get(path, 0)) for path in wanted}
    return _Difference(before, after, changes, sizes, tables)


def _version(
    app: Application, spec: DatasetSpec, stored: Sequence[DatasetVersion], wanted: str
) -> tuple[DatasetSpec, DatasetVersion]:
    """The version that a person means, and the dataset as it was then. Raises NotFound."""
    from orchestrator.domain.errors import NotFound

    number = wanted.removeprefix("v")
    if number.isdecimal():
        found = next((version for version in stored if version.number == int(number)), None)
        if found is None:
            known = f"v{stored[0].number} to v{stored[-1].number}"
            raise NotFound(f"{spec.name} has no version {wanted}", f"it has {known}")
        return spec, found
    run = app.store.runs.find(wanted)
    had = run.change.version_of(spec.name)
    then = app.store.runs.definition(run.id).dataset_named(spec.name)
    if had is None or then is None:
        raise NotFound(f"{run.title} had no dataset {spec.name}", "name a version, such as v3")
    return then, had


def _print_difference(told: _Difference, limit: int) -> None:
    from orchestrator.cli.output import Column, count, print_table, say
    from orchestrator.domain.report import format_size

    delta = told.changes.size_delta
    size = f"{'+' if delta >= 0 else '-'}{format_size(abs(delta))}"
    say(f"{told.old.label} to {told.new.label}: {told.changes.summary}, {size}")
    lines = list(told.lines())
    print_table(("", Column("file", elastic=True), Column("size", right=True)), lines[:limit])
    if len(lines) > limit:
        say(f"{count(len(lines) - limit, 'more file')} differ: --limit {len(lines)} names all")
    for line in told.tables:
        say(line)


def _names(facts: TableFacts) -> str:
    return ", ".join(f"{c.name} {c.type}".strip() for c in facts.columns)


@datasets.command("scan")
@click.argument("name")
@click.option("--check", is_flag=True, help="Store nothing; end with 1 when the data changed.")
@global_options
def scan(name: str, check: bool) -> int:
    """Look at a dataset now and store its version, as a server does. Makes no run.

    With --check it ends with 0 when the newest version still stands, 1 when the data changed or are being
    written, 3 when that could not be found out.
    """
    from orchestrator.cli.output import count, print_json, say
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.report import format_size
    from orchestrator.services.pinning import Unsettled, waits_until

    settings = this()
    with settings.application() as app:
        spec = _find(app, name, fresh=True)
        if check:
            return _check(app, spec)
        found = app.detector.refresh(spec)
        app.detector.look_into(spec)
        if isinstance(found, Unsettled):
            say(f"{spec.name}: {waits_until(spec)}")
        elif settings.json:
            print_json(to_plain(found))
        else:
            facts = f"{count(found.files, 'file')}, {format_size(found.size)}, {found.fingerprint[:16]}"
            say(f"{found.label}: {facts}")
        return PASSED


def _check(app: Application, spec: DatasetSpec) -> int:
    """Compare the data with their newest version: by a look, and by content where that is not enough."""
    from orchestrator.cli.output import print_json, say
    from orchestrator.domain.change import diff_manifests

    detection = app.store.detection
    watch, stored = detection.dataset_watch(spec), detection.versions(spec)
    newest = next((v for v in stored if watch and v.fingerprint == watch.fingerprint), None)
    listing = app.datasets.look(spec)
    changed, told = True, f"{spec.name} has no version yet"
    if newest is not None and watch is not None and watch.signature == listing.signature:
        changed, told = False, f"{newest.label} still stands"
    elif newest is not None and not listing.whole:
        told = f"{spec.name} is being written"
    elif newest is not None:
        manifest = detection.manifest(spec, newest.fingerprint)
        snapshot = app.datasets.snapshot(spec, manifest, lambda event: None)
        changed = snapshot.fingerprint != newest.fingerprint
        changes = diff_manifests(manifest, snapshot.entries)
        told = f"{changes.summary} since {newest.label}" if changed else f"{newest.label} still stands"
    if this().json:
        print_json({"dataset": spec.name, "changed": changed, "summary": told})
    else:
        say(told)
    return REJECTED if changed else PASSED
