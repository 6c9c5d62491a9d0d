"""``orchestrator images``: what runs execute in, made, listed and removed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.domain.pipeline import HostSpec, ImageSpec
    from orchestrator.ports.engine import Engine

BASE_IMAGE: Final = "mlci/base:1"
_FROM_BASE = re.compile(r"^(?:ARG\s+\w+=|FROM\s+)mlci/base:1\s*$", re.MULTILINE)


@click.group(cls=CommandGroup)
@global_options
def images() -> None:
    """Make, list and remove the images that runs use."""


def recipes() -> Path | None:
    """The folder ``runner-images``: beside the package in a checkout, inside it when installed."""
    import orchestrator

    package = Path(orchestrator.__path__[0])
    for folder in (package / "_runner_images", package.parent / "runner-images"):
        if (folder / "base" / "make").is_file():
            return folder
    return None


def _wanted(app: Application, names: tuple[str, ...]) -> dict[str, ImageSpec]:
    from orchestrator.domain.errors import NotFound
    from orchestrator.domain.pipeline import FolderImage

    runners = {name: runner.image for name, runner in app.runners.items()}
    if not names:
        return runners
    found: dict[str, ImageSpec] = {}
    for name in names:
        if name in runners:
            found[name] = runners[name]
        elif (Path(name) / "Dockerfile").is_file():
            found[name] = FolderImage(str(Path(name).resolve()))
        else:
            known = ", ".join(sorted(runners)) or "none"
            raise NotFound(f"{name} is neither a runner nor a folder with a Dockerfile", f"runners: {known}")
    return found


@images.command("build")
@click.argument("names", nargs=-1, metavar="[RUNNER|FOLDER]...")
@click.option("--host", metavar="NAME", help="Only on this host (else on all).")
@global_options
def build(names: tuple[str, ...], host: str | None) -> int:
    """Pull or build the images of the runners (all of them without a name), on every host.

    A missing base image is pulled or made from Debian's packages first, and it is said which.
    """
    from orchestrator.cli.output import print_json, say
    from orchestrator.cli.progress import ProgressLine
    from orchestrator.domain.errors import EngineError, ImageRejected, NotFound
    from orchestrator.domain.pipeline import FolderImage, RepositoryImage

    settings = this()
    with settings.application() as app:
        hosts = [h for h in app.hosts if host in (None, h.name)]
        if not hosts:
            raise NotFound(f'there is no host "{host}"', f"there are: {', '.join(h.name for h in app.hosts)}")
        failed, made = 0, []
        for name, image in _wanted(app, names).items():
            if isinstance(image, RepositoryImage):
                say(f"{name}: built from each commit's own {image.dockerfile} when it runs")
                continue
            for where in hosts:
                engine = app.engines[where.name]
                try:
                    if isinstance(image, FolderImage):
                        _ensure_base(engine, where, Path(image.folder))
                    with ProgressLine(lines=settings.verbose) as progress:
                        tag, digest = app.images.runner_image(engine, image, None, progress)
                except ImageRejected as error:
                    failed += 1
                    say(f"{name}: {error}\n{error.log}".rstrip())
                except EngineError as error:
                    failed += 1
                    say(f"{name}: {error}")
                else:
                    made.append({"runner": name, "host": where.name, "image": tag, "digest": digest})
                    if not settings.json:
                        click.echo(f"{name} on {where.name}: {tag} ({digest.removeprefix('sha256:')[:12]})")
        if settings.json:
            print_json(made)
        return UNKNOWN if failed else PASSED


def _ensure_base(engine: Engine, host: HostSpec, folder: Path) -> None:
    """Make the base image where a folder builds on it and the host lacks it. Raises ImageNotFound."""
    from orchestrator.cli.output import say
    from orchestrator.domain.errors import ImageNotFound

    dockerfile = folder / "Dockerfile"
    if not dockerfile.is_file() or not _FROM_BASE.search(
        dockerfile.read_text(encoding="utf-8", errors="replace")
    ):
        return
    if engine.find_image(BASE_IMAGE) is not None:
        return
    found = recipes()
    if found is None:
        raise ImageNotFound(f"{BASE_IMAGE} is not on {host.name}, and its recipe is not installed")
    say(f"{BASE_IMAGE} is not on {host.name}: making it (minutes) …")
    environment = _environment(host.engine)
    done = subprocess.run([str(found / "base" / "make"), BASE_IMAGE], env=environment, check=False)
    if done.returncode != 0:
        raise ImageNotFound(f"{BASE_IMAGE} could not be made on {host.name}", "read the lines above")


def _environment(engine: str) -> dict[str, str]:
    import os

    return {**os.environ, "DOCKER_HOST": engine}


@images.command("list")
@global_options
def list_images() -> int:
    """The images that were made on each host, whose they are, and the runners that use them.

    Those of this installation, and those that its runners use though another installation made them.
    """
    from orchestrator.cli.output import Column, print_json, print_table, say
    from orchestrator.domain.errors import EngineError

    settings = this()
    with settings.application() as app:
        users = _users(app)
        rows: list[tuple[str, str, bool, list[str]]] = []
        failed = 0
        for host in app.hosts:
            engine = app.engines[host.name]
            try:
                own = set(engine.owned().images)
                there = own | {tag for tag in users.keys() - own if engine.find_image(tag) is not None}
                rows += [(tag, host.name, tag in own, users.get(tag, [])) for tag in sorted(there)]
            except EngineError as error:
                failed += 1
                say(f"{host.name}: {error}")
        if settings.json:
            print_json([{"image": t, "host": h, "own": own, "used_by": u} for t, h, own, u in rows])
        else:
            print_table(
                ("image", "host", "made by", Column("used by", fold=True)),
                [(t, h, "this installation" if own else "another", ", ".join(u)) for t, h, own, u in rows],
                "no image was made here yet: `orchestrator images build` makes those of the runners",
            )
        return UNKNOWN if failed else PASSED


def _users(app: Application) -> dict[str, list[str]]:
    """The runners whose image a tag is now."""
    from orchestrator.domain.pipeline import FolderImage
    from orchestrator.services.images import built_tag

    found: dict[str, list[str]] = {}
    for name, image in _wanted(app, ()).items():
        if isinstance(image, FolderImage) and (Path(image.folder) / "Dockerfile").is_file():
            tag = built_tag(Path(image.folder), "Dockerfile", Path(image.folder).name)
            found.setdefault(tag, []).append(f"runner {name}")
    return found


def _newest(app: Application) -> set[str]:
    """The ids of the images that each pipeline's newest run was executed in."""
    found: set[str] = set()
    for name in app.pipelines:
        for run in app.store.runs.listing(name, limit=20):
            digests = {a.image_digest for a in app.store.attempts.of_run(run.id) if a.image_digest}
            if digests:
                found |= digests
                break
    return found


