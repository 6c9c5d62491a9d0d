"""Images that no registry has reach a host that lacks them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.domain.errors import EngineError, EngineUnavailable, ImageNotFound, RegistryUnavailable
from orchestrator.domain.pipeline import HELPER_IMAGE, FolderImage, NamedImage, RepositoryImage
from orchestrator.ports.engine import Engine
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.services.images import Images
from orchestrator.services.supply import ImageSupply
from tests.support.fake_engine import NOBODYS_REGISTRY, FakeEngine
from tests.unit.services.worlds import ManualClock, World, pipeline


def ignore(event: ProgressEvent) -> None:
    """A sink for those who do not look."""


def images(supply: ImageSupply) -> Images:
    return Images("test", "me", ManualClock(), supply)


def test_a_missing_image_is_copied_from_an_engine_here_with_progress() -> None:
    here, there, told = FakeEngine(images=["mlci/cpu:1"]), FakeEngine(images=[]), list[ProgressEvent]()
    digest = ImageSupply(lambda: {"local": here}).have(there, "mlci/cpu:1", told.append)
    assert digest == here.images["mlci/cpu:1"] == there.images["mlci/cpu:1"]
    assert {event.what for event in told} == {"copying mlci/cpu:1 from local"}


def test_an_image_that_is_there_is_not_copied_again() -> None:
    here, there = FakeEngine(images=["mlci/cpu:1"]), FakeEngine(images=["mlci/cpu:1"])
    ImageSupply(lambda: {"local": here}).have(there, "mlci/cpu:1", ignore)
    assert not [call for call, _ in there.calls if call == "load_image"]


def test_an_image_for_another_kind_of_machine_is_not_copied() -> None:
    here, there = FakeEngine(images=["mlci/cpu:1"]), FakeEngine(images=[])
    there.platform = "linux/arm64"
    with pytest.raises(ImageNotFound, match="mlci/cpu:1"):
        ImageSupply(lambda: {"local": here}).have(there, "mlci/cpu:1", ignore)


def test_an_engine_that_does_not_answer_is_passed_over() -> None:
    silent, here, there = (FakeEngine(images=["mlci/cpu:1"]) for _ in range(3))
    silent.cut()
    there.images.clear()
    ImageSupply(lambda: {"other": silent, "local": here}).have(there, "mlci/cpu:1", ignore)
    assert "mlci/cpu:1" in there.images


def test_a_copy_that_breaks_off_here_does_not_pass_for_a_host_that_is_gone() -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise EngineUnavailable("reading it: the engine's answer broke off")

    class Torn(FakeEngine):
        def export_image(self, name: str) -> BinaryIO:
            return Breaking()

    there = FakeEngine(images=[])
    with pytest.raises(EngineError, match="broke off") as caught:
        ImageSupply(lambda: {"local": Torn(images=["mlci/cpu:1"])}).have(there, "mlci/cpu:1", ignore)
    assert not isinstance(caught.value, EngineUnavailable)
    assert "mlci/cpu:1" not in there.images


def test_the_base_image_is_made_where_nobody_has_it() -> None:
    there, made = FakeEngine(images=[]), list[Engine]()

    def make(engine: Engine, progress: ProgressSink) -> None:
        made.append(engine)
        there.images[HELPER_IMAGE] = "sha256:made"

    assert ImageSupply(make_base=make).have(there, HELPER_IMAGE, ignore) == "sha256:made"
    with pytest.raises(ImageNotFound):
        ImageSupply(make_base=make).have(there, "mlci/other:1", ignore)
    assert made == [there]


def test_no_registry_is_asked_for_names_of_ours() -> None:
    there = FakeEngine(images=[])
    there.registry["mlci/cpu:1"] = "sha256:a strangers"
    with pytest.raises(ImageNotFound, match="images build"):
        images(ImageSupply()).runner_image(there, NamedImage("mlci/cpu:1"), None, ignore)
    assert not [call for call, _ in there.calls if call == "pull"]


def test_what_no_registry_gives_is_copied_and_else_the_registry_is_the_reason() -> None:
    name = f"{NOBODYS_REGISTRY}team/train:1"
    here, there = FakeEngine(images=[name]), FakeEngine(images=[])
    with pytest.raises(RegistryUnavailable):
        images(ImageSupply()).runner_image(there, NamedImage(name), None, ignore)
    supplied = images(ImageSupply(lambda: {"local": here}))
    assert supplied.runner_image(there, NamedImage(name), None, ignore) == (name, here.images[name])


def test_what_a_dockerfile_of_the_administrators_begins_with_comes_first(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ARG BASE=mlci/base:1\nFROM --platform=linux/amd64 mlci/cpu:2\n")
    here, there = FakeEngine(images=[HELPER_IMAGE, "mlci/cpu:2"]), FakeEngine(images=[])
    made = images(ImageSupply(lambda: {"local": here}))
    made.runner_image(there, FolderImage(str(tmp_path)), None, ignore)
    assert {HELPER_IMAGE, "mlci/cpu:2"} < there.images.keys()


def test_a_strangers_dockerfile_brings_the_base_image_alone(tmp_path: Path, world: World) -> None:
    (tmp_path / "Dockerfile").write_text("FROM mlci/base:1\nFROM mlci/other-team:2\n")
    here, there = FakeEngine(images=[HELPER_IMAGE, "mlci/other-team:2"]), FakeEngine(images=[])
    made = images(ImageSupply(lambda: {"local": here}))
    made.runner_image(there, RepositoryImage(), tmp_path, ignore, runner=pipeline().runner)
    assert HELPER_IMAGE in there.images
    assert "mlci/other-team:2" not in there.images


def test_a_host_without_the_helper_image_gets_it_when_a_run_needs_it(world: World) -> None:
    helper = world.engine.images.pop(HELPER_IMAGE)
    here = FakeEngine(images=[])
    here.images[HELPER_IMAGE] = helper
    world.supply = ImageSupply(lambda: {"here": here})
    run = world.first_run(pipeline())
    assert world.finish(run, world.server()).state.value == "passed"
    assert world.engine.images[HELPER_IMAGE] == helper
