"""``orchestrator plan``: what would run now, where, in what and why. Changes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.complete import pipeline_names
from orchestrator.cli.settings import PASSED, Settings, global_options, this

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.pipeline import Pipeline
    from orchestrator.ports.engine import Engine
    from orchestrator.services.plan import BaselineLook, DataLook, Plan


@click.command()
@click.argument("pipeline", shell_complete=pipeline_names)
@global_options
def plan(pipeline: str) -> int:
    """Show what would run now and why, where, on which data, and what follows. Changes nothing."""
    settings = this()
    with _read_only(settings) as app:
        from orchestrator.cli.output import iso, print_json

        wanted = app.pipeline(pipeline)
        app.room.patient = True
        found = app.planner.plan(wanted)
        places = _places(app, wanted)
        goes = _goes(app, wanted)
        if settings.json:
            upcoming = iso(app.occasions.next_time(wanted))
            print_json({**_as_json(wanted, found, places), "now": goes, "next_time": upcoming})
        else:
            _print(wanted, found, places, goes, _occasions(app, wanted))
        return PASSED


@contextmanager
def _read_only(settings: Settings) -> Iterator[Application]:
    """The product on its own state where there is one, else on an empty one that is thrown away."""
    from orchestrator.bootstrap import Application
    from orchestrator.domain.space import NO_RESERVE
    from orchestrator.observe import configure_logging
    from orchestrator.store import migrations

    config = settings.configuration(check_stored=True)
    with tempfile.TemporaryDirectory(prefix="orchestrator-plan-") as scratch:
        storage = config.orchestrator.storage
        there = (Path(storage.path) / "orchestrator.db").exists()
        if storage.database is not None:
            there = migrations.current(Application(config).database_url) is not None
        if not there:
            nothing = {"path": scratch, "database": None, "min_free": NO_RESERVE}
            empty = storage.model_copy(update=nothing)
            config = replace(config, orchestrator=config.orchestrator.model_copy(update={"storage": empty}))
        app = Application(config)
        configure_logging("INFO" if settings.verbose else "WARNING", masker=app.masker)
        try:
            yield app
        finally:
            app.close()


def _places(app: Application, pipeline: Pipeline) -> list[dict[str, Json]]:
    """Each host that may execute it: free slots, whether it answers, what becomes of the image there."""
    from orchestrator.domain.errors import EngineError
    from orchestrator.domain.pipeline import eligible_hosts

    used = app.store.attempts.slots_in_use()
    rows: list[dict[str, Json]] = []
    eligible = eligible_hosts(pipeline.runner, app.hosts)
    silent = app.silent(host.name for host in eligible)
    for host in eligible:
        lack = None
        try:
            if (why := silent.get(host.name)) is not None:
                image = f"not known: {why}"
            else:
                image = _image(app.engines[host.name], pipeline)
                lack = app.room.why_not(host.name)
        except EngineError as error:
            image = f"not known: {error}"
        rows.append(
            {
                "host": host.name,
                "slots": host.slots,
                "free": max(0, host.slots - used.get(host.name, 0)),
                "image": image,
                "lacks": lack or "",
            }
        )
    return rows


def _goes(app: Application, pipeline: Pipeline) -> str:
    """Where a run would go now, or what it would wait for."""
    from orchestrator.domain.placement import Placed, Refused, Waits

    match app.chooser(app.reach).try_out(pipeline, app.clock.now()):
        case Placed(host=host):
            return f"a run would go to {host.name} now"
        case Waits(why=why):
            return f"a run would wait for {why}"
        case Refused(why=why):
            return f"a run would fail to start: {why}"


def _image(engine: Engine, pipeline: Pipeline) -> str:
    from orchestrator.domain.pipeline import FolderImage, NamedImage
    from orchestrator.services.images import built_tag

    match pipeline.runner.image:
        case NamedImage(name):
            return f"{name}, {'on the host' if engine.find_image(name) else 'to be pulled'}"
        case FolderImage(folder):
            if not (Path(folder) / "Dockerfile").is_file():
                return f"{folder} holds no Dockerfile"
            tag = built_tag(Path(folder), "Dockerfile", Path(folder).name)
            return f"{tag}, {'on the host' if engine.find_image(tag) else f'to be built from {folder}'}"
        case image:
            engine.info()
            return f"built from the repository's {image.dockerfile}, once for each content"


def _occasions(app: Application, pipeline: Pipeline) -> list[tuple[str, str]]:
    """What makes runs although nothing changes."""
    upcoming = app.occasions.next_time(pipeline)
    told = [("by schedule", words) for words in app.occasions.words(pipeline)]
    if upcoming is not None:
        told.append(("next by schedule", f"{upcoming.astimezone():%Y-%m-%d %H:%M %Z}"))
    return told + [("after", f"each run of {name} that passed and may deploy") for name in pipeline.after]


def _acts(pipeline: Pipeline) -> list[tuple[str, str]]:
    from orchestrator.domain.action_spec import told

    return [(trigger.value, told(spec)) for trigger, spec in pipeline.actions]


def _as_json(pipeline: Pipeline, found: Plan, places: list[dict[str, Json]]) -> dict[str, Json]:
    from orchestrator.domain.codec import to_plain

    return {
        "pipeline": pipeline.name,
        "expected": list(found.expected),
        "waits": list(found.waits),
        "unwatched": list(found.unwatched),
        "schedules": [f"{schedule.cron} {schedule.zone}" for schedule in pipeline.schedules],
        "after": list(pipeline.after),
        "branches": to_plain(found.branches),
        "data": to_plain(found.data),
        "runner": pipeline.runner.name,
        "replicates": pipeline.replicates,
        "command": list(pipeline.execution.command),
        "setup": list(pipeline.execution.setup.command) if pipeline.execution.setup else None,
        "hosts": list(places),
        "checks": [str(check) for check in pipeline.gate.checks],
        "baselines": to_plain(found.baselines),
        "actions": [{"on": trigger, "does": what} for trigger, what in _acts(pipeline)],
        "deploy_branches": list(pipeline.deploy_branches),
    }


def _against(look: BaselineLook) -> str:
    if not look.baseline:
        return f"nothing: {look.why_none}"
    wanted = f" of {look.wanted} wanted" if look.wanted else ""
    counted = f"{look.measurements}{wanted}"
    return f"{look.baseline} ({counted} measurement{'' if counted == '1' else 's'})"


def _version(look: DataLook) -> str:
    return f"v{look.version}" if look.version else "-"


def _print(
    pipeline: Pipeline,
    found: Plan,
    places: list[dict[str, Json]],
    goes: str,
    occasions: list[tuple[str, str]],
) -> None:
    from orchestrator.cli.output import Column, console, count, print_table
    from orchestrator.domain.report import format_duration, format_size

    screen = console()
    for sentence in found.expected:
        when = "once its data are whole, a look makes" if found.waits else "the next look makes"
        screen.print(f"{pipeline.name}: {when} {sentence}")
    for waits in found.waits:
        screen.print(waits)
    if not found.expected:
        screen.print(
            f"{pipeline.name}: nothing new, so nothing would run; `orchestrator run` runs it all the same"
        )
    screen.print("\ncode")
    rows = [
        (b.source, b.branch, (b.seen or "-")[:8], (b.now or "-")[:8], b.news.value) for b in found.branches
    ]
    print_table(
        ("source", "branch", "seen", "now", "news"), rows or [("no watched branch is there", *[""] * 4)]
    )
    if found.unwatched:
        more = f" and {len(found.unwatched) - 10} more" if len(found.unwatched) > 10 else ""
        screen.print(f"not watched: {', '.join(found.unwatched[:10])}{more}")
    if occasions:
        screen.print("\nalso")
        print_table(("when", Column("what", fold=True)), occasions)
    if found.data:
        screen.print("\ndata")
        print_table(
            ("dataset", "role", "version", Column("files", right=True), Column("size", right=True), "news"),
            [
                (d.dataset, d.role.value, _version(d), str(d.files), format_size(d.size), d.news.value)
                for d in found.data
            ],
        )
    screen.print(f"\nwhere: runner {pipeline.runner.name}, {count(pipeline.replicates, 'replicate')}")
    hosts = [(str(p["host"]), f"{p['free']} of {p['slots']} slots free", str(p["image"])) for p in places]
    print_table(("host", "slots", Column("image", fold=True)), hosts or [("no host fits", "", "")])
    screen.print(goes)
    for lack in dict.fromkeys(str(p["lacks"]) for p in places if p["lacks"]):
        screen.print(f"runs wait for room: {lack}")
    execution = pipeline.execution
    screen.print(f"\ncommand: {' '.join(execution.command)}  (timeout {format_duration(execution.timeout)})")
    if execution.setup is not None:
        key = ", ".join(execution.setup.key)
        screen.print(f"setup: {' '.join(execution.setup.command)}  (kept until one of these changes: {key})")
    if execution.secrets:
        screen.print(f"secrets: {', '.join(execution.secrets)}")
    screen.print("\ngate")
    against = {look.check: _against(look) for look in found.baselines}
    checks = [(str(check), against.get(str(check), "a fixed number")) for check in pipeline.gate.checks]
    print_table((Column("check", fold=True), Column("compared with", fold=True)), checks or [("none", "")])
    screen.print("\nactions")
    print_table(("on", Column("does", fold=True)), _acts(pipeline) or [("none", "")])
    allowed = ", ".join(pipeline.deploy_branches) or "no branch"
    screen.print(f"may deploy and become a baseline: runs of {allowed} that passed")
