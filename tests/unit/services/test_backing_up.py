"""Backup and restore of an installation, on real SQLite files and folders."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.adapters.files.backup import FolderBackups
from orchestrator.adapters.files.blobs import FolderBlobs
from orchestrator.adapters.files.maintenance import Maintenance
from orchestrator.domain.errors import BackupInvalid, DiskFull, InvalidInput, OrchestratorError, StoreError
from orchestrator.domain.run import AttemptState, Reason
from orchestrator.ports.progress import ProgressEvent
from orchestrator.ports.records import AttemptResult, StoredArtifact
from orchestrator.services.backup import Backups
from orchestrator.store import SqlStore, migrations, open_store
from orchestrator.store.snapshot import SqlSnapshots
from tests.unit.store.support import AT, SECONDS, claimed, enqueue, later, succeed

THIS = "here/boot.1/7/100"


@dataclass
class Alive:
    """The processes that live."""

    living: set[str] = field(default_factory=set)

    def this(self) -> str:
        return THIS

    def is_dead(self, owner: str) -> bool:
        return owner not in self.living


@dataclass
class StoppedClock:
    moment: datetime

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError


def nothing(event: ProgressEvent) -> None:
    pass


@dataclass
class Place:
    """An installation's database and folder."""

    state: Path
    clock: StoppedClock = field(default_factory=lambda: StoppedClock(later(3600)))
    processes: Alive = field(default_factory=Alive)

    def __post_init__(self) -> None:
        (self.state / "scratch").mkdir(parents=True)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.state}/orchestrator.db"

    @property
    def backups(self) -> Backups:
        files = FolderBackups(self.state, self.state / "scratch")
        lock = Maintenance(self.state)
        return Backups(SqlSnapshots(self.url), files, lock, self.clock, self.processes, "1.2.3")

    def store(self) -> SqlStore:
        return open_store(self.url, create=False)

    def keep(self, content: bytes) -> StoredArtifact:
        blob = FolderBlobs(self.state / "blobs").put(io.BytesIO(content), 1 << 20)
        return StoredArtifact("model.txt", blob.size, blob.sha256)

    def log(self, attempt_id: int, content: str) -> None:
        folder = self.state / "logs"
        folder.mkdir(exist_ok=True)
        (folder / f"{attempt_id}.log").write_text(content)

    def files(self) -> dict[str, bytes]:
        """Logs and artifacts."""
        return {
            str(path.relative_to(self.state)): path.read_bytes()
            for folder in ("logs", "blobs")
            for path in (self.state / folder).rglob("*")
            if path.is_file()
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An installation with one run that has ended and one that is at work."""
    made = Place(tmp_path / "var")
    with closing(open_store(made.url)) as store:
        done = claimed(store)
        result = AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, artifacts=(made.keep(b"model"),))
        succeed(store, done, result)
        made.log(done.id, "t one\n")
        at_work = claimed(store, owner="here/boot.1/6/99")
        store.attempts.advance(at_work, AttemptState.PREPARING, AttemptState.RUNNING, AT)
        made.log(at_work.id, "t two\nt thr")
        store.servers.register("here/boot.1/6/99", "http://127.0.0.1:8080", AT)
        store.attempts.mark_staged("local", "rows", AT)
    return made


@pytest.fixture
def backup(place: Place, tmp_path: Path) -> Path:
    return place.backups.make(tmp_path / "backup.tar", nothing).file


@pytest.fixture
def other(tmp_path: Path) -> Place:
    """Where nothing is yet."""
    return Place(tmp_path / "elsewhere" / "var")


def test_a_backup_holds_everything_for_our_user_alone(place: Place, tmp_path: Path) -> None:
    told: list[ProgressEvent] = []
    made = place.backups.make(tmp_path, told.append)
    assert made.file.name == "orchestrator-20261123-064459.tar"
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    assert (made.absent, made.damaged) == ((), ())
    assert made.size == made.file.stat().st_size
    with tarfile.open(made.file) as tar:
        names = tar.getnames()
    assert names[:2] == ["about.json", "database.sqlite"]
    assert names[2:] == ["logs/1.log", "logs/2.log", f"blobs/{sha256(b'model').hexdigest()}", "hashes.json"]
    assert [(event.done, event.total) for event in told if event.unit == "bytes"][-1] == (
        made.facts.size,
        made.facts.size,
    )
    assert list((place.state / "scratch").iterdir()) == []


def test_a_backup_overwrites_nothing(place: Place, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(InvalidInput, match="exists already"):
        place.backups.make(tmp_path / "precious", nothing)
    with pytest.raises(StoreError, match="cannot write in"):
        place.backups.make(tmp_path / "precious" / "x.tar", nothing)
    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "var"]


def test_a_backup_into_a_folder_that_is_not_there_says_so(place: Place, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no folder .*/nope"):
        place.backups.make(tmp_path / "nope" / "x.tar", nothing)


def test_a_backup_of_nothing_is_refused_and_makes_no_database(other: Place, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database to back up"):
        other.backups.make(tmp_path / "x.tar", nothing)
    assert not (tmp_path / "x.tar").exists()
    assert not (other.state / "orchestrator.db").exists()


def test_what_is_restored_is_what_was_there(place: Place, backup: Path, other: Place) -> None:
    done = other.backups.restore(backup, nothing)
    assert (done.attempts, done.absent, done.aside) == (2, (), "")
    assert other.files() == place.files()
    assert stat.S_IMODE((other.state / "orchestrator.db").stat().st_mode) == 0o600
    with closing(place.store()) as before, closing(other.store()) as after:
        assert after.instance == before.instance
        assert after.runs.listing() == before.runs.listing()
        assert after.attempts.of_run(1) == before.attempts.of_run(1)
        assert after.attempts.artifacts(1) == before.attempts.artifacts(1)
        assert after.journal.of_run(2) == before.journal.of_run(2)
        assert after.journal.latest(1)[0].reason == "restored from a backup"
    assert list((other.state / "scratch").iterdir()) == []


def test_what_was_at_work_is_taken_over_once_and_no_server_or_volume_is_believed(
    backup: Path, other: Place
) -> None:
    other.backups.restore(backup, nothing)
    now = other.clock.now()
    with closing(other.store()) as store:
        assert store.servers.all() == []
        assert not store.attempts.is_staged("local", "rows")
        assert store.attempts.slots_in_use().values()
        (lease,) = store.attempts.take_over("new", (), now, SECONDS)
        assert lease.id == 2
        attempt = store.attempts.get(2)
        assert (attempt.state, attempt.container) == (AttemptState.RUNNING, "mlci-2")
        assert store.attempts.take_over("other", (), now, SECONDS) == []


def test_ids_of_the_lost_database_are_known_and_never_given_out_again(backup: Path, other: Place) -> None:
    other.backups.restore(backup, nothing)
    with closing(other.store()) as store:
        run = enqueue(store)
        (attempt,) = store.attempts.of_run(run.id)
        assert run.id == run.change.id == attempt.id > 100_000
        assert run.number == 3
        known = {n: store.was_lost(n) for n in (1, 2, 3, 4711, run.id - 1, run.id)}
    assert [n for n, lost in known.items() if lost] == [3, 4711, run.id - 1]


def test_a_second_restore_remembers_the_ids_of_both_lost_databases(
    backup: Path, other: Place, tmp_path: Path
) -> None:
    other.backups.restore(backup, nothing)
    with closing(other.store()) as store:
        first = enqueue(store).id
    again = other.backups.make(tmp_path / "again.tar", nothing).file
    third = Place(tmp_path / "third")
    third.backups.restore(again, nothing)
    with closing(third.store()) as store:
        second = enqueue(store).id
        asked = (2, 3, first - 1, first, first + 1, second - 1, second)
        assert [n for n in asked if store.was_lost(n)] == [3, first - 1, first + 1, second - 1]


def test_a_backup_that_is_restored_again_gives_out_no_id_of_the_time_between(
    backup: Path, other: Place
) -> None:
    other.backups.restore(backup, nothing)
    with closing(other.store()) as store:
        between = enqueue(store).id
    other.clock.moment += timedelta(seconds=60)
    other.backups.restore(backup, nothing, force=True)
    with closing(other.store()) as store:
        assert store.was_lost(between)
        assert enqueue(store).id > between


def test_a_backup_without_artifacts_says_so_of_each(place: Place, other: Place, tmp_path: Path) -> None:
    made = place.backups.make(tmp_path / "small.tar", nothing, artifacts=False)
    assert not made.facts.artifacts
    other.backups.restore(made.file, nothing)
    assert [name for name in other.files() if name.startswith("blobs")] == []
    snapshot = SqlSnapshots(other.url).look(other.state / "orchestrator.db")
    assert snapshot.contents == ()


def test_artifacts_that_are_gone_or_changed_are_named_and_keep_no_backup_from_being_made(
    place: Place, other: Place, tmp_path: Path
) -> None:
    with closing(place.store()) as store:
        lease = claimed(store)
        kept = (place.keep(b"gone"), place.keep(b"whole"))
        paths = [StoredArtifact(f"{n}.txt", a.size, a.sha256) for n, a in enumerate(kept)]
        succeed(store, lease, AttemptResult(AttemptState.SUCCEEDED, Reason.COMPLETED, artifacts=tuple(paths)))
    gone, model = sha256(b"gone").hexdigest(), sha256(b"model").hexdigest()
    (place.state / "blobs" / gone[:2] / gone).unlink()
    (place.state / "blobs" / model[:2] / model).write_bytes(b"rotten")
    made = place.backups.make(tmp_path / "x.tar", nothing)
    assert (made.absent, made.damaged) == ((gone,), (model,))
    done = other.backups.restore(made.file, nothing)
    assert set(done.absent) == {gone, model}
    whole = sha256(b"whole").hexdigest()
    assert [name for name in other.files() if name.startswith("blobs")] == [f"blobs/{whole[:2]}/{whole}"]
    assert SqlSnapshots(other.url).look(other.state / "orchestrator.db").contents == (whole,)


def test_backups_taken_while_others_write_are_each_of_one_moment(place: Place, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        with closing(place.store()) as store:
            while not stop.is_set():
                enqueue(store)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        files = [place.backups.make(tmp_path / f"{number}.tar", nothing).file for number in range(3)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    counts = []
    for number, file in enumerate(files):
        copy = Place(tmp_path / f"copy-{number}")
        copy.backups.restore(file, nothing)
        with closing(copy.store()) as store:
            runs = store.runs.listing(limit=100_000)
            assert [run.number for run in runs] == list(range(len(runs), 0, -1))
            assert len(store.attempts.queued(AT)) == len(runs) - 2
            counts.append(len(runs))
    assert counts == sorted(counts)


def test_a_log_that_grows_while_it_is_backed_up_is_restored_as_it_was(
    place: Place, other: Place, tmp_path: Path
) -> None:
    before = place.files()

    def write(event: ProgressEvent) -> None:
        if event.unit == "bytes":
            with (place.state / "logs" / "2.log").open("a") as log:
                log.write("ee\nt four\n")

    made = place.backups.make(tmp_path / "backup.tar", write)
    assert place.files() != before
    other.backups.restore(made.file, nothing)
    assert other.files() == before


def test_what_a_killed_backup_or_restore_left_goes_with_the_next_one_and_nothing_of_the_living(
    place: Place,
) -> None:
    left = place.state / "scratch" / "backup-x1y2z3" / "blobs"
    left.mkdir(parents=True)
    (left / "large").touch()
    files = place.backups.files
    with files.workplace() as one:
        assert not left.parent.exists()
        with files.workplace() as other:
            assert (one.is_dir(), other.is_dir()) == (True, True)
    assert list((place.state / "scratch").iterdir()) == []


def test_nothing_is_removed_while_a_backup_is_made_and_no_restore_begins(place: Place, backup: Path) -> None:
    at_work = pytest.raises(StoreError, match="at work on this installation")
    with Maintenance(place.state).copying(), at_work:
        place.backups.restore(backup, nothing, force=True)


def test_an_installation_is_replaced_only_when_asked_and_put_aside(
    backup: Path, other: Place, tmp_path: Path
) -> None:
    with closing(open_store(other.url)) as store:
        mine = enqueue(store)
    other.log(1, "t mine\n")
    with pytest.raises(StoreError, match="there is an installation already"):
        other.backups.restore(backup, nothing)
    with closing(other.store()) as store:
        assert store.runs.listing() == [mine]
    done = other.backups.restore(backup, nothing, force=True)
    assert done.aside == "replaced-20261123-064459"
    assert (other.state / done.aside / "logs" / "1.log").read_text() == "t mine\n"
    assert (other.state / "logs" / "1.log").read_text() == "t one\n"
    with closing(open_store(f"sqlite:///{other.state}/orchestrator.db.{done.aside}", create=False)) as store:
        assert store.runs.listing() == [mine]


def test_a_database_without_rows_is_no_installation(backup: Path, other: Place) -> None:
    open_store(other.url).close()
    other.backups.restore(backup, nothing)
    with closing(other.store()) as store:
        assert len(store.runs.listing()) == 2


def test_nothing_is_restored_beside_a_living_server(backup: Path, other: Place) -> None:
    owner = "here/boot.1/8/101"
    with closing(open_store(other.url)) as store:
        store.servers.register(owner, "http://127.0.0.1:8080", other.clock.now() - timedelta(seconds=5))
    other.processes.living.add(owner)
    with pytest.raises(StoreError, match="works on this installation") as refused:
        other.backups.restore(backup, nothing, force=True)
    assert refused.value.message.endswith("was last seen 5 s ago")
    assert refused.value.remedy.endswith("counts as gone in 25 s")
    other.processes.living.clear()
    other.backups.restore(backup, nothing)


def test_nothing_is_restored_beside_a_server_that_started_while_the_backup_was_unpacked(
    backup: Path, other: Place
) -> None:
    owner = "here/boot.1/8/101"
    other.processes.living.add(owner)

    def start(event: ProgressEvent) -> None:
        if event.what == "bringing the database up to date":
            with closing(open_store(other.url)) as store:
                store.servers.register(owner, "http://127.0.0.1:8080", other.clock.now())

    with pytest.raises(StoreError, match="works on this installation"):
        other.backups.restore(backup, start)
    assert other.files() == {}
    with closing(other.store()) as store:
        assert [server.owner for server in store.servers.all()] == [owner]


def test_nothing_is_restored_beside_the_server_that_it_is_a_copy_of(backup: Path, other: Place) -> None:
    other.processes.living.add("here/boot.1/6/99")
    with pytest.raises(OrchestratorError, match="still runs on this machine"):
        other.backups.restore(backup, nothing)
    assert not (other.state / "orchestrator.db").exists()
    assert other.files() == {}


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size * 2 // 3)


def without_its_end(file: Path) -> None:
    with tarfile.open(file) as tar:
        end = tar.getmember("hashes.json").offset
    os.truncate(file, end)


def one_bit(file: Path) -> None:
    with tarfile.open(file) as tar:
        at = tar.getmember("logs/1.log").offset_data
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(b"T")


def no_tar(file: Path) -> None:
    file.write_bytes(b"something else\n" * 1000)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def another_tar(file: Path) -> None:
    with tarfile.open(file, "w") as tar:
        tar.addfile(tarfile.TarInfo("readme"))


def repacked(file: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]) -> None:
    new = file.with_suffix(".new")
    with tarfile.open(file) as old, tarfile.open(new, "w") as tar:
        for member in old:
            source = old.extractfile(member)
            assert source is not None
            member, content = change(member, source.read())
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    new.rename(file)


def path_outside(file: Path) -> None:
    def change(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == "logs/1.log":
            member.name = "logs/../../../1.log"
        return member, content

    repacked(file, change)


def link(file: Path) -> None:
    def change(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == "logs/1.log":
            member.type, member.linkname, content = tarfile.SYMTYPE, "/etc/passwd", b""
        return member, content

    repacked(file, change)


def later_format(file: Path) -> None:
    def change(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == "about.json":
            content = json.dumps({**json.loads(content), "format": 2}).encode()
        return member, content

    repacked(file, change)


def sizeless(file: Path) -> None:
    def change(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == "about.json":
            content = json.dumps({**json.loads(content), "size": None}).encode()
        return member, content

    repacked(file, change)


def sparse(file: Path) -> None:
    def change(member: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == "logs/1.log":
            member.pax_headers = {"GNU.sparse.map": "0,many"}
        return member, content

    repacked(file, change)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, "cut off"),
        (without_its_end, "cut off"),
        (one_bit, "not what was stored: 'logs/1.log'"),
        (no_tar, "no backup of this program"),
        (empty, "no backup of this program"),
        (another_tar, "no backup of this program"),
        (path_outside, "it holds 'logs/../../../1.log'"),
        (link, "it holds 'logs/1.log'"),
        (sizeless, "its beginning cannot be read"),
        (sparse, "it holds what is none of ours"),
        (later_format, "made by version 1.2.3, which writes backups in another way"),
    ],
)
def test_a_damaged_backup_is_refused_and_changes_nothing(
    backup: Path, place: Place, damage: Callable[[Path], None], told: str
) -> None:
    before = place.files()
    damage(backup)
    with pytest.raises(BackupInvalid) as refusal:
        place.backups.restore(backup, nothing, force=True)
    assert told in refusal.value.message
    assert refusal.value.remedy
    assert place.files() == before
    with closing(place.store()) as store:
        assert len(store.runs.listing()) == 2
    assert list((place.state / "scratch").iterdir()) == []


def test_a_database_of_a_newer_version_is_refused(place: Place, other: Place, tmp_path: Path) -> None:
    snapshots = SqlSnapshots(place.url)
    snapshots.take(tmp_path / "newer.sqlite", nothing)
    with migrations.connected(f"sqlite:///{tmp_path}/newer.sqlite") as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    with pytest.raises(BackupInvalid, match="revision newer, which this version does not know"):
        snapshots.look(tmp_path / "newer.sqlite")


def test_a_disk_without_room_is_said_before_anything_is_unpacked(
    backup: Path, other: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(other.state)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(DiskFull, match=r"1\.0 MiB are free"):
        other.backups.restore(backup, nothing)
    assert other.files() == {}


def test_a_file_that_is_not_there_is_named(other: Place) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file /no/backup\.tar"):
        other.backups.restore(Path("/no/backup.tar"), nothing)


def test_a_restore_that_fails_at_the_database_puts_the_files_back(
    backup: Path, other: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.log(1, "t mine\n")

    def fail(self: SqlSnapshots, file: Path, aside: str) -> None:
        raise StoreError("the database refused")

    monkeypatch.setattr(SqlSnapshots, "load", fail)
    with pytest.raises(StoreError, match="refused"):
        other.backups.restore(backup, nothing, force=True)
    assert other.files() == {"logs/1.log": b"t mine\n"}


def test_every_moment_in_a_backup_is_aware(backup: Path, place: Place) -> None:
    facts = place.backups.files.read(backup)
    assert facts.created_at == later(3600)
    assert facts.created_at.tzinfo is UTC
