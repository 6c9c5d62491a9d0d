"""``orchestrator doctor``: everything that a run will need, asked one by one."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from orchestrator.cli.settings import PASSED, UNKNOWN, USAGE, Settings, global_options, this

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.domain.pipeline import DatasetSpec, HostSpec, SourceSpec

_LITTLE_SPACE: Final = 5 << 30
_MAIL_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``result`` is ok, warn or fail."""

    what: str
    result: str
    told: str = ""
    remedy: str = ""


@click.command()
@click.option("--mail", metavar="ADDRESS", help="Send a real test mail there; without it, none is sent.")
@global_options
def doctor(mail: str | None) -> int:
    """Check configuration, database, disk, engines, repositories, data, mail and servers."""
    from orchestrator.cli.output import Column, print_json, print_table

    settings = this()
    findings = list(_examine(settings, mail))
    if settings.json:
        print_json(
            [{"what": f.what, "result": f.result, "told": f.told, "remedy": f.remedy} for f in findings]
        )
    else:
        rows = [(f.result, f.what, f"{f.told}; {f.remedy}" if f.remedy else f.told) for f in findings]
        print_table(("", Column("what", elastic=True), Column("found", fold=True)), rows)
    if any(f.what == "configuration" and f.result == "fail" for f in findings):
        return USAGE
    return UNKNOWN if any(f.result == "fail" for f in findings) else PASSED


def _examine(settings: Settings, mail: str | None) -> Iterator[Finding]:
    from orchestrator.bootstrap import Application, stored_names
    from orchestrator.cli.output import count
    from orchestrator.config.load import load
    from orchestrator.observe import configure_logging

    result = load(settings.folder, stored=stored_names)
    config = result.configuration
    yield from (Finding("configuration", "warn", str(problem)) for problem in result.warnings)
    yield from (Finding("configuration", "fail", str(problem)) for problem in result.errors)
    if config is None:
        return
    yield Finding("configuration", "ok", f"{config.base}: {count(len(config.pipelines), 'pipeline')}")
    app = Application(config)
    configure_logging("ERROR", masker=app.masker)
    try:
        yield _guarded("database", partial(_database, app))
        yield _guarded("disk", partial(_disk, app))
        yield _git()
        for host in app.hosts:
            found = _guarded(f"host {host.name}", partial(_host, app, host.name))
            yield found
            if found.result != "fail":
                yield _guarded(f"disk of {host.name}", partial(_host_disk, app, host.name))
                yield _guarded(f"network of {host.name}", partial(_host_network, app, host))
        yield from _watched(app)
        yield from _secrets(app)
        yield from _mail(app, mail)
        for name in config.orchestrator.servers:
            yield _guarded(f"server {name}", partial(_server, app, name))
    finally:
        app.close()


def _guarded(what: str, look: Callable[[], Finding]) -> Finding:
    """What a look found, or why it could not be taken."""
    from orchestrator.domain.errors import OrchestratorError

    try:
        return look()
    except OrchestratorError as error:
        return Finding(what, "fail", error.message, error.remedy)


def _database(app: Application) -> Finding:
    from orchestrator.domain.report import format_size
    from orchestrator.store import migrations, open_store
    from orchestrator.store.snapshot import SqlSnapshots

    found, needed = migrations.current(app.database_url), migrations.HEAD
    if found is None:
        folder = app.state
        if not os.access(folder, os.W_OK):
            return Finding("database", "fail", f"{folder} is not writable", "give the folder to this user")
        kind = SqlSnapshots(app.database_url).version()
        return Finding("database", "ok", f"{kind}, empty yet; the first command that needs it makes tables")
    if found != needed:
        remedy = "make a backup and run `orchestrator db upgrade`"
        return Finding("database", "fail", f"revision {found}, this version needs {needed}", remedy)
    store = open_store(app.database_url, create=False)
    try:
        size = format_size(store.database_size())
        told = f"{store.database_version()}, revision {found}, {size}"
    finally:
        store.close()
    file = app.database_url.removeprefix("sqlite:///")
    if file != app.database_url and not os.access(file, os.W_OK):
        return Finding("database", "fail", f"{file} is not writable", "give the file to this user")
    return Finding("database", "ok", told)


def _disk(app: Application) -> Finding:
    measured = app.room.state()
    if (lack := app.room.state_lacks()) is not None:
        remedy = "runs wait until there is room: logs and artifacts are kept there"
        return Finding("disk", "fail", lack, remedy)
    little = measured.space is None or measured.space.free < _LITTLE_SPACE
    return Finding("disk", "warn" if little else "ok", str(measured))


def _host_disk(app: Application, name: str) -> Finding:
    what = f"disk of {name}"
    measured = app.room.host(name)
    if (lack := app.room.lacks(name, measured)) is not None:
        return Finding(what, "fail", lack, "runs wait until there is room")
    return Finding(what, "ok" if measured.space is not None else "warn", str(measured))


def _host_network(app: Application, host: HostSpec) -> Finding:
    from orchestrator.cli.hostcheck import check_network

    found = check_network(app, host)
    return Finding(f"network of {host.name}", found.result, found.told)


