"""Dataset versions on hosts: each in a volume of its own, filled once, and proven to be what was sent.

The files travel in parts of at most ``PART`` bytes. A link that breaks costs the part that was under way:
what has arrived is looked at, and the rest is sent. At the end a small container on the host puts large files
together and hashes everything; only what is equal to the manifest, file by file, is ever given to a run.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from orchestrator.domain.change import DatasetVersion, FileEntry
from orchestrator.domain.errors import DatasetMoved, EngineError, EngineUnavailable
from orchestrator.domain.pipeline import DatasetSpec, HostSpec, Resources
from orchestrator.domain.report import format_size
from orchestrator.domain.text import escaped
from orchestrator.ports.engine import ContainerSpec, Engine, FolderMount, Interrupt, VolumeMount
from orchestrator.ports.progress import ProgressEvent, ProgressSink
from orchestrator.ports.store import Store
from orchestrator.ports.world import Clock, DatasetSource, Lock
from orchestrator.services import naming
from orchestrator.services.bounds import held
from orchestrator.services.cleanup import cleaned_up
from orchestrator.services.databudget import DataBudget
from orchestrator.services.helper import said_by
from orchestrator.services.parts import PART, counted, part_tar, parts_of, small_batches
from orchestrator.services.staged import FINISH, HASH_FOLDER, MOUNT, SURVEY, decoded, hashes, sizes
from orchestrator.services.supply import ImageSupply

log = logging.getLogger(__name__)

_ROUNDS = 2
"""So often is sent again what arrived damaged."""
_VAIN = 5
"""So many failures in a row, none of which brought a byte across, end a filling."""
_LOOK = 1.0
_READ_AT_LEAST = 900.0
"""Seconds that reading what is on a host may take, however little it is."""
_READ_SPEED = 2 << 20
"""Bytes a second that even a slow disk gives."""
_SLACK = 1 << 20
"""Bytes that a host may say beyond what it is asked for."""
_HELPER = Resources(memory=256 << 20, shm_size=1 << 20, pids=32)


@dataclass(slots=True)
class _Filling:
    """One volume on its way."""

    engine: Engine
    host: HostSpec
    image: str
    volume: str
    dataset: DatasetSpec
    version: DatasetVersion
    entries: Sequence[FileEntry]
    interrupt: Interrupt
    progress: ProgressSink
    done: int = 0
    """Bytes that are there."""
    puts: int = 0
    """Parts that were sent."""
    wrong: set[str] = field(default_factory=set)
    """Files whose content was not what it should be."""

    def tell(self, most: int = 0, more: int = 0) -> None:
        """Say how far it is: ``most`` bytes are on their way, and ``more`` went with what is around them."""
        at = self.done + min(more, most)
        self.progress(ProgressEvent(f"staging {self.version.label}", at, self.version.size, "bytes"))

    def arrived(self, size: int) -> None:
        """A part of so many bytes is there."""
        self.puts += 1
        self.done += size
        self.tell()


class Stager:
    """Has dataset versions on hosts. Thread-safe: one version goes to a host once, whoever asks first.

    ``hosts`` are by name, as they are configured at each look. ``shared`` gives a lock, by host and volume,
    that other processes respect as well. Whatever it does may be repeated after a kill at any point.
    """

    def __init__(
        self,
        store: Store,
        datasets: DatasetSource,
        supply: ImageSupply,
        hosts: Mapping[str, HostSpec],
        clock: Clock,
        owner: str,
        part: int = PART,
        shared: Callable[[str, str], Lock] = lambda host, volume: threading.Lock(),
    ) -> None:
        self._store = store
        self._datasets = datasets
        self._supply = supply
        self._hosts = hosts
        self._clock = clock
        self._owner = owner
        self._part = part
        self._shared = shared
        self._budget = DataBudget(store, clock, owner)
        self._locks: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self._folders: dict[tuple[str, str, str], str] = {}
        """The signature with which a host's own folder was found to be a version."""

    def have(
        self,
        engine: Engine,
        host: str,
        dataset: DatasetSpec,
        version: DatasetVersion,
        user: tuple[int, int],
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> VolumeMount | FolderMount:
        """Have a dataset version on a host; how a container mounts it.

        ``user`` are the uid and gid that read it. While the host does not answer this waits, up to the host's
        ``lost_after``. Raises DatasetError, EngineError, and what ``interrupt`` raises.
        """
        spec = self._hosts.get(host)
        if spec is None:
            raise EngineError(f"there is no host {host} any more")
        path = dict(spec.data).get(version.dataset)
        if path is not None and user[0] == 0:
            # Between comparing and mounting, who may write beside the folder can put another in its place:
            # a user's own rights there bound what is seen then, and those of root do not.
            why = "is not shown to a runner whose user is root"
            log.warning("%s is staged on %s: %s %s", version.label, host, path, why)
            progress(ProgressEvent(f"{path} on {host} {why}: {version.label} is staged"))
        elif path is not None and self._is_there(
            engine, spec, path, dataset, version, user, interrupt, progress
        ):
            return FolderMount(path, naming.data_files(version.dataset))
        volume = naming.data_volume(self._store.instance, version.fingerprint)
        with (
            held(self._locks[host, volume], interrupt),
            held(self._shared(host, volume), interrupt),
        ):
            labels = {naming.ROLE_LABEL: "data", "mlci.dataset": version.dataset}
            made = engine.ensure_volume(volume, labels)
            if made or not self._store.attempts.is_staged(host, volume):
                # Were its filling cut off after somebody removed the volume, the old word would count for it.
                self._store.attempts.forget_staged(host, volume)
                self._fill(engine, spec, volume, dataset, version, made, interrupt, progress)
        return VolumeMount(volume, f"{naming.DATA}/{version.dataset}")

    def _fill(
        self,
        engine: Engine,
        host: HostSpec,
        volume: str,
        dataset: DatasetSpec,
        version: DatasetVersion,
        made: bool,
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> None:
        with self._budget.room(engine, host, version, progress):
            image = self._supply.have(engine, host.helper_image, progress, interrupt)
            try:
                entries = self._files_of(dataset, version, interrupt, progress)
                filling = _Filling(
                    engine, host, image, volume, dataset, version, entries, interrupt, progress
                )
                self._carry_on(filling, fresh=made)
            except DatasetMoved as error:
                raise DatasetMoved(
                    f"{version.label} is no longer what it was when this run was enqueued: {error.message}",
                    "the data changed meanwhile; their new version makes a run of its own",
                ) from error
            self._store.attempts.mark_staged(
                host.name, volume, self._clock.now(), version.fingerprint, version.size
            )

    def _files_of(
        self, dataset: DatasetSpec, version: DatasetVersion, interrupt: Interrupt, progress: ProgressSink
    ) -> Sequence[FileEntry]:
        """The version's files with their hashes, here to be read; data that lie elsewhere are fetched."""

        def told(event: ProgressEvent) -> None:
            interrupt()
            progress(event)

        entries = self._store.detection.manifest(dataset, version.fingerprint)
        return self._datasets.materialise(dataset, entries, told)

    def _carry_on(self, filling: _Filling, *, fresh: bool) -> None:
        """Send and verify, over broken links, until the volume is what it should be."""
        vain = rounds = 0
        while True:
            before = filling.puts
            try:
                self._send(filling, {} if fresh else self._survey(filling))
                filling.wrong = self._verify(filling)
            except EngineUnavailable as error:
                vain = vain + 1 if filling.puts == before else 0
                if vain >= _VAIN:
                    raise
                log.warning("staging %s on %s: %s", filling.version.label, filling.host.name, error)
                self._until_back(filling, error)
            else:
                if not filling.wrong:
                    return
                rounds += 1
                self._give_up_or_repeat(filling, rounds)
            fresh = False

    def _give_up_or_repeat(self, filling: _Filling, rounds: int) -> None:
        known = {entry.path: entry for entry in filling.entries}
        told = ", ".join(escaped(path) for path in sorted(filling.wrong)[:3])
        # What changed here while it was read is no fault of the way.
        self._datasets.verify(filling.dataset, [known[path] for path in filling.wrong if path in known])
        if rounds <= _ROUNDS and filling.wrong <= known.keys():
            log.warning("%s on %s arrived damaged, and is sent again", told, filling.host.name)
            return
        filling.engine.remove_volume(filling.volume)
        raise EngineError(
            f"what arrived of {filling.version.label} on {filling.host.name} is not what was sent: {told}",
            "see that the host's disk and memory are sound; the next run sends it anew",
        )

    def _until_back(self, filling: _Filling, error: EngineUnavailable) -> None:
        name, since = filling.host.name, self._clock.monotonic()
        filling.progress(ProgressEvent(f"waiting for {name} to go on with {filling.version.label}"))
        while self._clock.monotonic() - since <= filling.host.lost_after:
            filling.interrupt()
            self._clock.sleep(_LOOK)
            try:
                filling.engine.info()
            except EngineUnavailable:
                continue
            return
        raise error

    def _send(self, filling: _Filling, there: Mapping[str, int]) -> None:
        """Send what is not there, in parts."""
        engine, name = filling.engine, self._name("stager", filling.version)
        with cleaned_up(partial(engine.remove, name)):
            engine.remove(name)
            # Never started: a container that was created is enough to write into its volume.
            engine.create(self._helper(filling, "stager", ("true",)))
            missing = [e for e in filling.entries if self._lacks(filling, e, there)]
            batches = list(small_batches(missing, self._part))
            parts = [
                part
                for part in parts_of(missing, self._part)
                if there.get(part.path) != part.size or part.entry.path in filling.wrong
            ]
            coming = sum(entry.size for batch in batches for entry in batch)
            coming += sum(part.size for part in parts)
            filling.done = filling.version.size - coming
            told = f"sending {format_size(coming)} of {filling.version.label} to {filling.host.name}"
            filling.progress(ProgressEvent(told))
            filling.tell()
            with part_tar(("files",)) as folders:
                engine.put(name, MOUNT, folders)
            for batch in batches:
                filling.interrupt()
                size = sum(entry.size for entry in batch)
                with self._datasets.archive(filling.dataset, batch, _unheard) as tar:
                    engine.put(name, f"{MOUNT}/files", counted(tar, partial(filling.tell, size)))
                filling.arrived(size)
            for part in parts:
                filling.interrupt()
                with (
                    self._datasets.part(filling.dataset, part.entry, part.offset, part.size) as content,
                    part_tar(part.folders, part.path, part.size, content) as tar,
                ):
                    engine.put(name, MOUNT, counted(tar, partial(filling.tell, part.size)))
                filling.arrived(part.size)

    def _lacks(self, filling: _Filling, entry: FileEntry, there: Mapping[str, int]) -> bool:
        if entry.path in filling.wrong or there.get(f"files/{entry.path}") != entry.size:
            # One that is being put together there has arrived in whole.
            return entry.path in filling.wrong or f"parts/{naming.part_key(entry)}.whole" not in there
        return False

    def _survey(self, filling: _Filling) -> Mapping[str, int]:
        """The size of everything that is in the volume."""
        return sizes(self._said(filling, SURVEY))

    def _verify(self, filling: _Filling) -> set[str]:
        """Put large files together and hash all; the files that are not as they should be, or too many."""
        filling.progress(ProgressEvent(f"verifying {filling.version.label} on {filling.host.name}"))
        large = [entry for entry in filling.entries if entry.size > self._part]
        arguments = [text for entry in large for text in (naming.part_key(entry), entry.path)]
        found = hashes(self._said(filling, FINISH, *arguments))
        wanted = {entry.path: entry.sha256 for entry in filling.entries}
        return {path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path)}

    def _said(self, filling: _Filling, script: tuple[str, str], *arguments: str) -> bytes:
        what, text = script
        spec = self._helper(filling, what, ("/bin/sh", "-c", text, what, *arguments))
        limit = _time_for(filling.version)
        most = self._words_for(filling.entries)
        return decoded(said_by(filling.engine, spec, self._clock, filling.interrupt, limit, most), what)

    def _words_for(self, entries: Sequence[FileEntry]) -> int:
        """Bytes that suffice to name all files and parts in base64, with hashes or sizes, and some more."""
        names = sum(len(entry.path.encode("utf-8", "surrogateescape")) for entry in entries)
        parts = sum(entry.size // self._part + 1 for entry in entries)
        return _SLACK + 2 * (names + 256 * (len(entries) + parts))

    def _helper(self, filling: _Filling, role: str, command: tuple[str, ...]) -> ContainerSpec:
        return ContainerSpec(
            name=self._name(role, filling.version),
            image=filling.image,
            command=command,
            labels={naming.ROLE_LABEL: "stager"},
            env={},
            user="0:0",
            workdir="/",
            resources=_HELPER,
            mounts=(VolumeMount(filling.volume, MOUNT, read_only=False),),
        )

    def _name(self, role: str, version: DatasetVersion) -> str:
        return naming.helper_name(self._store.instance, role, version.fingerprint, self._owner)

    def _is_there(
        self,
        engine: Engine,
        host: HostSpec,
        path: str,
        dataset: DatasetSpec,
        version: DatasetVersion,
        user: tuple[int, int],
        interrupt: Interrupt,
        progress: ProgressSink,
    ) -> bool:
        """Whether a folder of the host's own is that version, and nothing else, for this user to read."""
        key = (host.name, path, version.fingerprint)
        image = self._supply.have(engine, host.helper_image, progress, interrupt)
        progress(ProgressEvent(f"comparing {path} on {host.name} with {version.label}"))
        what, script = HASH_FOLDER
        spec = ContainerSpec(
            name=self._name(what, version),
            image=image,
            command=("/bin/sh", "-c", script, what, self._folders.get(key, "")),
            labels={naming.ROLE_LABEL: "stager"},
            env={},
            user=f"{user[0]}:{user[1]}",
            workdir="/",
            resources=_HELPER,
            folders=(FolderMount(path, f"{MOUNT}/files"),),
        )
        most = self._words_for(self._store.detection.manifest(dataset, version.fingerprint))
        try:
            with held(self._locks[host.name, path], interrupt):
                said = said_by(engine, spec, self._clock, interrupt, _time_for(version), most)
        except EngineUnavailable:
            raise
        except EngineError as error:
            log.warning("%s is staged on %s in place of its folder: %s", version.label, host.name, error)
            return False
        first, _, rest = said.partition(b"\n")
        signature = first.decode(errors="replace")
        if rest == b"same":
            return True
        self._folders.pop(key, None)
        self._store.attempts.forget_staged(host.name, path)
        body, _, last = rest.rpartition(b"\n")
        found = hashes(decoded(body, what))
        entries = self._files_of(dataset, version, interrupt, progress)
        wanted = {entry.path: entry.sha256 for entry in entries}
        differing = sorted(p for p in found.keys() | wanted.keys() if found.get(p) != wanted.get(p))
        if last != first or differing:
            told = ", ".join(escaped(p) for p in differing[:3])
            why = f"is not just {version.label}: {told}" if differing else "changed while it was read"
            log.warning("%s is staged on %s: its folder %s %s", version.label, host.name, path, why)
            progress(ProgressEvent(f"{path} on {host.name} {why}: it is staged"))
            return False
        self._folders[key] = signature
        # So that runs of this version prefer the host.
        self._store.attempts.mark_staged(host.name, path, self._clock.now(), version.fingerprint)
        return True


def _time_for(version: DatasetVersion) -> float:
    """Seconds in which any host has read that much, so that one which hangs holds up a run no longer."""
    return _READ_AT_LEAST + version.size / _READ_SPEED


def _unheard(event: ProgressEvent) -> None:
    """Packing is told as staging."""
