"""Data on a server with a real sshd, reached by SFTP."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from orchestrator.adapters.datasets.access import Access
from orchestrator.adapters.datasets.place import Place
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.sftp import SftpPlace
from orchestrator.domain.errors import DatasetMoved, DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.remotedata import contents, fetched, quiet
from tests.support.sshd import SshServer, make_key, ssh_server

SourceMaker = Callable[[Place], RemoteDataset]


@pytest.fixture(scope="module")
def machine(
    docker_engine: docker.DockerClient, sshd_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    with ssh_server(docker_engine, sshd_image, tmp_path_factory.mktemp("sshd")) as server:
        yield server


@dataclass(frozen=True)
class Folder:
    """A folder of one test's own on the server."""

    machine: SshServer
    path: str

    def do(self, script: str) -> None:
        """Run shell lines in the folder, as the one who owns it."""
        self.machine.run("sh", "-c", f"cd {self.path} && su -s /bin/sh deploy -c '{script}'")

    def dataset(self, below: str = "") -> DatasetSpec:
        at = f"{self.machine.user}@{self.machine.host}:{self.machine.port}"
        return DatasetSpec("wine", f"sftp://{at}{self.path}{below}", kind=DatasetKind.SFTP)

    @property
    def access(self) -> Access:
        files = {"identity_file": self.machine.key_path, "known_hosts": self.machine.known_hosts_path}
        return Access(settings={name: str(path) for name, path in files.items()})


@pytest.fixture
def folder(machine: SshServer) -> Folder:
    path = f"/srv/models/data-{uuid.uuid4().hex[:8]}"
    machine.run("install", "-d", "-o", "deploy", "-g", "deploy", path)
    return Folder(machine, path)


@pytest.fixture
def source(source_of: SourceMaker, folder: Folder) -> RemoteDataset:
    return source_of(SftpPlace(lambda spec: folder.access))


def test_files_below_a_folder_are_seen_and_fetched(folder: Folder, source: RemoteDataset) -> None:
    folder.do('mkdir deep; printf a >a.csv; printf "b b" >"deep/b b.csv"; ln -s ../a.csv deep/link.csv')
    wanted = {"a.csv": b"a", "deep/b b.csv": b"b b", "deep/link.csv": b"a"}
    assert fetched(source, folder.dataset()) == wanted
    assert fetched(source, folder.dataset("/a.csv")) == {"a.csv": b"a"}


def test_a_change_an_addition_and_a_removal_are_seen_and_nothing_else_is(
    folder: Folder, source: RemoteDataset
) -> None:
    seen = set()
    folder.do("printf 1 >a; touch -d @1000000000 a")
    listing = source.look(folder.dataset())
    assert listing.newest == datetime.fromtimestamp(1_000_000_000, UTC)
    seen |= {listing.signature, source.look(folder.dataset()).signature}
    assert len(seen) == 1
    folder.do("printf 2 >a; touch -d @1000000001 a")
    seen.add(source.look(folder.dataset()).signature)
    folder.do("printf 2 >b")
    seen.add(source.look(folder.dataset()).signature)
    folder.do("rm a")
    seen.add(source.look(folder.dataset()).signature)
    assert len(seen) == 4
    folder.do("rm b")
    with pytest.raises(DatasetUnavailable, match=r"no file in .* counts"):
        source.look(folder.dataset())


def test_half_written_data_are_none_until_their_marker_is_there(
    folder: Folder, source: RemoteDataset
) -> None:
    dataset = replace(folder.dataset(), marker="_SUCCESS")
    folder.do("printf 1 >a; touch -d @1000000000 a")
    assert not source.look(dataset).whole
    folder.do("touch -d @1000000000 _SUCCESS")
    assert source.look(dataset).whole
    folder.do("printf 2 >a; touch -d @1000000005 a")
    assert not source.look(dataset).whole


def test_a_file_that_changed_since_it_was_pinned_is_said(folder: Folder, source: RemoteDataset) -> None:
    folder.do("printf old >a; touch -d @1000000000 a; printf same >b; touch -d @1000000000 b")
    pinned = source.snapshot(folder.dataset(), (), quiet).entries
    folder.do("printf new >a; touch -d @1000000007 a")
    assert contents(source, folder.dataset(), pinned[1:]) == {"b": b"same"}
    with pytest.raises(DatasetMoved, match="a is not what it was: it has changed there"):
        source.materialise(folder.dataset(), pinned, quiet)
    folder.do("rm a")
    with pytest.raises(DatasetMoved, match="it is gone"):
        source.materialise(folder.dataset(), pinned, quiet)


def test_a_file_that_grows_while_it_is_read_is_said(folder: Folder, source_of: SourceMaker) -> None:
    folder.do("head -c 3000000 /dev/zero >a; touch -d @1000000000 a")
    place = SftpPlace(lambda spec: folder.access)
    (entry,) = source_of(place).snapshot(folder.dataset(), (), quiet).entries

    def read_on() -> None:
        with place.open(folder.dataset(), entry, 0) as chunks:
            next(chunks)
            folder.do("printf more >>a")
            for _ in chunks:
                pass

    with pytest.raises(DatasetMoved, match="it has changed there"):
        read_on()


