"""Data in a repository that the real dvc keeps: seen by hash, fetched from its cache or its remote."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.adapters.datasets.cache import Cache
from orchestrator.adapters.datasets.dvc import DvcPlace
from orchestrator.adapters.datasets.remote import RemoteDataset
from orchestrator.adapters.datasets.s3 import S3Place
from orchestrator.adapters.git import GitCommand
from orchestrator.domain.change import FileEntry
from orchestrator.domain.errors import DatasetMoved, DatasetRefused, DatasetUnavailable
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from orchestrator.ports.progress import ProgressEvent
from tests.support.bucket import KEYS, Bucket
from tests.support.dvc import DvcRepository

RAW = {"f0.csv": "a\n0\n", "f1.csv": "a\n1\n", "deep/f2.csv": "a\n2\n"}


def quiet(_: ProgressEvent) -> None:
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a folder and a file, and its remote with their contents, made once."""
    folder = tmp_path_factory.mktemp("dvc")
    repository = DvcRepository(folder / "work")
    for name, text in RAW.items():
        path = repository.folder / "data/raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    repository.track("data/raw")
    (repository.folder / "wine.csv").write_text("x\n1\n")
    (repository.folder / "dvc.yaml").write_text(
        "stages:\n  prepare:\n    cmd: cp wine.csv out.csv\n    deps: [wine.csv]\n    outs: [out.csv]\n"
    )
    repository.dvc("add", "--quiet", "wine.csv")
    repository.dvc("repro", "--quiet")
    repository.dvc("remote", "add", "--default", "store", "../remote")
    repository.dvc("push", "--quiet")
    repository.commit("All of it")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test."""
    shutil.copytree(made, tmp_path / "dvc", symlinks=True)
    return tmp_path / "dvc"


@pytest.fixture
def dataset(tmp_path: Path) -> RemoteDataset:
    sources = GitCommand(tmp_path / "mirrors")
    dvc = DvcPlace(sources, lambda: S3Place(lambda spec: KEYS))
    return RemoteDataset(dvc, Cache(tmp_path / "cache", 1 << 20), sleep=lambda _: None)


def spec(repository: Path, file: str, **options: str) -> DatasetSpec:
    chosen = (("file", file), *options.items())
    return DatasetSpec("wine", str(repository), kind=DatasetKind.DVC, options=chosen)


def contents(dataset: RemoteDataset, wanted: DatasetSpec) -> dict[str, str]:
    """What a run would get."""
    entries = dataset.snapshot(wanted, (), quiet).entries
    found: dict[str, str] = {}
    for entry in dataset.materialise(wanted, entries, quiet):
        with dataset.part(wanted, entry, 0, entry.size) as file:
            found[entry.path] = file.read().decode()
    return found


def test_a_folder_is_told_file_by_file_from_the_cache_of_the_repository(
    place: Path, dataset: RemoteDataset
) -> None:
    wanted = spec(place / "work", "data/raw.dvc")
    assert contents(dataset, wanted) == {f"raw/{name}": text for name, text in RAW.items()}
    assert dataset.look(wanted) == dataset.look(wanted)


def test_contents_that_lie_in_a_bucket_are_listed_and_fetched_from_there(
    place: Path, dataset: RemoteDataset, bucket: Bucket
) -> None:
    for file in (place / "remote").rglob("*"):
        if file.is_file():
            bucket.put(f"store/{file.relative_to(place / 'remote').as_posix()}", file.read_bytes())
    for folder in (place / "remote", place / "work/.dvc/cache", place / "work/data/raw"):
        shutil.rmtree(folder)
    wanted = spec(place / "work", "data/raw.dvc", remote=f"s3://{bucket.name}/store", **bucket.options)
    assert contents(dataset, wanted) == {f"raw/{name}": text for name, text in RAW.items()}
    (place / "work/wine.csv").unlink()
    elsewhere = f"s3://{bucket.name}/other"
    with pytest.raises(DatasetUnavailable, match=r"s3://.*/other/files/md5/.* is not there"):
        contents(dataset, spec(place / "work", "wine.csv.dvc", remote=elsewhere, **bucket.options))


def test_outputs_of_stages_are_chosen_by_their_paths(place: Path, dataset: RemoteDataset) -> None:
    assert contents(dataset, spec(place / "work", "dvc.lock", output="out.csv")) == {"out.csv": "x\n1\n"}
    with pytest.raises(DatasetRefused, match=r"no output other\.csv; its outputs are out\.csv"):
        dataset.look(spec(place / "work", "dvc.lock", output="other.csv"))


def test_a_change_is_seen_before_anything_is_fetched_and_once(place: Path, dataset: RemoteDataset) -> None:
    repository = place / "work"
    wanted = spec(repository, "wine.csv.dvc")
    before = dataset.snapshot(wanted, (), quiet)
    text = (repository / "wine.csv.dvc").read_text()
    (repository / "wine.csv.dvc").write_text(text.replace(_md5(before.entries), "0" * 32))
    after = dataset.snapshot(wanted, (), quiet)
    assert after.fingerprint != before.fingerprint
    with pytest.raises(DatasetUnavailable, match=r"wine\.csv is in no cache and no remote.*dvc push"):
        dataset.materialise(wanted, after.entries, quiet)
    (repository / "wine.csv.dvc").write_text(text)
    assert dataset.snapshot(wanted, (), quiet).fingerprint == before.fingerprint


def test_what_was_not_pushed_or_pulled_yet_is_no_version(place: Path, dataset: RemoteDataset) -> None:
    wanted = spec(place / "work", "data/raw.dvc", remote=str(place / "remote"))
    shutil.rmtree(place / "work/.dvc/cache")
    assert contents(dataset, wanted)["raw/f0.csv"] == "a\n0\n"
    (pushed,) = (place / "remote").rglob("*.dir")
    pushed.rename(pushed.with_suffix(".elsewhere"))
    with pytest.raises(DatasetUnavailable, match=r"data/raw|raw/ is in no cache and no remote"):
        dataset.look(wanted)


def test_a_remote_outside_of_the_repository_is_for_the_administrator_to_name(
    place: Path, dataset: RemoteDataset
) -> None:
    shutil.rmtree(place / "work/.dvc/cache")
    shutil.rmtree(place / "work/data/raw")
    with pytest.raises(
        DatasetUnavailable, match=r"\.\./remote, which the repository names, is outside of it"
    ):
        dataset.look(spec(place / "work", "data/raw.dvc"))
    named = spec(place / "work", "data/raw.dvc", remote=str(place / "remote"))
    assert contents(dataset, named) == {f"raw/{name}": text for name, text in RAW.items()}


def test_damaged_contents_never_reach_a_run(place: Path, dataset: RemoteDataset) -> None:
    wanted = spec(place / "work", "wine.csv.dvc")
    entries = dataset.snapshot(wanted, (), quiet).entries
    md5 = _md5(entries)
    for root in (place / "work/.dvc/cache", place / "remote"):
        content = root / "files/md5" / md5[:2] / md5[2:]
        content.chmod(0o644)
        content.write_text("x\n9\n")
    with pytest.raises(DatasetMoved):
        dataset.materialise(wanted, entries, quiet)


def test_a_watched_commit_tells_hashes_and_a_remote_that_is_named_gives_contents(
    place: Path, dataset: RemoteDataset
) -> None:
    address = f"file://{place}/work"
    alone = DatasetSpec("wine", address, kind=DatasetKind.DVC, options=(("file", "data/raw.dvc"),))
    (whole,) = dataset.snapshot(alone, (), quiet).entries
    assert (whole.path, whole.size) == ("raw", sum(map(len, RAW.values())))
    with pytest.raises(DatasetRefused, match="remote: with the folder of the DVC remote"):
        dataset.materialise(alone, [whole], quiet)
    options = (("file", "data/raw.dvc"), ("branch", "main"), ("remote", str(place / "remote")))
    named = DatasetSpec("wine", address, kind=DatasetKind.DVC, options=options)
    assert contents(dataset, named) == {f"raw/{name}": text for name, text in RAW.items()}


def test_a_commit_of_the_watched_branch_is_a_change_and_the_working_tree_is_none(
    place: Path, dataset: RemoteDataset
) -> None:
    repository = place / "work"
    wanted = spec(repository, "wine.csv.dvc", branch="main")
    before = dataset.look(wanted)
    told = repository / "wine.csv.dvc"
    told.write_text(told.read_text().replace("size: 4", "size: 5"))
    assert dataset.look(wanted) == before
    _commit(repository)
    assert dataset.look(wanted).signature != before.signature


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot read wine.csv.dvc"),
        ("outs: [", "it is no YAML"),
        ("outs: []", "names no output"),
        ("a: &a [1]\nouts: [*a]", "it has aliases"),
        ("outs: [{path: ../up, md5: 0cc175b9c0f1b6a831c399e269772661}]", "lies elsewhere"),
        ("outs: [{path: wine.csv, md5: ../../../etc/passwd}]", "has no MD5"),
    ],
)
def test_a_file_that_is_gone_or_none_of_dvc_is_one_clear_message(
    place: Path, dataset: RemoteDataset, text: str | None, why: str
) -> None:
    told = place / "work/wine.csv.dvc"
    if text is None:
        told.unlink()
    else:
        told.write_text(text)
    with pytest.raises(DatasetUnavailable, match=why):
        dataset.look(spec(place / "work", "wine.csv.dvc"))


def _md5(entries: Sequence[FileEntry]) -> str:
    (entry,) = entries
    return entry.identity.removeprefix("md5:")


def _commit(folder: Path) -> None:
    from tests.support.git import run_git

    run_git(folder, "commit", "--quiet", "--all", "--message=Another")
