"""``orchestrator datasets``: the watched data and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, global_options, this

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.domain.pipeline import DatasetSpec


@click.group(cls=CommandGroup)
@global_options
def datasets() -> None:
    """Show datasets and their versions. NAME is a dataset, or PIPELINE/NAME where several have it."""


def _specs(app: Application) -> list[tuple[str, DatasetSpec]]:
    return [(pipeline.name, dataset) for pipeline in app.pipelines.values() for dataset in pipeline.datasets]


def _find(app: Application, name: str) -> DatasetSpec:
    """Raises NotFound, also when the name means several datasets."""
    from orchestrator.domain.errors import NotFound

    pipeline, _, plain = name.rpartition("/")
    found = {d.key: d for p, d in _specs(app) if d.name == plain and pipeline in ("", p)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise NotFound(f'several pipelines have a dataset "{name}"', "write PIPELINE/NAME")
    known = ", ".join(sorted({d.name for _, d in _specs(app)})) or "none"
    raise NotFound(f'there is no dataset "{name}"', f"the configuration has: {known}")


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
@global_options
def show(name: str) -> int:
    """All versions of a dataset, with what changed from one to the next."""
    from orchestrator.cli.output import Column, print_json, print_table
    from orchestrator.domain.change import diff_manifests
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.report import format_size

    settings = this()
    with settings.application() as app:
        spec = _find(app, name)
        rows, plain, before = [], [], None
        for version in app.store.detection.versions(spec):
            manifest = app.store.detection.manifest(spec, version.fingerprint)
            changed = "" if before is None else diff_manifests(before, manifest).summary
            before = manifest
            plain.append({**to_plain(version), "changed": changed})
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
        return PASSED


@datasets.command("scan")
@click.argument("name")
@global_options
def scan(name: str) -> int:
    """Look at a dataset now and store its version, as a server does. Makes no run."""
    from orchestrator.cli.output import count, print_json, say
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.report import format_size
    from orchestrator.services.pinning import Unsettled

    settings = this()
    with settings.application() as app:
        spec = _find(app, name)
        found = app.detector.refresh(spec)
        if isinstance(found, Unsettled):
            say(f"{spec.name} is being written; it is a version once it is still for {spec.settle:g} s")
        elif settings.json:
            print_json(to_plain(found))
        else:
            facts = f"{count(found.files, 'file')}, {format_size(found.size)}, {found.fingerprint[:16]}"
            say(f"{found.label}: {facts}")
        return PASSED