def _git() -> Finding:
    try:
        done = subprocess.run(["git", "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Finding("git", "fail", "the command git does not answer", "install git")
    return Finding(
        "git", "ok" if done.returncode == 0 else "fail", done.stdout.strip() or done.stderr.strip()
    )


def _host(app: Application, name: str) -> Finding:
    info = app.engines[name].info()
    told = f"Docker {info.version}, {info.cpus} cores"
    if info.warnings:
        return Finding(f"host {name}", "warn", f"{told}; {'; '.join(info.warnings)}")
    return Finding(f"host {name}", "ok", told)


def _watched(app: Application) -> Iterator[Finding]:
    sources: dict[str, SourceSpec] = {}
    datasets: dict[str, DatasetSpec] = {}
    for name in app.repositories:
        yield _guarded(f"repository {name}", partial(_repository, app, name))
    for pipeline in app.known_pipelines.values():
        sources |= {s.location: s for s in pipeline.sources}
        datasets |= {d.key: d for d in pipeline.datasets}
    for source in sources.values():
        yield _guarded(f"source {source.name}", partial(_source, app, source))
    for dataset in datasets.values():
        yield _guarded(f"data {dataset.name}", partial(_data, app, dataset))


def _repository(app: Application, name: str) -> Finding:
    from orchestrator.cli.output import count

    pipelines, wrong = app.repositories[name].look()
    known = f"{count(len(pipelines), 'pipeline')}: {', '.join(sorted(pipelines)) or 'none'}"
    if wrong:
        remedy = "`orchestrator validate --repository DIR` shows all that is wrong in a checkout"
        return Finding(f"repository {name}", "warn", f"{known}; {wrong[0]}", remedy)
    return Finding(f"repository {name}", "ok", known)


def _source(app: Application, source: SourceSpec) -> Finding:
    heads = app.sources.heads(source)
    quota = ""
    if source.github:
        # The code comes by git, what is new by GitHub's API: both have to let us in.
        heads = app.sources.refs(source).branches
        left = app.github.quota(source) if app.github is not None else None
        quota = f"; {left.remaining:,} of {left.limit:,} requests left" if left is not None else ""
    watched = sorted(branch for branch in heads if source.watches(branch))
    what = f"source {source.name}"
    if not watched:
        there = ", ".join(sorted(heads)[:10]) or "none"
        return Finding(what, "warn", f"no branch matches {', '.join(source.branches)}; there are: {there}")
    return Finding(what, "ok", f"{source.location}: {', '.join(watched[:10])}{quota}")


def _data(app: Application, dataset: DatasetSpec) -> Finding:
    from orchestrator.cli.output import count
    from orchestrator.domain.report import format_size

    listing = app.datasets.look(dataset)
    told = f"{dataset.path}: {count(listing.files, 'file')}, {format_size(listing.size)}"
    return Finding(f"data {dataset.name}", "ok" if listing.files else "warn", told)


def _secrets(app: Application) -> Iterator[Finding]:
    from orchestrator.domain.errors import StoreError

    try:
        known = app.secrets.overview()
    except StoreError as error:
        yield Finding("secrets", "fail", f"cannot be looked at: {error.message}", error.remedy)
        return
    for secret in known:
        if secret.problem and (secret.used_by or secret.places or not secret.stored):
            yield Finding(f"secret {secret.name}", "fail", secret.problem, secret.remedy)
        elif secret.problem:
            yield Finding(f"secret {secret.name}", "warn", secret.problem, secret.remedy)
        else:
            yield Finding(f"secret {secret.name}", "ok", f"has a value, from {secret.origin}")


def _mail(app: Application, address: str | None) -> Iterator[Finding]:
    email = app.config.orchestrator.email
    if email is None:
        if address is not None:
            yield Finding("mail", "fail", "no mail server is configured", "add email: to orchestrator.yaml")
        return
    if address is not None:
        yield _guarded("mail", partial(_send, app, address))
        return
    server = email.server
    try:
        with socket.create_connection((server.host, server.port), timeout=_MAIL_TIMEOUT):
            pass
    except OSError as error:
        told = f"{server.host}:{server.port} cannot be reached: {error.strerror or error}"
        yield Finding("mail", "fail", told, "check email.smtp, and that the server is up")
    else:
        yield Finding("mail", "ok", f"{server.host}:{server.port} answers; `--mail ADDRESS` sends a test")


def _send(app: Application, address: str) -> Finding:
    from email.message import EmailMessage
    from email.utils import format_datetime, make_msgid

    mailer = app.mailer
    if mailer is None:
        return Finding("mail", "fail", "no mail server is configured")
    message = EmailMessage()
    message["From"], message["To"] = mailer.sender, address
    message["Subject"] = "A test of the ML CI orchestrator's mail"
    message["Date"], message["Message-ID"] = format_datetime(app.clock.now()), make_msgid()
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        "This mail was asked for with `orchestrator doctor --mail`. Reports will come like it.\n"
    )
    mailer.send(message)
    return Finding("mail", "ok", f"a test mail was handed over for {address}")


def _server(app: Application, name: str) -> Finding:
    path = app.config.orchestrator.servers[name].path
    there = "is there" if app.deployment_servers.look(name) else "is made by the first deployment"
    return Finding(f"server {name}", "ok", f"login works; {path} {there}")
