"""Having the images of runners on hosts, and saying how each came to be there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from orchestrator.cli.settings import Settings

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.errors import EngineError
    from orchestrator.domain.pipeline import HostSpec, ImageSpec
    from orchestrator.ports.engine import Engine, ImageFacts

BASE_IMAGE: Final = "mlci/base:1"
_FROM_BASE = re.compile(r"^(?:ARG\s+\w+=|FROM\s+)mlci/base:1\s*$", re.MULTILINE)


class ImageMaking:
    """Makes images on hosts one after the other, and says how each came to be there."""

    def __init__(self, app: Application, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self.made: list[dict[str, Json]] = []
        self.failed = 0

    def on(self, where: HostSpec, wanted: dict[str, ImageSpec], *, base: bool) -> None:
        """Have the images on a host, the base image first where one of them needs it, or ``base``."""
        from orchestrator.domain.errors import EngineError
        from orchestrator.domain.pipeline import RepositoryImage

        engine = self._app.engines[where.name]
        if base or any(on_base(image) for image in wanted.values()):
            try:
                self._base(engine, where)
            except EngineError as error:
                self._told(BASE_IMAGE, where, error)
                wanted = {name: image for name, image in wanted.items() if not on_base(image)}
        for name, image in wanted.items():
            if not isinstance(image, RepositoryImage):
                try:
                    self._one(engine, where, name, image)
                except EngineError as error:
                    self._told(name, where, error)

    def _base(self, engine: Engine, where: HostSpec) -> None:
        from orchestrator.bootstrap.supply import recipes
        from orchestrator.cli.progress import ProgressLine
        from orchestrator.domain.errors import ImageNotFound
        from orchestrator.services.base_image import Way

        folder = recipes()
        if folder is None:
            if engine.find_image(BASE_IMAGE) is not None:
                return
            raise ImageNotFound(f"{BASE_IMAGE} is not on {where.name}, and its recipe is not installed")
        source, began = "", self._app.clock.monotonic()
        with ProgressLine(lines=self._settings.verbose) as progress:
            if engine.find_image(BASE_IMAGE) is None:
                source = self._app.supply.copy(engine, BASE_IMAGE, progress)
            base = self._app.base_image(folder).ensure(engine, progress)
        told, took = f"made {base.way.value}", base.seconds
        if base.way is Way.THERE:
            told = f"copied from {source}" if source else base.way.value
            took = self._app.clock.monotonic() - began if source else 0.0
        self._note("base", where, BASE_IMAGE, base.digest, base.size, took, told)

    def _one(self, engine: Engine, where: HostSpec, name: str, image: ImageSpec) -> None:
        from orchestrator.cli.progress import ProgressLine
        from orchestrator.services.images import tag_of

        known = tag_of(image)
        before = engine.describe_image(known) if known else None
        stale = before is not None and is_folder(image) and on_base(image) and not _is_on(engine, before)
        began = self._app.clock.monotonic()
        with ProgressLine(lines=self._settings.verbose) as progress:
            tag, digest = self._app.images.runner_image(engine, image, None, progress, anew=stale)
        facts = engine.describe_image(tag)
        there = before is not None and before.id == digest
        took = 0.0 if there else self._app.clock.monotonic() - began
        built = "built again, on the base as it is now" if stale else "built"
        told = "it was there" if there else built if is_folder(image) else "pulled"
        self._note(name, where, tag, digest, facts.size if facts else 0, took, told)

    def _note(
        self, name: str, where: HostSpec, tag: str, digest: str, size: int, seconds: float, told: str
    ) -> None:
        from orchestrator.domain.report import format_duration, format_size

        row: dict[str, Json] = {"runner": name, "host": where.name, "image": tag, "digest": digest}
        self.made.append({**row, "size": size, "seconds": round(seconds, 1), "told": told})
        if not self._settings.json:
            took = f", in {format_duration(seconds)}" if seconds else ""
            short = digest.removeprefix("sha256:")[:12]
            click.echo(f"{name} on {where.name}: {tag} ({short}, {format_size(size)}), {told}{took}")

    def _told(self, name: str, where: HostSpec, error: EngineError) -> None:
        from orchestrator.cli.output import say
        from orchestrator.domain.errors import ImageRejected

        self.failed += 1
        log = error.log if isinstance(error, ImageRejected) else ""
        say(f"{name} on {where.name}: {error}\n{log}".rstrip())


def _is_on(engine: Engine, image: ImageFacts) -> bool:
    """Whether an image is built on the base image as the host has it now."""
    base = engine.describe_image(BASE_IMAGE)
    return base is None or image.layers[: len(base.layers)] == base.layers


def is_folder(image: ImageSpec) -> bool:
    """Whether it is built from a folder of the administrator's."""
    from orchestrator.domain.pipeline import FolderImage

    return isinstance(image, FolderImage)


def on_base(image: ImageSpec) -> bool:
    """Whether a runner's image is built on the base image."""
    from orchestrator.domain.pipeline import FolderImage, NamedImage

    match image:
        case FolderImage():
            dockerfile = Path(image.folder) / "Dockerfile"
            return dockerfile.is_file() and bool(
                _FROM_BASE.search(dockerfile.read_text(encoding="utf-8", errors="replace"))
            )
        case NamedImage():
            return image.name == BASE_IMAGE
        case _:
            return False
