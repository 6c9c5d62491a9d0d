"""``orchestrator images``: what runs execute in, made, listed and removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.imagemaking import BASE_IMAGE, ImageMaking, is_folder, on_base
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this, who

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.pipeline import HostSpec, ImageSpec
    from orchestrator.ports.engine import ImageFacts
    from orchestrator.ports.progress import ProgressEvent


@click.group(cls=CommandGroup)
@global_options
def images() -> None:
    """Make, list and remove the images that runs use."""


BASE = "base"
"""What the base image is called where it is asked for alone."""


def _wanted(app: Application, names: tuple[str, ...], *, everything: bool) -> dict[str, ImageSpec]:
    """The images that are to be made, by runner or folder. Raises NotFound."""
    from orchestrator.domain.errors import NotFound
    from orchestrator.domain.pipeline import FolderImage

    runners = {name: runner.image for name, runner in app.runners.items()}
    if not names:
        used = {pipeline.runner.name for pipeline in app.known_pipelines.values()}
        return {name: image for name, image in runners.items() if everything or name in used}
    found: dict[str, ImageSpec] = {}
    for name in names:
        if name in runners:
            found[name] = runners[name]
        elif (Path(name) / "Dockerfile").is_file():
            found[name] = FolderImage(str(Path(name).resolve()))
        elif name != BASE:
            known = ", ".join(sorted(runners)) or "none"
            raise NotFound(
                f"{name} is neither a runner nor a folder with a Dockerfile",
                f"runners: {known}; `{BASE}` is the base image",
            )
    return found


@images.command("build")
@click.argument("names", nargs=-1, metavar="[RUNNER|FOLDER|base]...")
@click.option("--host", metavar="NAME", help="Only on this host (else on all).")
@click.option("--all", "everything", is_flag=True, help="Also for runners that no pipeline uses.")
@global_options
def build(names: tuple[str, ...], host: str | None, everything: bool) -> int:
    """Pull or build the images of the runners that pipelines use, or of those that are named, on every host.

    The base image is pulled or made from Debian's packages first where it is missing, and it is said which.
    What was built on an older base is built again.
    """
    from orchestrator.cli.hostnames import require_host
    from orchestrator.cli.output import print_json, say
    from orchestrator.domain.pipeline import RepositoryImage

    settings = this()
    with settings.application() as app:
        if host is not None:
            require_host(app, host)
        hosts = [h for h in app.hosts if host in (None, h.name)]
        wanted = _wanted(app, names, everything=everything)
        if not names and (left := sorted(app.runners.keys() - wanted.keys())):
            say(f"left out, because no pipeline uses them: {', '.join(left)}; --all makes these, too")
        for name, image in wanted.items():
            if isinstance(image, RepositoryImage):
                say(f"{name}: built from each commit's own {image.dockerfile} when it runs")
        making = ImageMaking(app, settings)
        asked = BASE in names and BASE not in wanted
        for where in hosts:
            making.on(where, wanted, base=asked or (not names and where.helper_image == BASE_IMAGE))
        if settings.json:
            print_json(making.made)
        return UNKNOWN if making.failed else PASSED


@dataclass(frozen=True, slots=True)
class _Row:
    """An image on a host. ``state`` is empty when nothing is to be said of it."""

    tag: str
    host: str
    own: bool
    facts: ImageFacts
    users: Sequence[str]
    used_at: datetime | None
    state: str


@images.command("list")
@global_options
def list_images() -> int:
    """The images that were made on each host, whose they are, and the runners that use them.

    Those of this installation, and those that its runners use though another installation made them, with
    their size, when they were made and used last, and which are out of date.
    """
    from orchestrator.cli.output import Column, print_json, print_table, say
    from orchestrator.domain.errors import EngineError
    from orchestrator.domain.report import format_ago, format_size

    settings = this()
    with settings.application() as app:
        rows: list[_Row] = []
        failed = 0
        for host in app.hosts:
            try:
                rows += _on_host(app, host)
            except EngineError as error:
                failed += 1
                say(f"{host.name}: {error}")
        now = app.clock.now()

        def ago(moment: datetime | None) -> str:
            return format_ago((now - moment).total_seconds()) if moment else "never"

        if settings.json:
            print_json([_as_json(row) for row in rows])
        else:
            columns = (
                *(Column("image", elastic=True, least=24), "host", Column("size", right=True)),
                *("made", "used", Column("made by", spare=True), Column("used by", fold=True, least=12)),
            )
            print_table(
                columns,
                [
                    (
                        *(r.tag, r.host, format_size(r.facts.size), ago(r.facts.created_at), ago(r.used_at)),
                        *("us" if r.own else "others", ", ".join([*r.users, *filter(None, [r.state])])),
                    )
                    for r in rows
                ],
                "no image was made here yet: `orchestrator images build` makes those of the runners",
            )
        return UNKNOWN if failed else PASSED


def _as_json(row: _Row) -> dict[str, Json]:
    return {
        "image": row.tag,
        "host": row.host,
        "own": row.own,
        "size": row.facts.size,
        "made_at": row.facts.created_at.isoformat(),
        "used_at": row.used_at.isoformat() if row.used_at else None,
        "used_by": list(row.users),
        "state": row.state,
    }


def _on_host(app: Application, host: HostSpec) -> Iterator[_Row]:
    """The images of ours on a host, and those that it uses. Raises EngineError."""
    engine = app.engines[host.name]
    own = set(engine.owned().images)
    users = _users(app)
    users.setdefault(host.helper_image, []).append("networks of runs")
    base = engine.describe_image(BASE_IMAGE)
    uses = app.store.retention.image_uses()
    for tag in sorted(own | users.keys()):
        facts = engine.describe_image(tag)
        if facts is None:
            continue
        state = "" if users.get(tag) else "not needed now"
        if tag in users and base and _is_stale(app, tag, facts, base):
            state = "on an older base"
        yield _Row(
            tag, host.name, tag in own, facts, users.get(tag, []), uses.get((host.name, facts.id)), state
        )


def _is_stale(app: Application, tag: str, facts: ImageFacts, base: ImageFacts) -> bool:
    from orchestrator.services.images import tag_of

    built = any(
        on_base(r.image) and is_folder(r.image) and tag_of(r.image) == tag for r in app.runners.values()
    )
    return built and facts.layers[: len(base.layers)] != base.layers


def _users(app: Application) -> dict[str, list[str]]:
    """The runners whose image a tag is now."""
    from orchestrator.services.images import tag_of

    found: dict[str, list[str]] = {}
    for name, runner in app.runners.items():
        if is_folder(runner.image) and (tag := tag_of(runner.image)):
            found.setdefault(tag, []).append(f"runner {name}")
    return found


@images.command("prune")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@global_options
def prune(dry_run: bool, yes: bool) -> int:
    """Remove images of our making that neither a runner nor a pipeline's newest run uses.

    Images that carry another installation's label, or none, are never touched. What is needed again is made
    again.
    """
    from orchestrator.cli.output import ask, count, print_json, print_table, say
    from orchestrator.domain.report import format_size
    from orchestrator.domain.retention import Kind

    settings = this()
    with settings.application() as app:
        unfinished = app.store.runs.unfinished()
        if unfinished:
            names = ", ".join(run.title for run in unfinished[:5])
            say(f"nothing is removed while runs are unfinished ({names}): their images may be needed")
            return UNKNOWN
        kinds, keeper = {Kind.IMAGES}, app.image_pruner
        plan, problems = keeper.plan(kinds, _unseen)
        going = plan.going
        if not settings.json:
            rows = [(str(image.key), image.place, format_size(image.size)) for image in going]
            print_table(("image", "host", "frees"), rows)
        if going and not dry_run and not yes:
            ask(f"Remove {count(len(going), 'image')}?")
        if going and not dry_run:
            _, gone, problems = keeper.apply(kinds, who(), _unseen, lambda: None)
            going = tuple(gone)
        for problem in problems:
            say(problem)
        if settings.json:
            print_json([{"image": str(i.key), "host": i.place, "size": i.size} for i in going])
        elif going:
            say(f"{'would remove' if dry_run else 'removed'} {count(len(going), 'image')}")
        elif not problems:
            say("nothing to remove")
        return UNKNOWN if problems else PASSED


def _unseen(_: ProgressEvent) -> None:
    """Looking takes a moment only."""
