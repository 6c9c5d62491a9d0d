"""A registry that is down and comes back, and one that refuses (fault 16)."""

from __future__ import annotations

import docker
import pytest

from tests.support.installation import Installation
from tests.support.registry import Registry
from tests.support.waiting import wait_until

USER, PASSWORD = "ci", "made-up-password"


def use(installation: Installation, registry: Registry, image: str, password: str) -> None:
    """Let the runner's image come from the registry, with that login."""
    installation.image = image
    installation.main = {"registries": {registry.host: {"username": USER, "password": password}}}
    installation.write()
    installation.commit(0.8)


def test_a_registry_that_comes_back_gives_the_next_try_its_image(
    plain: Installation, docker_engine: docker.DockerClient
) -> None:
    with Registry((USER, PASSWORD)) as registry:
        image = registry.add(docker_engine, f"team/{plain.folder.name.lower()}")
        try:
            registry.broken = True
            use(plain, registry, image, PASSWORD)
            plain.serve()
            wait_until(lambda: plain.json("runs", "list"), "the push to be seen", 30)
            wait_until(lambda: len(plain.json("runs", "show", "1")["attempts"]) > 1, "a second try", 60)
            registry.broken = False
            plain.wait_for_mails(1)
            first, *others = plain.json("runs", "show", "1")["attempts"]
        finally:
            docker_engine.images.remove(image, force=True)
    assert first["reason"] == "registry_unavailable"
    assert image in first["message"]
    # The tiny image has no program; that it was tried to be started shows that it came.
    assert others[-1]["reason"] in ("start", "engine_refused")


@pytest.mark.parametrize("token", [False, True], ids=["basic", "token"])
def test_a_wrong_password_is_tried_once_and_never_shown(
    plain: Installation, docker_engine: docker.DockerClient, token: bool
) -> None:
    with Registry((USER, PASSWORD), token=token) as registry:
        use(plain, registry, f"{registry.host}/team/private:1", "another-password")
        server = plain.serve()
        plain.wait_for_mails(1)
        run = plain.json("runs", "show", "1")
    assert (run["state"], run["reason"], len(run["attempts"])) == ("errored", "registry_denied", 1)
    assert f"registries.{registry.host}" in run["sentence"]
    (mail,) = plain.smtp.messages
    shown = run["sentence"], server.log.read_text(), mail.body("plain"), mail.body()
    assert [text for text in shown if "another-password" in text] == []
