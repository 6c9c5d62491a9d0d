"""The base image: left alone, made on Debian's image from a registry, or of Debian's packages."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.domain.errors import EngineUnavailable, ImageNotFound
from orchestrator.domain.pipeline import HELPER_IMAGE as BASE_IMAGE
from orchestrator.ports.progress import ProgressEvent
from orchestrator.services.base_image import RECIPE_LABEL, UPSTREAM, BaseImage, Way
from tests.support.fake_engine import FakeEngine
from tests.unit.services.worlds import ManualClock

RECIPES = Path(__file__).parents[3] / "runner-images"


class Debian:
    """Stands for mmdebstrap."""

    def __init__(self, why_not: str = "") -> None:
        self.why_not = why_not
        self.asked = 0

    def __call__(self, program: Path, tar: Path) -> str:
        self.asked += 1
        assert program == RECIPES / "base" / "rootfs"
        tar.write_bytes(b"a root file system")
        return self.why_not


def base_image(debian: Debian, environ: dict[str, str] | None = None) -> BaseImage:
    return BaseImage(RECIPES / "base", b"certificates", environ or {}, debian, ManualClock())


def silent(event: ProgressEvent) -> None:
    """Nobody watches."""


def test_one_that_is_there_is_left_alone() -> None:
    engine, debian = FakeEngine(images=()), Debian()
    engine.images[BASE_IMAGE] = "sha256:there"
    made = base_image(debian).ensure(engine, silent)
    assert (made.digest, made.way, made.seconds) == ("sha256:there", Way.THERE, 0)
    assert debian.asked == 0


def test_where_a_registry_has_debian_it_is_the_start() -> None:
    engine, debian = FakeEngine(images=()), Debian()
    engine.registry[UPSTREAM] = "sha256:debian"
    made = base_image(debian, {"http_proxy": "http://proxy:3128"}).ensure(engine, silent)
    assert made.way is Way.REGISTRY
    assert engine.build_arguments[BASE_IMAGE] == {"FROM": UPSTREAM, "http_proxy": "http://proxy:3128"}
    assert debian.asked == 0


def test_without_a_registry_it_is_made_of_packages() -> None:
    engine, debian = FakeEngine(images=()), Debian()
    told: list[str] = []
    made = base_image(debian).ensure(engine, lambda event: told.append(event.what))
    assert made.way is Way.PACKAGES
    start = f"sha256:{hashlib.sha256(b'a root file system').hexdigest()}"
    assert engine.build_arguments[BASE_IMAGE] == {"FROM": start}
    assert [what for what in told if UPSTREAM in what] != []


def test_it_belongs_to_no_installation_and_tells_its_recipe() -> None:
    engine = FakeEngine(images=())
    base = base_image(Debian())
    base.ensure(engine, silent)
    assert engine.shared_labels[BASE_IMAGE] == {RECIPE_LABEL: base.recipe}
    assert BASE_IMAGE not in engine.owned().images


def test_where_neither_way_is_open_both_reasons_are_told() -> None:
    with pytest.raises(ImageNotFound, match=r"no registry has it; .*there is no mmdebstrap") as caught:
        base_image(Debian("there is no mmdebstrap here")).ensure(FakeEngine(images=()), silent)
    assert "base/make" in caught.value.remedy


def test_an_engine_that_does_not_answer_is_no_reason_to_fetch_packages() -> None:
    engine, debian = FakeEngine(images=()), Debian()
    engine.cut()
    with pytest.raises(EngineUnavailable):
        base_image(debian).ensure(engine, silent)
    assert debian.asked == 0


def test_the_recipe_is_what_the_script_makes_of_the_same_files() -> None:
    files = b"".join((RECIPES / "base" / name).read_bytes() for name in ("make", "rootfs", "Dockerfile"))
    assert base_image(Debian()).recipe == hashlib.sha256(files + b"certificates").hexdigest()[:12]
    script = (RECIPES / "base" / "make").read_text()
    assert 'cat "$here/make" "$here/rootfs" "$here/Dockerfile"' in script