def test_a_file_is_read_from_where_a_fetch_broke_off(folder: Folder, source_of: SourceMaker) -> None:
    folder.do("seq 1 400000 >a; touch -d @1000000000 a")
    place = SftpPlace(lambda spec: folder.access)
    (entry,) = source_of(place).snapshot(folder.dataset(), (), quiet).entries
    with place.open(folder.dataset(), entry, 0) as chunks:
        whole = b"".join(chunks)
    with place.open(folder.dataset(), entry, 1_234_567) as chunks:
        assert b"".join(chunks) == whole[1_234_567:]
    assert len(whole) == entry.size


def test_many_small_files_are_fetched_over_few_logins(folder: Folder, source: RemoteDataset) -> None:
    def logins() -> int:
        return folder.machine.container.logs().count(b"Accepted publickey")

    folder.do("for i in $(seq 40); do printf $i >f$i; done")
    before = logins()
    assert len(fetched(source, folder.dataset())) == 40
    # One for the listing, which is used again, and no more than there are threads.
    assert 1 <= logins() - before <= 4


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("ln -s /etc/passwd out", "out cannot be used: it is a link that leaves the folder, to /etc/passwd"),
        ("ln -s loop loop", "loop cannot be used: it is a link that leads nowhere"),
        ("mkdir d; ln -s ../d d/again", "again cannot be used: it is a link to something that is no file"),
        ("mkfifo pipe", "pipe cannot be used: it is no regular file"),
        ('touch "$(printf "\\377")"', "a name in it is not UTF-8"),
    ],
)
def test_what_a_run_could_not_be_given_is_named(
    folder: Folder, source: RemoteDataset, script: str, says: str
) -> None:
    folder.do(f"printf 1 >fine; {script}")
    with pytest.raises(DatasetUnavailable) as told:
        source.look(folder.dataset())
    assert says in str(told.value)


def test_a_server_that_shows_another_key_gets_nothing(
    folder: Folder, source_of: SourceMaker, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text().split()
    known = tmp_path / "known_hosts"
    known.write_text(f"[{folder.machine.host}]:{folder.machine.port} {other[0]} {other[1]}\n")
    access = replace(folder.access, settings={**folder.access.settings, "known_hosts": str(known)})
    with pytest.raises(DatasetRefused, match=r"dataset wine .* shows the host key .* nothing was sent"):
        source_of(SftpPlace(lambda spec: access)).look(folder.dataset())


def test_a_server_that_nobody_knows_gets_nothing(
    folder: Folder, source_of: SourceMaker, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    access = replace(folder.access, settings={**folder.access.settings, "known_hosts": str(known)})
    with pytest.raises(DatasetRefused, match="has none for"):
        source_of(SftpPlace(lambda spec: access)).look(folder.dataset())
    assert known.read_text() == ""


def test_the_configured_host_key_is_enough(folder: Folder, source_of: SourceMaker) -> None:
    folder.do("printf 1 >a")
    _, kind, key = folder.machine.host_key_line.split()
    settings = {"identity_file": str(folder.machine.key_path), "host_key": f"{kind} {key}"}
    source = source_of(SftpPlace(lambda spec: Access(settings=settings)))
    assert fetched(source, folder.dataset()) == {"a": b"1"}


def test_a_login_that_is_not_accepted_is_said(folder: Folder, source_of: SourceMaker, tmp_path: Path) -> None:
    settings = {**folder.access.settings, "identity_file": str(make_key(tmp_path / "stranger"))}
    with pytest.raises(DatasetRefused, match="does not accept the key"):
        source_of(SftpPlace(lambda spec: Access(settings=settings))).look(folder.dataset())
    known = {"known_hosts": folder.access.settings["known_hosts"]}
    guessed = Access({"password": "hunter2"}, known)
    with pytest.raises(DatasetRefused, match="does not accept that password") as told:
        source_of(SftpPlace(lambda spec: guessed)).look(folder.dataset())
    assert "hunter2" not in str(told.value)


def test_a_folder_that_is_not_there_or_may_not_be_read_is_said(folder: Folder, source: RemoteDataset) -> None:
    with pytest.raises(DatasetUnavailable, match="/missing is not there"):
        source.look(folder.dataset("/missing"))
    folder.do("mkdir closed; chmod 0 closed")
    with pytest.raises(DatasetRefused, match="permission denied"):
        source.look(folder.dataset())


def test_folders_in_one_another_are_seen_and_given_up_where_they_do_not_end(
    folder: Folder, source: RemoteDataset
) -> None:
    for depth in (150, 250):
        folder.do(f"mkdir -p {'d/' * depth}; echo 1 >{'d/' * depth}wine.csv")
        if depth == 150:
            assert source.look(folder.dataset()).files == 1
    with pytest.raises(DatasetUnavailable, match="given up: more than 200 folders are in one another"):
        source.look(folder.dataset())
