"""Where images come from that no registry has, wired."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.ports.engine import Engine
from orchestrator.ports.progress import ProgressSink
from orchestrator.services.supply import ImageSupply

if TYPE_CHECKING:
    from orchestrator.bootstrap.application import Application


def recipes() -> Path | None:
    """The folder ``runner-images``: beside the package in a checkout, inside it when installed."""
    import orchestrator

    package = Path(orchestrator.__path__[0])
    for folder in (package / "_runner_images", package.parent / "runner-images"):
        if (folder / "base" / "make").is_file():
            return folder
    return None


def supply_of(app: Application) -> ImageSupply:
    """Copies from the engines of this machine; the base image is made where none of them has it."""

    def sources() -> Mapping[str, Engine]:
        here = (host.name for host in app.hosts if host.ssh is None)
        return {name: app.engines[name] for name in here if name in app.engines}

    folder = recipes()
    if folder is None:
        return ImageSupply(sources)
    base = app.base_image(folder)

    def make_base(engine: Engine, progress: ProgressSink) -> None:
        base.ensure(engine, progress)

    return ImageSupply(sources, make_base)
