"""The base image of all runs: there already, made on Debian's image from a registry, or of Debian's packages.

The recipe is in ``runner-images/base``; its script ``make`` does the same with the docker command alone, for
machines that have nothing of this product yet.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from orchestrator.domain.errors import EngineError, EngineFull, EngineUnavailable, ImageNotFound
from orchestrator.domain.pipeline import HELPER_IMAGE as BASE_IMAGE
from orchestrator.ports.engine import Engine
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.world import Clock

UPSTREAM: Final = "debian:bookworm-slim"
RECIPE_LABEL: Final = "mlci.recipe"
_DIGITS = 12
_FILES = ("make", "rootfs", "Dockerfile")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

RootFs = Callable[[Path, Path], str]
"""Runs the program, which writes a root file system to the second path; why it could not, or nothing."""


class Way(StrEnum):
    """How the base image came to be there."""

    THERE = "it was there"
    REGISTRY = f"on {UPSTREAM} from the registry"
    PACKAGES = f"from Debian's packages, as no registry gave {UPSTREAM}"


@dataclass(frozen=True, slots=True)
class Base:
    """The base image on a host. ``seconds`` is how long it took to make, 0 where it was there."""

    digest: str
    size: int
    way: Way
    seconds: float


@dataclass(frozen=True, slots=True)
class BaseImage:
    """Has the base image on hosts. ``folder`` holds the recipe, ``certificates`` what this machine trusts."""

    folder: Path
    certificates: bytes
    environ: Mapping[str, str]
    rootfs: RootFs
    clock: Clock

    @property
    def recipe(self) -> str:
        """What the label of an image says that was made like this."""
        digest = hashlib.sha256()
        for name in _FILES:
            digest.update((self.folder / name).read_bytes())
        digest.update(self.certificates)
        return digest.hexdigest()[:_DIGITS]

    def ensure(self, engine: Engine, progress: ProgressSink, *, anew: bool = False) -> Base:
        """Have it on a host; ``anew``: also where there is one.

        Raises ImageNotFound where no registry has Debian and its packages cannot be put together here,
        ImageRejected, EngineError.
        """
        began = self.clock.monotonic()
        found = None if anew else engine.describe_image(BASE_IMAGE)
        if found is not None:
            return Base(found.id, found.size, Way.THERE, 0)
        way, start = self._start(engine, progress)
        progress(ProgressEvent(f"building {BASE_IMAGE}"))
        with tempfile.TemporaryDirectory(prefix="orchestrator-base-") as context:
            shutil.copyfile(self.folder / "Dockerfile", Path(context, "Dockerfile"))
            Path(context, "host-certificates.crt").write_bytes(self.certificates)
            proxies = {name: self.environ[name] for name in _PROXIES if self.environ.get(name)}
            engine.build(
                Path(context),
                "Dockerfile",
                BASE_IMAGE,
                {RECIPE_LABEL: self.recipe},
                progress,
                arguments={"FROM": start, **proxies},
                shared=True,
            )
        made = engine.describe_image(BASE_IMAGE)
        if made is None:
            raise ImageNotFound(f"{BASE_IMAGE} was made, and yet it is not there")
        return Base(made.id, made.size, way, self.clock.monotonic() - began)

    def _start(self, engine: Engine, progress: ProgressSink) -> tuple[Way, str]:
        """How the image is made, and the image that it begins with."""
        try:
            engine.pull(UPSTREAM, progress)
        except (EngineUnavailable, EngineFull):
            raise
        except EngineError as error:
            refused = error
        else:
            return Way.REGISTRY, UPSTREAM
        progress(ProgressEvent(f"no registry gave {UPSTREAM}: fetching Debian's packages"))
        with tempfile.TemporaryDirectory(prefix="orchestrator-rootfs-") as folder:
            tar = Path(folder, "rootfs.tar")
            why_not = self.rootfs(self.folder / "rootfs", tar)
            if why_not:
                raise ImageNotFound(
                    f"{BASE_IMAGE} cannot be made: {refused.message}; {why_not}",
                    f"let the engine pull {UPSTREAM}, or run {self.folder / 'make'} on Debian as root",
                )
            progress(ProgressEvent("sending Debian to the engine"))
            with tar.open("rb") as content:
                return Way.PACKAGES, engine.import_image(content)
