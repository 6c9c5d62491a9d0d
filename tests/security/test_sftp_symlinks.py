"""SFTP symlink tricks: what others planted on the server is neither followed nor overwritten."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from orchestrator.adapters.sftp import lock
from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import ServerRejected
from tests.support.releases import Site, fresh_folder, ignore, settings, with_files_only_account
from tests.support.sshd import SshServer, ssh_server

NEW = "20261122T054459Z-42"


@pytest.fixture(scope="module")
def machine(
    docker_engine: docker.DockerClient, sshd_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    with ssh_server(docker_engine, sshd_image, tmp_path_factory.mktemp("sshd")) as server:
        with_files_only_account(server)
        yield server


@pytest.fixture(params=["deploy", "files"], ids=["with a shell", "files only"])
def site(request: pytest.FixtureRequest, machine: SshServer) -> Site:
    """A folder of releases beside a victim that the account may write: only our own care protects it."""
    user = request.param
    site = Site(machine, settings(machine, fresh_folder(machine, user), user))
    site.shell(f"v={victim(site)} && mkdir -p $v/{NEW} && echo precious >$v/file && chown -R {user} $v")
    return site


def victim(site: Site) -> str:
    return f"{site.server.path}-victim"


def assert_victim_is_untouched(site: Site) -> None:
    assert sorted(site.machine.run("find", victim(site), "-printf", "%P\n").split()) == [NEW, "file"]
    assert site.machine.run("cat", f"{victim(site)}/file") == "precious\n"


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        ("ln -s VICTIM releases", "releases is a symbolic link"),
        (
            f"mkdir releases && ln -s VICTIM releases/{NEW}",
            "was put there by somebody else: it is no folder",
        ),
        (f"mkdir releases && touch releases/{NEW}", "was put there by somebody else: it is no folder"),
        (f"mkdir -p releases/{NEW} && touch releases/{NEW}/x", "it belongs to another user"),
        ("ln -s VICTIM current", "leads to .*-victim, which is no release"),
        (f"ln -s VICTIM/{NEW} current", "which is no release"),
        ("ln -s VICTIM/file current", "which is no release"),
        (f"ln -s VICTIM {lock.LOCK}", "is no folder of ours"),
    ],
)
def test_a_planted_link_is_refused_and_not_followed(site: Site, plant: str, message: str) -> None:
    site.shell(plant.replace("VICTIM", victim(site)))
    site.shell("if [ -d releases ] && [ ! -L releases ]; then chown --reference=. releases; fi")
    before = site.shell("find . -printf '%P %l %u\\n' | sort")
    with pytest.raises(ServerRejected, match=message):
        site.deploy(NEW, {"model": b"new"})
    assert_victim_is_untouched(site)
    after = site.shell("find . -printf '%P %l %u\\n' | sort")
    assert set(after.splitlines()) - set(before.splitlines()) <= {f"releases  {site.server.user}"}


def test_a_link_in_place_of_the_whole_folder_is_refused(site: Site) -> None:
    site.machine.run("ln", "-s", victim(site), f"{site.server.path}-link")
    with pytest.raises(ServerRejected, match="is a symbolic link, which could lead anywhere"):
        site.with_settings(path=f"{site.server.path}-link").deploy(NEW, {"model": b"new"})
    assert_victim_is_untouched(site)


def test_links_inside_an_unfinished_release_are_removed_not_followed(site: Site) -> None:
    with site.target() as target:
        target.upload(NEW, site.contents.files({"sub/model": b"half"}), site.contents.read, ignore)
    site.shell(
        f"ln -s {victim(site)} releases/{NEW}/sub/link && ln -s {victim(site)}/file releases/{NEW}/file"
    )
    site.deploy(NEW, {"model": b"new"})
    assert site.names(f"releases/{NEW}") == ["model"]
    assert_victim_is_untouched(site)


@pytest.mark.parametrize("folder", [".", "releases"])
def test_a_folder_that_everybody_may_write_is_refused(site: Site, folder: str) -> None:
    site.deploy(NEW, {"model": b"new"})
    site.shell(f"chmod o+w {folder}")
    with pytest.raises(ServerRejected, match=r"everybody on the server may write .* chmod o-w"):
        site.target().__enter__()


@pytest.mark.parametrize(
    "path", ["../escaped", "/etc/escaped", "a/../../escaped", "a//b", "a/./b", ".", "", "a\x00b"]
)
def test_a_file_never_leaves_its_release(site: Site, path: str) -> None:
    with site.target() as target, pytest.raises(ServerRejected, match="no name of a file inside a release"):
        target.upload(NEW, [ReleaseFile(path, 1, "0" * 64)], site.contents.read, ignore)
    assert site.names() == []


@pytest.mark.parametrize(
    "release", ["..", "../../etc", "current", "20261122T054459Z-42/../x", "", "x\n" + NEW]
)
def test_only_our_own_names_are_releases(site: Site, release: str) -> None:
    with site.target() as target:
        for act in (target.activate, target.discard):
            with pytest.raises(ServerRejected, match="no name of a release"):
                act(release)
    assert_victim_is_untouched(site)
