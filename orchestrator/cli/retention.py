"""``orchestrator retention``: what has had its time, and its removal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this, who

if TYPE_CHECKING:
    from orchestrator.bootstrap import Application
    from orchestrator.cli.output import Json
    from orchestrator.domain.retention import Going, Kind, Plan, Policy, Staying

_ON_HOSTS = ("containers", "networks", "volumes", "images")
_WATCHED = ("versions", "mirrors", "commits", "pipelines")
_KINDS = ("runs", "artifacts", "logs", "files", "journal", *_ON_HOSTS, "releases", *_WATCHED)

F = TypeVar("F", bound=Callable[..., object])


def _only(command: F) -> F:
    return click.option(
        "--only",
        multiple=True,
        type=click.Choice(_KINDS),
        help="Only this kind of thing; may be repeated.",
    )(command)


def _each(command: F) -> F:
    return click.option("--each", is_flag=True, help="List each thing, not sums by reason.")(command)


@click.group(cls=CommandGroup)
@global_options
def retention() -> None:
    """Show and remove what has had its time by the rules under `retention:` in orchestrator.yaml."""


@retention.command("plan")
@_only
@_each
@global_options
def plan(only: tuple[str, ...], each: bool) -> int:
    """What would go now, what stays although a rule would have it go, and why. Changes nothing."""
    with this().application() as app:
        return _show_plan(app, only, each=each)


@retention.command("apply")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed, as `retention plan` does.")
@_only
@_each
@global_options
def apply(dry_run: bool, only: tuple[str, ...], each: bool) -> int:
    """Remove what has had its time, now. A server does so by itself, every `retention.every`.

    Nothing is removed from the state folder while a backup is made. What was removed is in the journal, and
    runs that stay say what they lost.
    """
    from orchestrator.cli.output import print_json, say
    from orchestrator.cli.progress import ProgressLine
    from orchestrator.domain.report import format_size
    from orchestrator.domain.retention import counted
    from orchestrator.services.retain import STATE
    from orchestrator.services.retain_state import GRACE

    settings = this()
    with settings.application() as app:
        if dry_run:
            return _show_plan(app, only, each=each)
        with ProgressLine() as progress:
            done = app.retainer.apply(_chosen(only), who(), progress, lambda: None)
        went = {kind.value: number for kind, number in done.went.items() if number}
        if settings.json:
            told = _json(done.plan, done.problems)
            print_json({**told, "removed": went, "freed_bytes": done.freed})
        else:
            _tables(done.plan, each=each, gone=True)
            parts = [counted(kind, number) for kind, number in done.went.items() if number]
            say(
                f"removed {', '.join(parts)}; {format_size(done.freed)} freed here"
                if parts
                else _nothing(app)
            )
            due = sum(thing.size for thing in done.plan.going if thing.kind in STATE)
            if done.freed < due and not done.problems:
                hours = int(GRACE.total_seconds() // 3600)
                say(
                    f"files stored in the last {hours} hours go with a later pass; what other runs have too "
                    "stays"
                )
            _tell(done.plan, done.problems)
        return UNKNOWN if done.problems or done.plan.lacking else PASSED


def _show_plan(app: Application, only: tuple[str, ...], *, each: bool) -> int:
    from orchestrator.cli.output import print_json, say
    from orchestrator.cli.progress import ProgressLine

    with ProgressLine() as progress:
        found, problems = app.retainer.plan(_chosen(only), progress)
    if this().json:
        print_json(_json(found, problems))
    else:
        _tables(found, each=each, gone=False)
        if not found.going:
            say(_nothing(app))
        _tell(found, problems)
    return UNKNOWN if problems or found.lacking else PASSED


def _chosen(only: tuple[str, ...]) -> frozenset[Kind]:
    from orchestrator.domain.retention import Kind

    return frozenset(Kind(name) for name in only) or frozenset(Kind)


def _nothing(app: Application) -> str:
    from orchestrator.bootstrap.retention import policy_of

    unruled = _unruled(policy_of(app.config.orchestrator.retention))
    rules = f"; no rule is written for {', '.join(unruled)}" if unruled else ""
    return f"nothing has had its time{rules}"


def _unruled(policy: Policy) -> list[str]:
    """The kinds of things that no rule lets go."""
    rules = [policy.state, *policy.pipelines.values()]
    ruled = {
        "runs": any(rule.runs.limited for rule in rules),
        "artifacts": any(rule.artifacts.limited for rule in rules),
        "logs": any(rule.logs.limited for rule in rules),
        "releases": policy.releases is not None,
    }
    return [kind for kind, is_ruled in ruled.items() if not is_ruled]


def _tell(found: Plan, problems: Sequence[str]) -> None:
    from orchestrator.cli.output import say
    from orchestrator.domain.report import format_size

    if found.lacking:
        say(f"the disk of storage.path lacks {format_size(found.lacking)}, and nothing else may go")
    for problem in problems:
        say(problem)


def _tables(found: Plan, *, each: bool, gone: bool) -> None:
    from orchestrator.cli.output import Column, print_table

    went = "went" if gone else "goes"
    size, why = Column("size", right=True), Column("why", fold=True)
    if each:
        print_table(
            ("kind", "where", Column(went, elastic=True), Column("count", right=True), size, why),
            [(t.kind.value, t.place, t.title, str(t.count), _size(t.size), t.why) for t in found.going],
        )
        print_table(
            ("kind", "where", Column("stays", elastic=True), size, why, Column("although", fold=True)),
            [
                (t.kind.value, t.place, t.title, _size(t.size), f"{t.why} {t.by}".strip(), t.because)
                for t in found.staying
            ],
        )
        return
    for title, things in ((went, found.going), ("stays", found.staying)):
        columns = ("kind", "where", Column(title, right=True), size, why)
        print_table(columns, _sums(things))


def _sums(things: Sequence[Going | Staying]) -> list[tuple[str, ...]]:
    """A row for each kind, place and reason."""
    from orchestrator.domain.retention import Going, Kind

    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for thing in things:
        key = (thing.kind.value, thing.place, thing.why)
        number, total = sums.get(key, (0, 0))
        # These come as one heap; of a run's files and logs the run counts.
        heap = thing.kind in (Kind.FILES, Kind.JOURNAL, Kind.COMMITS)
        more = thing.count if isinstance(thing, Going) and heap else 1
        sums[key] = (number + more, total + thing.size)
    return [(kind, place, str(n), _size(total), why) for (kind, place, why), (n, total) in sums.items()]


def _size(size: int) -> str:
    from orchestrator.domain.report import format_size

    return format_size(size) if size else ""


def _json(found: Plan, problems: Sequence[str]) -> dict[str, Json]:
    totals: dict[str, dict[str, int]] = {}
    for thing in found.going:
        total = totals.setdefault(thing.kind.value, {"things": 0, "count": 0, "bytes": 0})
        total["things"] += 1
        total["count"] += thing.count
        total["bytes"] += thing.size
    return {
        "totals": totals,
        "going": [_going_json(thing) for thing in found.going],
        "staying": [_staying_json(thing) for thing in found.staying],
        "lacking_bytes": found.lacking,
        "problems": list(problems),
    }


def _going_json(thing: Going) -> dict[str, Json]:
    return {
        "kind": thing.kind.value,
        "key": thing.key,
        "title": thing.title,
        "where": thing.place,
        "why": thing.why,
        "count": thing.count,
        "bytes": thing.size,
    }


def _staying_json(thing: Staying) -> dict[str, Json]:
    return {
        "kind": thing.kind.value,
        "key": thing.key,
        "title": thing.title,
        "where": thing.place,
        "because": thing.why,
        "by": thing.by,
        "although": thing.because,
        "bytes": thing.size,
    }
