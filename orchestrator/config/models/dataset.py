"""The data that a pipeline watches: one model for each kind of place where they may lie."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from orchestrator.config.models.common import (
    Duration,
    ExistingFile,
    ExistingFolder,
    Inside,
    Items,
    Model,
    Pause,
    Secret,
    Size,
    Str,
    Verbatim,
    absolute,
    context_of,
    plain_text,
    text_of,
    verbatim_text,
    wrong,
)
from orchestrator.config.models.servers import HostKey
from orchestrator.config.problems import any_of, closest
from orchestrator.config.yaml_loader import Plain

KINDS: Final = ("path", "url", "s3", "gcs", "sftp", "hf", "dvc", "sql")
"""The keys that say where data lie; each dataset has one of them."""
MIB: Final = 1 << 20

_PRIVATE: Final = ("/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/etc", "/root/.ssh")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_SECRET_KEY: Final = re.compile(r"(?i)token|sig|key|secret|passw|auth|cred")
_HF_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_SCHEMES: Final = {"http": "url", "https": "url", "s3": "s3", "gs": "gcs", "gcs": "gcs", "sftp": "sftp"} | {
    "hf": "hf",
    "dvc": "dvc",
    "postgresql": "sql",
    "mysql": "sql",
    "sqlite": "sql",
}


class _Watched(Model):
    """What all kinds of data share."""

    later: ClassVar[Mapping[str, str]] = {"command": ""}

    role: Literal["train", "evaluation"] = Field(
        default="train",
        description="train: learned from; evaluation: measured on, so that metrics from before a change "
        "of it cannot be compared.",
        examples=["train"],
    )
    poll: Duration = Field(
        default=timedelta(seconds=60), description="How often it is looked at for changes.", examples=["60s"]
    )
    settle: Pause = Field(
        default=timedelta(seconds=10),
        description="How long it must be still before a change counts, lest half-written data be used.",
        examples=["10s"],
    )


class _Files(_Watched):
    """What all kinds share that are files by name."""

    include: Annotated[Items[Inside], Field(min_length=1)] = Field(
        default=("**",), description="Files that count, as patterns.", examples=[["**"]]
    )
    exclude: Items[Inside] = Field(default=(), description="Files that do not count.", examples=[["*.tmp"]])
    marker: Inside | None = Field(
        default=None,
        description="A file in it that is written last and says that the data are whole. As long as it is"
        " missing, or older than another file, the data are being written. It is itself no part of them.",
        examples=["_SUCCESS"],
    )


class _Remote(_Files):
    """What all kinds share that are reached over a network."""

    allow_private: bool = Field(
        default=False,
        description="Whether its addresses may be of this machine or of a private network. Those by which"
        " clouds give away credentials never may.",
        examples=[True],
    )


def _no_remote_data(value: Plain) -> Plain:
    if isinstance(value, str) and (found := re.match(r"([a-z0-9+]+)(://|:)", value)):
        kind = _SCHEMES.get(found.group(1).partition("+")[0])
        expected = f"{kind}: {value}" if kind else f"the path of a local folder, or {any_of(KINDS)}"
        raise wrong(f'"{value}" is no folder of this machine', expected)
    return value


def systems_own(path: Path) -> Path | None:
    """The place that a path means, where that belongs to the system; also through a link."""
    for candidate in (path, Path(os.path.realpath(path))):
        if candidate == Path("/") or any(candidate.is_relative_to(folder) for folder in _PRIVATE):
            return candidate
    return None


class FolderDataset(_Files):
    """Watched data in a local folder."""

    path: Annotated[ExistingFolder, BeforeValidator(_no_remote_data)] = Field(
        description="The folder; a relative path counts from the configuration folder.",
        examples=["/data/wine"],
    )
    poll: Duration = Field(
        default=timedelta(seconds=30), description="How often it is looked at for changes.", examples=["30s"]
    )

    @model_validator(mode="after")
    def _nothing_of_the_system(self) -> FolderDataset:
        if (found := systems_own(self.path)) is not None:
            raise wrong(
                f"{found} belongs to the system, and its content would be given to every run",
                "a folder that holds nothing but data",
            )
        return self


def _address(value: Plain, info: ValidationInfo, schemes: tuple[str, ...], example: str) -> str:
    text = plain_text(value, info).strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise wrong(f'"{text}" is no address', example) from None
    if parts.scheme not in schemes or not parts.hostname or port == 0 or any(ord(c) < 33 for c in text):
        raise wrong(f'"{text}" is no address', f"one such as {example}")
    if parts.password is not None:
        raise wrong("a password in an address would be stored and shown", "password: beside it")
    return text


def _url(value: Plain, info: ValidationInfo) -> str:
    text = _address(value, info, ("http", "https"), "https://data.example.org/wine.csv")
    parts = urlsplit(text)
    if parts.username is not None:
        raise wrong("a user stands in the address", "username: and password: beside it")
    if parts.fragment:
        raise wrong("what stands behind # is never asked for", "the address without it")
    if secret := next((key for key, _ in parse_qsl(parts.query) if _SECRET_KEY.search(key)), None):
        raise wrong(f"{secret} in an address would be stored and shown", "token: or password: beside it")
    return text


def _endpoint(value: Plain, info: ValidationInfo) -> str:
    text = _url(value, info)
    if urlsplit(text).query:
        raise wrong(f'"{text}" is no server\'s address', "https://HOST:PORT")
    return text.rstrip("/")


def _bucket(value: Plain, info: ValidationInfo, scheme: str) -> str:
    text = plain_text(value, info)
    bare = text.removeprefix(f"{scheme}://")
    bucket, _, prefix = bare.partition("/")
    if not _BUCKET.fullmatch(bucket) or "://" in bare or any(ord(c) < 32 for c in prefix):
        raise wrong(f'"{text}" is no bucket', f"{scheme}://BUCKET or {scheme}://BUCKET/FOLDER")
    return f"{scheme}://{bare.rstrip('/')}"


def _s3(value: Plain, info: ValidationInfo) -> str:
    return _bucket(value, info, "s3")


def _gcs(value: Plain, info: ValidationInfo) -> str:
    return _bucket(value, info, "gs")


S3Address: TypeAlias = Annotated[Str, BeforeValidator(_s3)]
"""A bucket of S3, and what names in it begin with."""
Endpoint: TypeAlias = Annotated[Str, BeforeValidator(_endpoint)]
"""The address of a server on the web."""


def _sftp(value: Plain, info: ValidationInfo) -> str:
    text = _address(value, info, ("sftp",), "sftp://data@files.example.org/srv/wine")
    parts = urlsplit(text)
    if not parts.username or not parts.path.strip("/") or parts.query or parts.fragment:
        raise wrong(f'"{text}" does not say who logs in and in which folder', "sftp://USER@HOST/FOLDER")
    return text.rstrip("/")


def _hf(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info).removeprefix("hf://").removeprefix("datasets/")
    if not _HF_NAME.fullmatch(text):
        raise wrong(f'"{text}" is no dataset of the Hub', "OWNER/NAME", "")
    return text


def _revision(value: Plain) -> str:
    text = verbatim_text(value)
    if not text or any(ord(c) < 33 for c in text) or ".." in text:
        raise wrong(f'"{text}" is no revision', "a branch, a tag or a commit")
    return text


def not_in_the_clear(address: str | None, login: object, *, allow_private: bool) -> None:
    """Refuse a login that would cross the internet for everybody to read."""
    if login is not None and address is not None and address.startswith("http:") and not allow_private:
        raise wrong(
            f"a login would be sent to {address} in the clear",
            "https://, or allow_private: true for a server of your own network",
        )


class _Login(_Remote):
    """A login with a name."""

    username: Secret | None = Field(
        default=None, description="Who logs in; without it, nobody.", examples=["reader"]
    )
    password: Secret | None = Field(
        default=None,
        description="Password of that user; write a reference, not the password.",
        examples=["${{ env.DATA_PASSWORD }}"],
    )


class HttpDataset(_Login):
    """Watched files behind an address of the web."""

    url: Annotated[Str, BeforeValidator(_url)] = Field(
        description="Address of the file; with `files`, of the folder that they are in. What it redirects to"
        " is checked as it is itself.",
        examples=["https://data.example.org/wine.csv"],
    )
    files: Items[Inside] = Field(
        default=(),
        description="Files below that address, where there are several: the web has no listings.",
        examples=[["train.csv", "test.csv"]],
    )
    token: Secret | None = Field(
        default=None,
        description="Token that is sent as `Authorization: Bearer`, to that server alone.",
        examples=["${{ env.DATA_TOKEN }}"],
    )
    ca_file: ExistingFile | None = Field(
        default=None,
        description="Certificates that are trusted in place of the system's.",
        examples=["/etc/ssl/lab-ca.pem"],
    )

    @model_validator(mode="after")
    def _one_login(self) -> HttpDataset:
        if self.token is not None and self.username is not None:
            raise wrong("both token and username are given", "one of them", key="token")
        if (self.username is None) != (self.password is None):
            raise wrong("of username and password one is missing", "both of them", key="username")
        if self.files and urlsplit(self.url).query:
            raise wrong("names of files cannot stand behind a ?", "url: without a query", key="url")
        not_in_the_clear(self.url, self.token or self.username, allow_private=self.allow_private)
        return self


class S3Login(Model):
    """How to reach what speaks S3's language, and who logs in there."""

    endpoint: Endpoint | None = Field(
        default=None,
        description="Address of a server other than Amazon's.",
        examples=["https://minio.example.org"],
    )
    region: Verbatim | None = Field(default=None, description="Its region.", examples=["eu-central-1"])
    access_key: Secret | None = Field(
        default=None,
        description="Id of the access key; without it, what the environment or the machine's role gives.",
        examples=["${{ env.S3_ACCESS_KEY }}"],
    )
    secret_key: Secret | None = Field(
        default=None, description="The secret of that key.", examples=["${{ env.S3_SECRET_KEY }}"]
    )
    session_token: Secret | None = Field(
        default=None,
        description="What goes with a key that is lent for some time.",
        examples=["${{ env.S3_SESSION_TOKEN }}"],
    )
    ca_file: ExistingFile | None = Field(
        default=None,
        description="Certificates that are trusted in place of the system's.",
        examples=["/etc/ssl/lab-ca.pem"],
    )

    @model_validator(mode="after")
    def _whole_key(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise wrong("of access_key and secret_key one is missing", "both of them", key="access_key")
        return self


class S3Dataset(S3Login, _Remote):
    """Watched objects in S3, or in what speaks its language."""

    s3: S3Address = Field(
        description="The bucket, and what the objects' names begin with.", examples=["s3://datasets/wine"]
    )
    anonymous: bool = Field(default=False, description="Whether nobody logs in.", examples=[True])
    versions: bool = Field(
        default=False,
        description="Whether runs are pinned to versions of the objects, which the bucket must keep: then a"
        " run gets its data also after they have changed.",
        examples=[True],
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> S3Dataset:
        if self.anonymous and self.access_key is not None:
            raise wrong("a key is given, and nobody is to log in", "one of them", key="anonymous")
        return self


class GcsDataset(_Remote):
    """Watched objects in Google Cloud Storage."""

    gcs: Annotated[Str, BeforeValidator(_gcs)] = Field(
        description="The bucket, and what the objects' names begin with.", examples=["gs://datasets/wine"]
    )
    credentials: Secret | None = Field(
        default=None,
        description="Key of a service account, as JSON; without it, nobody logs in.",
        examples=["${{ file:/run/secrets/gcs.json }}"],
    )
    endpoint: Annotated[Str, BeforeValidator(_endpoint)] | None = Field(
        default=None,
        description="Address of a server other than Google's.",
        examples=["http://localhost:4443"],
    )

    @model_validator(mode="after")
    def _safe_login(self) -> GcsDataset:
        not_in_the_clear(self.endpoint, self.credentials, allow_private=self.allow_private)
        return self


class SftpDataset(_Files):
    """Watched files on a server that is reached by SFTP."""

    sftp: Annotated[Str, BeforeValidator(_sftp)] = Field(
        description="User, server and folder.", examples=["sftp://data@files.example.org:22/srv/wine"]
    )
    identity_file: ExistingFile | None = Field(
        default=None,
        description="Private key to log in with, without a passphrase.",
        examples=["~/.ssh/data"],
    )
    password: Secret | None = Field(
        default=None,
        description="Password in place of a key; write a reference, not the password.",
        examples=["${{ env.SFTP_PASSWORD }}"],
    )
    host_key: HostKey | None = Field(
        default=None,
        description="The server's public key; with it, no known_hosts is needed.",
        examples=["ssh-ed25519 AAAAC3…"],
    )
    known_hosts: ExistingFile | None = Field(
        default=None,
        description="File with the server's key; without it and `host_key`, ~/.ssh/known_hosts.",
        examples=["./known_hosts"],
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> SftpDataset:
        if self.host_key is not None and self.known_hosts is not None:
            raise wrong("both host_key and known_hosts are given", "one of them", key="known_hosts")
        if self.identity_file is not None and self.password is not None:
            raise wrong("both identity_file and password are given", "one of them", key="password")
        return self


class HuggingFaceDataset(_Remote):
    """Watched revision of a dataset of the Hugging Face Hub."""

    hf: Annotated[Str, BeforeValidator(_hf)] = Field(
        description="Its owner and name.", examples=["acme/wine"]
    )
    revision: Annotated[Str, BeforeValidator(_revision)] = Field(
        default="main", description="Branch, tag or commit.", examples=["main", "v1.2"]
    )
    token: Secret | None = Field(
        default=None,
        description="Token for what is private or gated.",
        examples=["${{ env.HF_TOKEN }}"],
    )
    endpoint: Annotated[Str, BeforeValidator(_endpoint)] | None = Field(
        default=None, description="Address of a Hub of your own.", examples=["https://hub.example.org"]
    )
    settle: Pause = Field(
        default=timedelta(0),
        description="How long it must be still before a change counts; a revision is always whole.",
        examples=["0s"],
    )

    @model_validator(mode="after")
    def _safe_login(self) -> HuggingFaceDataset:
        not_in_the_clear(self.endpoint, self.token, allow_private=self.allow_private)
        return self


def _repository(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    if "://" in text or re.fullmatch(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:\S+", text):
        if "::" in text or text.startswith("-") or urlsplit(text).password:
            raise wrong(f'"{text}" is no repository', "a URL without a password, or a folder")
        return text
    return str(absolute(text, context_of(info).base))


def _store(value: Plain, info: ValidationInfo) -> str:
    text = plain_text(value, info)
    if text.startswith("s3://"):
        return _s3(value, info)
    if "://" in text:
        raise wrong(f'"{text}" is no remote that is read here', "a folder, or s3://BUCKET/PREFIX")
    return str(absolute(text, context_of(info).base))


class DvcDataset(_Files):
    """Watched data that DVC keeps track of: a `.dvc` file or a stage's output in `dvc.lock`."""

    dvc: Inside = Field(
        description="The `.dvc` file, or `dvc.lock`, inside the repository.",
        examples=["data/wine.csv.dvc", "dvc.lock"],
    )
    repository: Annotated[Str, BeforeValidator(_repository)] = Field(
        description="Folder or address of the Git repository that holds it.",
        examples=["../repository", "https://github.com/acme/wine"],
    )
    branch: Verbatim | None = Field(
        default=None,
        description="Branch of it; without it, a folder is looked at as it is, and an address at its default"
        " branch.",
        examples=["main"],
    )
    outputs: Items[Inside] = Field(
        default=(), description="Which outputs count; without it, all.", examples=[["data/prepared"]]
    )
    remote: Annotated[Str, BeforeValidator(_store)] | None = Field(
        default=None,
        description="Where the contents lie: a folder or s3://BUCKET/PREFIX; without it, the cache and"
        " the default remote of a repository that is a folder here, as far as they lie in it.",
        examples=["/srv/dvc", "s3://dvc/wine"],
    )
    endpoint: Annotated[Str, BeforeValidator(_endpoint)] | None = Field(
        default=None, description="Address of an S3 server other than Amazon's."
    )
    region: Verbatim | None = Field(default=None, description="The S3 remote's region.")
    access_key: Secret | None = Field(default=None, description="Id of the access key of an S3 remote.")
    secret_key: Secret | None = Field(default=None, description="The secret of that key.")
    allow_private: bool = Field(
        default=False, description="Whether the remote may be of this machine or a private network."
    )


class SqlDataset(_Watched):
    """Watched result of a query."""

    sql: Secret = Field(
        description="Address of the database as SQLAlchemy writes it; write its password as a reference. Give"
        " it a user who may only read.",
        examples=["postgresql+psycopg://reader:${{ env.WINE_DB_PASSWORD }}@db.example.org/wine"],
    )
    query: Verbatim = Field(
        min_length=1,
        description="One SELECT. Its result is the data, in the order in which the query gives it.",
        examples=["SELECT * FROM wines ORDER BY id"],
    )
    format: Literal["csv", "parquet"] = Field(
        default="csv", description="As what kind of file runs get the result.", examples=["csv"]
    )
    timeout: Duration = Field(
        default=timedelta(minutes=5), description="Longest time that the query may take.", examples=["5m"]
    )
    limit: Size = Field(
        default=1024 * MIB, description="Largest result; a larger one is an error.", examples=["1g"]
    )
    poll: Duration = Field(
        default=timedelta(minutes=10), description="How often the query is asked.", examples=["10m"]
    )
    settle: Pause = Field(
        default=timedelta(0), description="How long the result must be the same before it counts."
    )


def _kind(value: object) -> str | None:
    if isinstance(value, dict):
        return next((f"<{key}>" for key in KINDS if key in value), "<path>")
    return "<path>"


def _dataset(value: Plain) -> Plain:
    if isinstance(value, dict):
        found = [key for key in KINDS if key in value]
        if len(found) > 1:
            raise wrong(
                f"where the data lie is said twice, by {' and '.join(found)}", "one of them", key=found[1]
            )
        meant = [(key, near) for key in value if (near := closest(str(key), KINDS))]
        if not found:
            key, near = meant[0] if meant else ("", "")
            raise wrong("where the data lie is not said", any_of(KINDS), near, key=str(key))
    elif isinstance(value, str):
        kind = _SCHEMES.get(value.partition(":")[0], "path") if ":" in value else "path"
        raise wrong("text stands here", "a mapping", f"{{{kind}: {text_of(value)}}}")
    return value


Dataset: TypeAlias = Annotated[
    Annotated[FolderDataset, Tag("<path>")]
    | Annotated[HttpDataset, Tag("<url>")]
    | Annotated[S3Dataset, Tag("<s3>")]
    | Annotated[GcsDataset, Tag("<gcs>")]
    | Annotated[SftpDataset, Tag("<sftp>")]
    | Annotated[HuggingFaceDataset, Tag("<hf>")]
    | Annotated[DvcDataset, Tag("<dvc>")]
    | Annotated[SqlDataset, Tag("<sql>")],
    Discriminator(_kind),
    BeforeValidator(_dataset),
]
"""Watched data, wherever they lie."""
