"""The docker command line, for what the demo needs of its own: a production server, one-off containers."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from orchestrator.demo.errors import DemoFailed, NotReady

BASE_IMAGE = "mlci/base:1"


def docker(*arguments: str, given: bytes | None = None, timeout: float = 600) -> bytes:
    """What ``docker ARGUMENTS`` printed. Raises DemoFailed with what it said when it fails."""
    done = subprocess.run(
        ["docker", *arguments], input=given or b"", capture_output=True, check=False, timeout=timeout
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise DemoFailed(f"docker {' '.join(arguments)} ended with {done.returncode}: {said}")
    return done.stdout


def engine_url() -> str:
    """The socket of the engine that the docker command line talks to. Raises NotReady when none answers."""
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout=30)
        images = docker("image", "ls", "--quiet", BASE_IMAGE)
        url = (
            os.environ.get("DOCKER_HOST")
            or docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").decode()
        )
    except FileNotFoundError:
        raise NotReady("there is no docker command here; `make engine` installs it or says how") from None
    except (DemoFailed, subprocess.TimeoutExpired) as error:
        raise NotReady(f"no Docker engine answers; `make engine` starts one or says how ({error})") from None
    if not images.strip():
        raise NotReady(f"the image {BASE_IMAGE} is not there; `make images` makes it")
    if not url.startswith("unix://"):
        raise NotReady(f"the demo needs an engine of this machine, and docker talks to {url.strip()}")
    return url.strip()


def build(folder: Path, tag: str) -> None:
    """Build an image; quick when nothing changed."""
    names = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    proxies = [part for name in names if os.environ.get(name) for part in ("--build-arg", name)]
    docker("build", "--quiet", *proxies, "--tag", tag, str(folder))


def run_python(image: str, script: str, *arguments: str, files: Mapping[str, bytes] | None = None) -> str:
    """What a Python script prints in a fresh container without a network, with ``files`` below /demo."""
    name = (
        docker("create", "--network", "none", image, "python", "/demo/script.py", *arguments).decode().strip()
    )
    try:
        content = {"script.py": script.encode(), **(files or {})}
        docker("cp", "-", f"{name}:/", given=packed({f"demo/{path}": data for path, data in content.items()}))
        return docker("start", "--attach", name, timeout=120).decode()
    finally:
        docker("rm", "--force", "--volumes", name)


def packed(files: Mapping[str, bytes], mode: int = 0o644) -> bytes:
    """The files as a tar archive, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), mode
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The regular files of a tar archive by path."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is not None:
                files[member.name.removeprefix("./")] = stream.read()
    return files
