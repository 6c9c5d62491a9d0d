"""The recipes in runner-images/: what is installed there is pinned, and what the lock file says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "runner-images"
PINNED = [
    IMAGES / name for name in ("cpu/requirements.txt", "gpu/requirements.txt", "server/requirements.txt")
]
PINNED.append(IMAGES / "server" / "build.txt")
_PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][^ ]*)(?P<marker> ; .*)?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def pins(path: Path) -> dict[str, tuple[str, set[str]]]:
    """Each package's version and hashes; fails for a line that is neither."""
    text = "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("#"))
    found = {}
    for entry in text.replace("\\\n", "").splitlines():
        pin, *hashes = re.split(r"\s+(?=--hash)", entry)
        match = _PIN.fullmatch(pin)
        assert match is not None, entry
        digests = [_HASH.fullmatch(digest.strip()) for digest in hashes]
        assert digests, entry
        assert None not in digests, entry
        found[match["name"]] = (match["version"], {digest[1] for digest in digests if digest})
    return found


@pytest.mark.parametrize("path", PINNED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_package_of_an_image_has_one_version_and_its_hashes(path: Path) -> None:
    assert pins(path)


@pytest.mark.parametrize(
    "source", sorted(IMAGES.glob("*/*.in")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_what_an_image_is_meant_to_hold_is_pinned_as_it_says(source: Path) -> None:
    pinned = pins(source.with_suffix(".txt"))
    for line in source.read_text().split():
        name, _, version = line.partition("==")
        assert pinned[name][0] == version


def test_the_servers_packages_are_those_of_the_lock_file() -> None:
    # A package may have one version for the image's Python, and another one for newer ones.
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    locked = {(p["name"], p["version"]): p["wheels"] for p in packages if "wheels" in p}
    for name, (version, hashes) in pins(IMAGES / "server" / "requirements.txt").items():
        assert (name, version) in locked, f"{name}: run `make lock`"
        wheels = {wheel["hash"].removeprefix("sha256:") for wheel in locked[name, version]}
        assert hashes <= wheels, f"{name}: run `make lock`"


def test_the_server_gets_everything_that_the_package_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["postgres"]]
    names = {re.split(r"[\[<>=!~ ]", text)[0].lower().replace("_", "-") for text in wanted}
    assert names - pins(IMAGES / "server" / "requirements.txt").keys() == set(), "run `make lock`"


@pytest.mark.parametrize("dockerfile", sorted(IMAGES.glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_no_image_is_root_when_it_runs(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    users = re.findall(r"^USER (.*)$", text, re.MULTILINE)
    from_ours = "ARG BASE=mlci/base:1\n" in text
    assert users[-1:] not in ([], ["root"]) or (from_ours and not users)
    installing = [line for line in text.splitlines() if re.match(r"(RUN| &&) pip install", line)]
    assert all("--require-hashes" in line for line in installing)
