"""An upload that broke off goes on where it was, and takes nothing on trust that lies there."""

from __future__ import annotations

import os
import time
from typing import BinaryIO

import pytest

from orchestrator.domain.deployment import ReleaseFile
from orchestrator.domain.errors import ServerRejected, ServerUnavailable
from orchestrator.ports.progress import ProgressEvent
from tests.support.releases import Site, SiteMaker, ignore

OLD, NEW = "20261121T054459Z-41", "20261122T054459Z-42"


class Sent:
    """Reads from a site's contents, and remembers which files were asked for."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.paths: list[str] = []

    def read(self, file: ReleaseFile) -> BinaryIO:
        self.paths.append(file.path)
        return self._site.contents.read(file)


def broken_off(site: Site, files: list[ReleaseFile], after: int) -> None:
    """Begin an upload whose connection is cut after so many bytes."""

    def cut(event: ProgressEvent) -> None:
        if event.done >= after:
            site.machine.run("sh", "-c", f"pkill -KILL -u {site.server.user} || true")

    with pytest.raises(ServerUnavailable), site.target() as target:
        target.upload(NEW, files, site.contents.read, cut)


def test_what_is_whole_on_the_server_is_not_sent_again(site: Site) -> None:
    contents = {f"part-{n}": os.urandom(200_000) for n in range(20)} | {"sub/z": os.urandom(4_000_000)}
    files = site.contents.files(contents)
    broken_off(site, files, 4_500_000)
    sent = Sent(site)
    with site.target() as target:
        target.upload(NEW, files, sent.read, ignore)
        target.verify(NEW, files)
        target.activate(NEW)
    assert "part-0" not in sent.paths
    assert "sub/z" in sent.paths
    assert len(sent.paths) < len(files)
    assert site.shell("cat current/part-* | wc -c").strip() == "4000000"


def test_a_big_file_goes_on_where_it_broke_off(site: Site) -> None:
    whole = os.urandom(6_000_000)
    files = site.contents.files({"model": whole})
    with site.target() as target:
        target.upload(NEW, files, site.contents.read, ignore)
    site.shell(f"truncate -s 4000000 releases/{NEW}/model")
    inode = site.shell(f"stat -c %i releases/{NEW}/model")
    seen: list[int] = []
    with site.target() as target:
        target.upload(NEW, files, site.contents.read, lambda event: seen.append(event.done))
        target.verify(NEW, files)
    assert site.shell(f"stat -c %i releases/{NEW}/model") == inode
    assert (seen[0], seen[-1]) == (4_000_000, 6_000_000)


def test_what_lies_there_and_differs_is_replaced(site: Site) -> None:
    contents = {"same": b"s" * 10, "other": b"o" * 10, "begins": os.urandom(3_000_000), "d/link": b"l"}
    files = site.contents.files(contents)
    with site.target() as target:
        target.upload(NEW, files, site.contents.read, ignore)
    site.shell(
        f"cd releases/{NEW} && printf 0123456789 >other && truncate -s 2000000 begins && "
        "printf X | dd of=begins bs=1 seek=7 conv=notrunc 2>/dev/null && rm d/link && "
        "ln -s /etc/passwd d/link && mkdir -p extra/deep && touch extra/deep/file && ln -s /etc etc && "
        f"chown -Rh {site.server.user} ."
    )
    with site.target() as target:
        target.upload(NEW, files, site.contents.read, ignore)
        target.verify(NEW, files)
        target.activate(NEW)
    assert site.names("current") == ["begins", "d", "other", "same"]
    assert site.live("other") == "o" * 10
    assert "root" in site.machine.run("cat", "/etc/passwd")


def test_a_folder_where_a_file_goes_and_a_file_where_a_folder_goes_give_way(site: Site) -> None:
    files = site.contents.files({"a/b": b"inside", "c": b"plain"})
    with site.target() as target:
        target.upload(NEW, files, site.contents.read, ignore)
    site.shell(
        f"cd releases/{NEW} && rm -r a c && touch a && mkdir c && touch c/x && chown -R {site.server.user} ."
    )
    with site.target() as target:
        target.upload(NEW, files, site.contents.read, ignore)
        target.verify(NEW, files)


def test_a_verified_release_that_is_sent_again_is_hidden_until_it_is_verified_again(site: Site) -> None:
    files = site.contents.files({"model": b"one"})
    with site.target() as target:
        target.upload(NEW, files, site.contents.read, ignore)
        target.verify(NEW, files)
        target.upload(NEW, site.contents.files({"model": b"two"}), site.contents.read, ignore)
        with pytest.raises(ServerRejected, match="never verified"):
            target.activate(NEW)


def test_the_rate_is_kept(site: Site) -> None:
    slow = site.with_settings(rate=1_000_000)
    began = time.monotonic()
    slow.deploy(NEW, {"model": os.urandom(2_000_000)})
    assert 1.9 < time.monotonic() - began < 15


def test_ten_thousand_files_arrive(new_site: SiteMaker) -> None:
    site = new_site()
    site.deploy(NEW, {f"{n % 100:02}/{n}.txt": str(n).encode() for n in range(10_000)})
    assert site.shell("find -L current -type f | wc -l").strip() == "10000"
    assert site.live("99/9999.txt") == "9999"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["a", "a/b"], "is both a file and a folder"),
        (["x" * 256], "more than 255 bytes"),
        (["a\0b"], "is no name of a file"),
        (["../a"], "is no name of a file"),
        (["/a"], "is no name of a file"),
    ],
)
def test_names_that_cannot_arrive_are_refused_before_anything_is_sent(
    new_site: SiteMaker, names: list[str], why: str
) -> None:
    site = new_site()
    with site.target() as target, pytest.raises(ServerRejected, match=why):
        target.upload(NEW, site.contents.files(dict.fromkeys(names, b"x")), site.contents.read, ignore)
    assert site.names() == []


def test_shared_paths_outlive_releases(site: Site) -> None:
    shared = site.with_settings(shared=("logs", "var/cache"))
    shared.deploy(OLD, {"model": b"old"})
    site.shell("echo kept >shared/logs/access.log")
    shared.deploy(NEW, {"model": b"new", "var/here": b"1"})
    assert site.live("logs/access.log") == "kept\n"
    assert site.shell("readlink -f current/var/cache").strip() == site.path("shared/var/cache")
    with site.target() as target:
        assert target.prune(1) == (OLD,)
    assert site.live("logs/access.log") == "kept\n"


def test_a_file_in_the_place_of_a_shared_path_is_refused(site: Site) -> None:
    with pytest.raises(ServerRejected, match="has logs/a, and logs is to be a link to shared/logs"):
        site.with_settings(shared=("logs",)).deploy(NEW, {"logs/a": b"x"})
    assert "current" not in site.names(".")


def test_a_link_planted_as_the_shared_folder_is_not_followed(site: Site) -> None:
    site.shell("ln -s /tmp shared")
    with pytest.raises(ServerRejected, match=r"shared is a symbolic link, which could lead anywhere"):
        site.with_settings(shared=("logs",)).deploy(NEW, {"model": b"x"})
