"""Preparing an attempt: image, data, container, code."""

from __future__ import annotations

import tarfile
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from orchestrator.domain.change import DatasetVersion
from orchestrator.domain.errors import DatasetMoved, ImageNotFound, NotFound
from orchestrator.domain.pipeline import (
    DatasetSpec,
    Network,
    Pipeline,
    RepositoryImage,
    Resources,
    RunnerSpec,
    SourceSpec,
)
from orchestrator.domain.run import Attempt, Run
from orchestrator.ports.engine import Container, ContainerSpec, Engine, Interrupt, Sandbox, VolumeMount
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, DatasetSource, SourceControl
from orchestrator.services import naming
from orchestrator.services.archive import EMPTY_SINCE
from orchestrator.services.cleanup import cleaned_up
from orchestrator.services.code import CodeArchives
from orchestrator.services.images import Images
from orchestrator.services.networks import Networks
from orchestrator.services.supply import ImageSupply


@dataclass(frozen=True, slots=True)
class Prepared:
    """A container that is ready to start."""

    container: Container
    image_digest: str


class Preparer:
    """Makes containers ready. Thread-safe. Everything it does may be repeated after a kill at any point."""

    def __init__(
        self,
        store: Store,
        sources: SourceControl,
        datasets: DatasetSource,
        images: Images,
        supply: ImageSupply,
        networks: Networks,
        clock: Clock,
        scratch: Path,
        owner: str,
    ) -> None:
        self._store = store
        self._datasets = datasets
        self._images = images
        self._supply = supply
        self._networks = networks
        self._clock = clock
        self._code = CodeArchives(sources, scratch)
        self._owner = owner
        self._staging: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)

    def prepare(
        self,
        engine: Engine,
        host: str,
        slot: int,
        run: Run,
        pipeline: Pipeline,
        attempt: Attempt,
        secrets: Mapping[str, str],
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> Prepared:
        """Have the attempt's container with its code and data, not started.

        ``slot`` is the attempt's place on the host. Raises ImageNotFound, ImageRejected, SetupFailed,
        SourceError, DatasetError, EngineError, and what ``interrupt`` raises while an image is built or the
        setup command runs.
        """
        runner, (source, commit) = pipeline.runner, _source(run, pipeline)
        if isinstance(runner.image, RepositoryImage) or pipeline.execution.setup is not None:
            with self._code.checkout(source, commit) as checkout:
                network = self._network(engine, host, slot, runner, interrupt, progress)
                image = self._image(engine, pipeline, checkout, interrupt, progress, network)
                code = self._code.packed(checkout, runner.uid, runner.gid)
        else:
            # The code is packed beside the engine's own work.
            code = self._code.begin(source, commit, runner.uid, runner.gid)
            network = self._network(engine, host, slot, runner, interrupt, progress)
            image = self._image(engine, pipeline, None, interrupt, progress, network)
        mounts = []
        for version in run.change.datasets:
            volume = self._stage(engine, host, image[0], pipeline, version, progress)
            mounts.append(VolumeMount(volume, f"{naming.DATA}/{version.dataset}"))
        checkpoint = naming.checkpoint_volume(self._store.instance, run.id, attempt.replicate)
        engine.ensure_volume(checkpoint, naming.labels_of(attempt, "checkpoint"))
        mounts.append(VolumeMount(checkpoint, naming.CHECKPOINT, read_only=False))
        progress(ProgressEvent("creating the container"))
        container = engine.create(
            self._specification(run, pipeline, attempt, image[0], network, tuple(mounts), bool(secrets))
        )
        progress(ProgressEvent("sending the code"))
        with code.result().after(folders_head(runner.uid, runner.gid, secrets)) as tar:
            engine.put(container.name, "/", tar)
        return Prepared(container, image[1])

    def _image(
        self,
        engine: Engine,
        pipeline: Pipeline,
        checkout: Path | None,
        interrupt: Interrupt,
        progress: ProgressSink,
        network: Sandbox | str | None,
    ) -> tuple[str, str]:
        """Have the image of an attempt: its name and digest. ``checkout`` for what is made from the code."""
        runner, execution = pipeline.runner, pipeline.execution
        base = self._images.runner_image(
            engine,
            runner.image,
            checkout if isinstance(runner.image, RepositoryImage) else None,
            progress,
            runner,
            execution.timeout,
            interrupt,
            network,
        )
        if execution.setup is None or checkout is None:
            return base
        return self._images.with_setup(
            engine, base, runner, execution.setup, checkout, execution.timeout, interrupt, progress, network
        )

    def _network(
        self,
        engine: Engine,
        host: str,
        slot: int,
        runner: RunnerSpec,
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> Sandbox | str | None:
        if runner.network is Network.NONE:
            return None
        as_root = runner.uid == 0 or isinstance(runner.image, RepositoryImage)
        try:
            return self._networks.join(engine, host, slot, as_root=as_root)
        except ImageNotFound:
            # A machine that was just added lacks the helper image, and then only.
            self._supply.have(engine, self._networks.helper_image(host), progress, interrupt)
            return self._networks.join(engine, host, slot, as_root=as_root)

    def _stage(
        self,
        engine: Engine,
        host: str,
        image: str,
        pipeline: Pipeline,
        version: DatasetVersion,
        progress: ProgressSink,
    ) -> str:
        """Have a dataset version in a volume of its own; filled once a host, verified file by file on the
        way.
        """
        volume = naming.data_volume(self._store.instance, version.fingerprint)
        spec = pipeline.dataset_named(version.dataset)
        if spec is None:
            raise NotFound(f"pipeline {pipeline.name} has no dataset {version.dataset} any more")
        with self._staging[host, volume]:
            labels = {naming.ROLE_LABEL: "data", "mlci.dataset": version.dataset}
            made = engine.ensure_volume(volume, labels)
            if self._store.attempts.is_staged(host, volume):
                if not made:
                    return volume
                # Somebody removed the volume; were its filling cut off, the old word would count for it.
                self._store.attempts.forget_staged(host, volume)
            progress(ProgressEvent(f"staging {version.label}", 0, version.size, "bytes"))
            self._fill(engine, image, volume, spec, version, progress)
            self._store.attempts.mark_staged(host, volume, self._clock.now())
        return volume

    def _fill(
        self,
        engine: Engine,
        image: str,
        volume: str,
        spec: DatasetSpec,
        version: DatasetVersion,
        progress: ProgressSink,
    ) -> None:
        entries = self._store.detection.manifest(spec, version.fingerprint)
        stager = naming.helper_name(self._store.instance, "stager", version.fingerprint, self._owner)
        engine.remove(stager)
        try:
            with (
                cleaned_up(partial(engine.remove, stager)),
                self._datasets.archive(spec, entries, progress) as tar,
            ):
                # The stager is never started: a created container is enough to write into its volume.
                engine.create(
                    ContainerSpec(
                        name=stager,
                        image=image,
                        command=("true",),
                        labels={naming.ROLE_LABEL: "stager"},
                        env={},
                        user="0:0",
                        workdir="/",
                        resources=Resources(),
                        mounts=(VolumeMount(volume, "/mlci-data", read_only=False),),
                    )
                )
                engine.put(stager, "/", _folder_tar(f"mlci-data/{naming.DATA_FILES}"))
                engine.put(stager, f"/mlci-data/{naming.DATA_FILES}", tar)
        except DatasetMoved as error:
            raise DatasetMoved(
                f"{version.label} is no longer what it was when this run was enqueued: {error.message}",
                "the data changed meanwhile; their new version makes a run of its own",
            ) from error

    def _specification(
        self,
        run: Run,
        pipeline: Pipeline,
        attempt: Attempt,
        image: str,
        network: Sandbox | str | None,
        mounts: tuple[VolumeMount, ...],
        has_secrets: bool,
    ) -> ContainerSpec:
        runner = pipeline.runner
        return ContainerSpec(
            name=attempt.container,
            image=image,
            command=with_secrets(pipeline.execution.command) if has_secrets else pipeline.execution.command,
            labels=naming.labels_of(attempt, "attempt"),
            env=environment(run, pipeline, attempt),
            user=f"{runner.uid}:{runner.gid}",
            workdir=naming.WORKSPACE,
            resources=runner.resources,
            network=network,
            mounts=mounts,
        )


def environment(run: Run, pipeline: Pipeline, attempt: Attempt) -> dict[str, str]:
    """What a container finds in its environment, secrets apart.

    What the user sets wins over what we suggest.
    """
    revision = run.change.revision
    suggested = {
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{naming.OUTPUT}/mlflow.db",
    }
    given = {
        "CI": "true",
        "HOME": naming.HOME,
        "USER": "mlci",
        "LOGNAME": "mlci",
        "MLCI_OUTPUT_DIR": naming.OUTPUT,
        "MLCI_CHECKPOINT_DIR": naming.CHECKPOINT,
        "MLCI_SEED": str(attempt.seed),
        "MLCI_REPLICATE": str(attempt.replicate),
        "MLCI_RUN_ID": str(run.id),
        "MLCI_PIPELINE": run.pipeline,
        "MLCI_COMMIT": revision.commit,
        "MLCI_BRANCH": revision.branch,
    }
    for version in run.change.datasets:
        spec = pipeline.dataset_named(version.dataset)
        if spec is not None:
            given[spec.variable] = f"{naming.DATA}/{version.dataset}/{naming.DATA_FILES}"
    return {**suggested, **dict(pipeline.execution.env), **given}


def with_secrets(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command behind a shell that reads the secrets from a file and removes it.

    The environment of a container is there for all to read in ``docker inspect``; this file is not.
    """
    script = f'set -a; . {naming.SECRETS}/env; set +a; rm -f {naming.SECRETS}/env; exec "$@"'
    return ("/bin/sh", "-c", script, "mlci", *command)


def folders_head(uid: int, gid: int, secrets: Mapping[str, str]) -> bytes:
    """The beginning of a tar: the folders under /mlci with their owners, and the secrets' file."""
    head = bytearray()
    # /mlci itself stays root's: the run must not move our folders about.
    for path, owner, mode in (
        ("mlci", (0, 0), 0o755),
        (naming.OUTPUT, (uid, gid), 0o755),
        (naming.CHECKPOINT, (uid, gid), 0o755),
        (naming.HOME, (uid, gid), 0o755),
        (naming.SECRETS, (uid, gid), 0o700),
    ):
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.mode, (entry.uid, entry.gid) = tarfile.DIRTYPE, mode, owner
        entry.mtime = int(EMPTY_SINCE.timestamp())
        head += entry.tobuf(tarfile.GNU_FORMAT)
    if secrets:
        content = "".join(f"{name}={_quoted(value)}\n" for name, value in secrets.items()).encode()
        entry = tarfile.TarInfo(f"{naming.SECRETS}/env".lstrip("/"))
        entry.size, entry.mode, entry.uid, entry.gid = len(content), 0o400, uid, gid
        head += entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    return bytes(head)


def _source(run: Run, pipeline: Pipeline) -> tuple[SourceSpec, str]:
    revision = run.change.revision
    source = pipeline.source_named(revision.source)
    if source is None:
        raise NotFound(f"pipeline {pipeline.name} has no source {revision.source} any more")
    return source, revision.commit


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _folder_tar(path: str) -> BinaryIO:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(entry)
    buffer.seek(0)
    return buffer
