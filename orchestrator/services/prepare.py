"""Preparing an attempt: image, data, container, code."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.domain.change import DatasetVersion
from orchestrator.domain.errors import ImageNotFound, NotFound
from orchestrator.domain.pipeline import (
    Network,
    Pipeline,
    RepositoryImage,
    RunnerSpec,
    SourceSpec,
)
from orchestrator.domain.run import Attempt, Run
from orchestrator.ports.engine import (
    Container,
    ContainerSpec,
    Engine,
    FolderMount,
    Interrupt,
    Sandbox,
    VolumeMount,
)
from orchestrator.ports.gpus import GpuAccess
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.store import Store
from orchestrator.ports.world import SourceControl
from orchestrator.services import naming
from orchestrator.services.archive import EMPTY_SINCE
from orchestrator.services.code import CodeArchives
from orchestrator.services.gpus import Gpus
from orchestrator.services.images import Images
from orchestrator.services.networks import Networks
from orchestrator.services.reproduce import image_to_repeat
from orchestrator.services.staging import Stager
from orchestrator.services.supply import ImageSupply

_TRACKING = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A container that is ready to start."""

    container: Container
    image_digest: str
    gpus: GpuAccess | None = None


class Preparer:
    """Makes containers ready. Thread-safe. Everything it does may be repeated after a kill at any point."""

    def __init__(
        self,
        store: Store,
        sources: SourceControl,
        stager: Stager,
        images: Images,
        supply: ImageSupply,
        networks: Networks,
        gpus: Gpus,
        scratch: Path,
    ) -> None:
        self._store = store
        self._stager = stager
        self._images = images
        self._supply = supply
        self._networks = networks
        self._gpus = gpus
        self._code = CodeArchives(sources, scratch)

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
        SourceError, DatasetError, EngineError, and what ``interrupt`` raises while an image is built, the
        setup command runs or data are sent.
        """
        runner, (source, commit) = pipeline.runner, _source(run, pipeline)
        repeated = image_to_repeat(self._store, run, attempt)
        there = repeated if repeated and engine.find_image(repeated) is not None else ""
        # A stranger's commit on no branch shares with nobody.
        whose = f"{source.location} {run.change.revision.branch or commit}" if pipeline.untrusted else ""
        from_code = isinstance(runner.image, RepositoryImage) or pipeline.execution.setup is not None
        if from_code and not there:
            with self._code.checkout(source, commit) as checkout:
                network = self._network(engine, host, slot, runner, interrupt, progress)
                image = self._image(engine, pipeline, checkout, interrupt, progress, network, whose)
                code = self._code.packed(checkout, runner.uid, runner.gid)
        else:
            # The code is packed beside the engine's own work.
            code = self._code.begin(source, commit, runner.uid, runner.gid)
            network = self._network(engine, host, slot, runner, interrupt, progress)
            image = (
                (there, there)
                if there
                else self._image(engine, pipeline, None, interrupt, progress, network, whose)
            )
        folders, mounts = self.data(engine, host, run, pipeline, interrupt, progress)
        checkpoint = naming.checkpoint_volume(self._store.instance, run.id, attempt.replicate)
        engine.ensure_volume(checkpoint, naming.labels_of(attempt, "checkpoint"))
        mounts = (*mounts, VolumeMount(checkpoint, naming.CHECKPOINT, read_only=False))
        # As late as can be: others may begin to use a GPU at any time.
        gpus = self._gpus.access(engine, host, attempt, runner.resources)
        progress(ProgressEvent("creating the container"))
        container = engine.create(
            self._specification(
                run, pipeline, attempt, image[0], network, mounts, folders, gpus, bool(secrets)
            )
        )
        progress(ProgressEvent("sending the code"))
        with code.result().after(folders_head(runner.uid, runner.gid, secrets)) as tar:
            engine.put(container.name, "/", tar)
        return Prepared(container, image[1], gpus)

    def data(
        self,
        engine: Engine,
        host: str,
        run: Run,
        pipeline: Pipeline,
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> tuple[tuple[FolderMount, ...], tuple[VolumeMount, ...]]:
        """Have a run's data on a host. Raises as :meth:`prepare`."""
        mounts: list[VolumeMount] = []
        folders: list[FolderMount] = []
        for version in run.change.datasets:
            mount = self._stage(engine, host, pipeline, version, interrupt, progress)
            match mount:
                case VolumeMount():
                    mounts.append(mount)
                case FolderMount():
                    folders.append(mount)
        return tuple(folders), tuple(mounts)

    def code(self, run: Run, pipeline: Pipeline) -> BinaryIO:
        """A tar of a run's code with the folders that its container has, without secrets. SourceError."""
        runner, (source, commit) = pipeline.runner, _source(run, pipeline)
        packed = self._code.begin(source, commit, runner.uid, runner.gid).result()
        return packed.after(folders_head(runner.uid, runner.gid, {}))

    def _image(
        self,
        engine: Engine,
        pipeline: Pipeline,
        checkout: Path | None,
        interrupt: Interrupt,
        progress: ProgressSink,
        network: Sandbox | str | None,
        whose: str,
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
            whose=whose,
        )
        if execution.setup is None or checkout is None:
            return base
        return self._images.with_setup(
            engine,
            base,
            runner,
            execution.setup,
            checkout,
            execution.timeout,
            interrupt,
            progress,
            network,
            whose,
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
        pipeline: Pipeline,
        version: DatasetVersion,
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> VolumeMount | FolderMount:
        dataset = pipeline.dataset_named(version.dataset)
        if dataset is None:
            raise NotFound(f"pipeline {pipeline.name} has no dataset {version.dataset} any more")
        user = (pipeline.runner.uid, pipeline.runner.gid)
        return self._stager.have(engine, host, dataset, version, user, interrupt, progress)

    def _specification(
        self,
        run: Run,
        pipeline: Pipeline,
        attempt: Attempt,
        image: str,
        network: Sandbox | str | None,
        mounts: tuple[VolumeMount, ...],
        folders: tuple[FolderMount, ...],
        gpus: GpuAccess | None,
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
            folders=folders,
            gpus=gpus,
        )


def environment(run: Run, pipeline: Pipeline, attempt: Attempt) -> dict[str, str]:
    """What a container finds in its environment, secrets apart.

    What the user sets wins over what we suggest.
    """
    revision = run.change.revision
    suggested = {"PYTHONUNBUFFERED": "1"}
    if _TRACKING not in dict(pipeline.execution.env) and _TRACKING not in pipeline.execution.secrets:
        suggested[_TRACKING] = f"sqlite:///{naming.OUTPUT}/mlflow.db"
        # The only name by which the library lets a place for files be given without a line of code.
        suggested["_MLFLOW_SERVER_ARTIFACT_ROOT"] = f"{naming.OUTPUT}/mlartifacts"
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
            given[spec.variable] = naming.data_files(version.dataset)
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
