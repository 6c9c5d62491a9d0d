"""What `datasets:` says: where the data lie, how one logs in there, and what of it the services see."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.adapters.datasets.access import Access
from orchestrator.bootstrap.datasets import access_to, dataset_of
from orchestrator.config.interpolation import Text
from orchestrator.config.models.dataset import KINDS, Dataset
from orchestrator.domain.change import DatasetRole
from orchestrator.domain.pipeline import DatasetKind, DatasetSpec
from tests.support.configuration import PIPELINE, ConfigFolder

SECRET = "'${{ env.WANDB_API_KEY }}'"
EXAMPLES = {
    "path": "path: ./data",
    "url": f"url: https://data.example.org/wine.csv, token: {SECRET}",
    "s3": f"s3: s3://data/wine/, access_key: {SECRET}, secret_key: {SECRET}, endpoint: 'https://minio.lab'",
    "gcs": f"gcs: data/wine, credentials: {SECRET}",
    "sftp": f"sftp: 'sftp://ci@files.example.org:2222/srv/wine/', password: {SECRET}",
    "hf": f"hf: datasets/acme/wine, revision: v1, token: {SECRET}",
    "dvc": "dvc: data/wine.csv.dvc, repository: ./data",
    "sql": "sql: 'postgresql://reader:${{ env.WANDB_API_KEY }}@db/wine', query: SELECT 1",
}


def read(folder: ConfigFolder, *datasets: str) -> list[tuple[str, Dataset]]:
    """Each of these in a pipeline of its own, as ``wine``."""
    (folder.path / "data").mkdir(exist_ok=True)
    for number, dataset in enumerate(datasets):
        text = PIPELINE.replace("wine\n", f"wine-{number}\n", 1) + f"datasets: {{wine: {{{dataset}}}}}\n"
        folder.write(f"pipelines/{number or 'wine'}.yaml", text)
    result = folder.load()
    assert result.configuration is not None, result.problems
    return [("wine", p.datasets["wine"]) for _, p in sorted(result.configuration.pipelines.items())]


def spec(folder: ConfigFolder, dataset: str) -> DatasetSpec:
    ((name, found),) = read(folder, dataset)
    return dataset_of(name, found)


def value(text: Text) -> str:
    return "".join(part if isinstance(part, str) else "hunter2" for part in text.parts)


@pytest.mark.parametrize(
    ("kind", "path", "options"),
    [
        ("url", "https://data.example.org/wine.csv", ()),
        ("s3", "s3://data/wine", (("endpoint", "https://minio.lab"),)),
        ("gcs", "gs://data/wine", ()),
        ("sftp", "sftp://ci@files.example.org:2222/srv/wine", ()),
        ("hf", "acme/wine", (("revision", "v1"),)),
        ("sql", "postgresql://reader@db/wine", (("query", "SELECT 1"), ("format", "csv"))),
    ],
)
def test_where_data_lie_reaches_the_services(
    folder: ConfigFolder, kind: str, path: str, options: tuple[tuple[str, str], ...]
) -> None:
    found = spec(folder, EXAMPLES[kind])
    assert (found.path, found.options) == (path, options)
    assert found.kind is (DatasetKind.HTTP if kind == "url" else DatasetKind(kind))


def test_what_counts_and_when_reaches_the_services(folder: ConfigFolder) -> None:
    found = spec(
        folder,
        "s3: s3://data/wine, role: evaluation, poll: 5m, settle: 1m, include: ['*.csv'], exclude: [x.csv],"
        " marker: _SUCCESS, versions: true, region: eu-central-1",
    )
    assert found == DatasetSpec(
        "wine",
        "s3://data/wine",
        DatasetRole.EVALUATION,
        300.0,
        60.0,
        ("*.csv",),
        ("x.csv",),
        DatasetKind.S3,
        "_SUCCESS",
        (("region", "eu-central-1"), ("versions", "true")),
    )


def test_the_remote_of_dvc_is_a_folder_that_counts_from_the_configuration_or_a_bucket(
    folder: ConfigFolder,
) -> None:
    local = spec(folder, EXAMPLES["dvc"] + ", remote: ../store")
    assert dict(local.options)["remote"] == str(folder.root / "store")
    bucket = spec(folder, EXAMPLES["dvc"] + ", remote: s3://dvc/store/, endpoint: 'https://minio.lab'")
    assert dict(bucket.options) == {
        "file": "data/wine.csv.dvc",
        "remote": "s3://dvc/store",
        "endpoint": "https://minio.lab",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_no_login_is_part_of_what_is_kept_with_a_run(folder: ConfigFolder, kind: str) -> None:
    shown = repr(spec(folder, EXAMPLES[kind]))
    assert "wandb-secret-value" not in shown
    assert "WANDB_API_KEY" not in shown


def test_logins_are_found_for_a_dataset_by_where_it_lies(folder: ConfigFolder) -> None:
    datasets = read(folder, *EXAMPLES.values())
    access = access_to(datasets, value)
    found = [access(dataset_of(name, dataset)) for name, dataset in datasets]
    assert [sorted(a.secrets) if a else None for a in found] == [
        [],
        ["token"],
        ["access_key", "secret_key"],
        ["credentials"],
        ["password"],
        ["token"],
        [],
        ["sql"],
    ]
    last = found[-1]
    assert last is not None
    assert last.secrets["sql"] == "postgresql://reader:hunter2@db/wine"
    assert "hunter2" not in repr(found)


def test_a_dataset_that_left_the_configuration_has_no_login(folder: ConfigFolder) -> None:
    access = access_to(read(folder, EXAMPLES["url"]), value)
    assert access(DatasetSpec("wine", "https://elsewhere.example.org/x", kind=DatasetKind.HTTP)) is None


def test_of_two_logins_at_one_place_that_of_the_same_name_counts(folder: ConfigFolder) -> None:
    (_, one), (_, two) = read(
        folder,
        "url: https://data.example.org/w, token: first",
        "url: https://data.example.org/w, token: second",
    )
    access = access_to([("wine", one), ("other", two)], value)
    found = [access(dataset_of(name, one)) for name in ("wine", "other", "third")]
    assert [a.secrets["token"] if a else "" for a in found] == ["first", "second", "second"]


def test_private_addresses_are_asked_only_where_the_file_says_so(folder: ConfigFolder) -> None:
    datasets = read(folder, "url: http://10.0.0.5/a", "url: http://10.0.0.5/b, allow_private: true")
    access = access_to(datasets, value)
    found = [access(dataset_of(name, dataset)) for name, dataset in datasets]
    assert found == [Access(allow_private=False), Access(allow_private=True)]


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("url: ftp://example.org/x", '"ftp://example.org/x" is no address; expected one such as https://'),
        ("url: 'https://me:hunter2@example.org/x'", "a password in an address would be stored and shown"),
        ("url: 'https://me@example.org/x'", "a user stands in the address; expected username: and password:"),
        ("url: 'https://example.org/x?sig=abc'", "sig in an address would be stored and shown"),
        ("url: 'https://example.org/x?b=1', files: [a]", "names of files cannot stand behind a ?"),
        ("url: 'https://example.org/x', files: [../a]", '"../a" leaves its folder'),
        ("url: 'https://example.org/x', username: me", "of username and password one is missing"),
        (
            "url: 'http://example.org/x', token: t",
            "a login would be sent to http://example.org/x in the clear",
        ),
        ("hf: acme/wine, token: t, endpoint: 'http://hub.example.org'", "in the clear; expected https://"),
        (
            "gcs: data/x, credentials: t, endpoint: 'http://gcs.example.org'",
            "in the clear; expected https://",
        ),
        ("s3: 's3://Not A Bucket/x'", '"s3://Not A Bucket/x" is no bucket; expected s3://BUCKET'),
        ("s3: data/x, access_key: 'x'", "of access_key and secret_key one is missing"),
        ("dvc: a.dvc, repository: ., remote: 'ssh://x/y'", '"ssh://x/y" is no remote that is read here'),
        ("sftp: 'sftp://files.example.org/srv'", "does not say who logs in and in which folder"),
        ("sftp: 'sftp://ci@x/srv', host_key: nonsense", "this is not a host key"),
        ("hf: 'a/b/c'", '"a/b/c" is no dataset of the Hub; expected OWNER/NAME'),
        ("s3: data/x, url: 'https://example.org/x'", "where the data lie is said twice, by url and s3"),
        ("s4: data/x", "where the data lie is not said; expected one of path, url, s3"),
        ("s3: data/x, tokens: y", 'unknown key "tokens"'),
        ("path: 'hf://acme/wine'", "is no folder of this machine; expected hf: hf://acme/wine"),
        ("path: /etc", "belongs to the system"),
    ],
)
def test_what_cannot_be_meant_is_said_with_what_can(folder: ConfigFolder, dataset: str, says: str) -> None:
    problems = folder.problems_of_pipeline(PIPELINE + f"datasets: {{wine: {{{dataset}}}}}\n")
    assert any(says in problem for problem in problems), problems
    assert all("hunter2" not in problem.replace(dataset, "") for problem in problems)


def test_the_state_folder_is_no_dataset_and_other_kinds_are_not_taken_for_folders(
    folder: ConfigFolder, tmp_path: Path
) -> None:
    (tmp_path / "var").mkdir()
    assert folder.problems_with("datasets: {wine: {path: ../var}}\n")
    read(folder, EXAMPLES["s3"])