@images.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@global_options
def prune(dry_run: bool) -> int:
    """Remove images of our making that neither a runner nor a pipeline's newest run uses.

    Images that carry another installation's label, or none, are never touched. What is needed again is made
    again.
    """
    from orchestrator.cli.output import print_json, say
    from orchestrator.domain.errors import EngineError

    settings = this()
    with settings.application() as app:
        unfinished = app.store.runs.unfinished()
        if unfinished:
            names = ", ".join(run.title for run in unfinished[:5])
            say(f"nothing is removed while runs are unfinished ({names}): their images may be needed")
            return UNKNOWN
        users, newest, failed, removed = _users(app), _newest(app), 0, []
        for host in app.hosts:
            engine = app.engines[host.name]
            try:
                for tag in sorted(set(engine.owned().images) - users.keys()):
                    if engine.find_image(tag) in newest:
                        continue
                    if not dry_run:
                        engine.remove_image(tag)
                    removed.append({"image": tag, "host": host.name})
            except EngineError as error:
                failed += 1
                say(f"{host.name}: {error}")
        if settings.json:
            print_json(removed)
        else:
            for entry in removed:
                click.echo(f"{'would remove' if dry_run else 'removed'} {entry['image']} on {entry['host']}")
            if not removed and not failed:
                say("nothing to remove")
        return UNKNOWN if failed else PASSED
