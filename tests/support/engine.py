"""The real Docker engine and the images that tests use, made by the product's own scripts."""

import fcntl
import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound

from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
RUNNER_IMAGES = ROOT / "runner-images"
BASE_IMAGE = "mlci/base:1"
TEST_LABEL = "mlci.test"


def run_script(script: Path, *arguments: str) -> None:
    """Run one of the product's own scripts; a failure shows what it said."""
    done = subprocess.run(
        [str(script), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{script} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Keep the other test processes out, so that two of them never make the same image."""
    with Path(tempfile.gettempdir(), f"mlci-tests-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built(client: docker.DockerClient, folder: Path, base: str = BASE_IMAGE) -> str:
    """Build the Dockerfile of ``folder`` unless its content was built before, and return the image's tag."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_mode & 0o777:o}\0".encode())
        digest.update(path.read_bytes())
    digest.update(str(client.images.get(base).id).encode())
    tag = f"mlci-test/{folder.name}:{digest.hexdigest()[:12]}"
    with one_at_a_time(folder.name):
        try:
            client.images.get(tag)
        except ImageNotFound:
            client.images.build(
                path=str(folder),
                tag=tag,
                buildargs={"BASE": base},
                rm=True,
                forcerm=True,
                labels={TEST_LABEL: "image"},
            )
    return tag


def remove_instance(client: docker.DockerClient, instance: str) -> None:
    """Remove everything on the engine that carries an installation's label."""
    mine: dict[str, str | list[str] | bool] = {"label": f"mlci.instance={instance}"}

    def without_containers() -> bool:
        found = client.containers.list(all=True, filters=mine, ignore_removed=True)
        for container in found:
            try:
                container.remove(force=True, v=True)
            except APIError as error:
                # A server that was killed may have asked for the removal just before.
                if error.status_code not in (404, 409):
                    raise
        return not found

    wait_until(without_containers, f"the containers of {instance} to be removed", 60)
    for network in client.networks.list(filters=mine):
        network.remove()
    for volume in client.volumes.list(filters=mine):
        volume.remove(force=True)
    for image in client.images.list(filters=mine):
        client.images.remove(str(image.id), force=True)
