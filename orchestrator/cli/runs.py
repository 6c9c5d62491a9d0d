"""``orchestrator runs``: what ran, how it ended, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.approve import approve, decide, reject
from orchestrator.cli.complete import pipeline_names, run_references
from orchestrator.cli.groups import CommandGroup
from orchestrator.cli.settings import PASSED, UNKNOWN, global_options, this, who
from orchestrator.domain.run import RunState


@click.group(cls=CommandGroup)
@global_options
def runs() -> None:
    """List, show, follow, cancel and repeat runs. REF is a run's id, or PIPELINE#NUMBER."""


runs.add_command(approve)
runs.add_command(decide)
runs.add_command(reject)


def _reference_argument() -> click.Argument:
    return click.Argument(["ref"], metavar="REF", shell_complete=run_references)


def _takes_reference(command: click.Command) -> click.Command:
    command.params.insert(0, _reference_argument())
    return command


@runs.command("list")
@click.option("--pipeline", "-p", metavar="NAME", shell_complete=pipeline_names, help="Only this pipeline's.")
@click.option(
    "--state",
    "-s",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in RunState]),
    help="Only runs in this state; may be repeated.",
)
@click.option("--branch", "-b", metavar="NAME", help="Only runs of this branch.")
@click.option(
    "--limit", "-n", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many."
)
@global_options
def list_runs(pipeline: str | None, states: tuple[str, ...], branch: str | None, limit: int) -> int:
    """The newest runs first."""
    from orchestrator.cli.output import Column, print_json, print_table
    from orchestrator.cli.views import metric_column, run_json, summary_row

    settings = this()
    with settings.application() as app:
        if pipeline is not None and not app.store.runs.listing(pipeline, limit=1):
            app.pipeline(pipeline)
        wanted = [RunState(state) for state in states]
        found = app.store.runs.listing(pipeline, wanted, branch, limit)
        if settings.json:
            print_json([run_json(app, run) for run in found])
            return PASSED
        now = app.clock.now()
        rows = [summary_row(app, run, now) for run in found]
        columns = (
            "run",
            "verdict",
            metric_column(rows),
            Column("cause", spare=True),
            Column("branch", elastic=True, least=6),
            "commit",
            Column("host", elastic=True, least=4),
            "enqueued",
            Column("took", right=True),
        )
        print_table(
            columns, rows, "no runs yet: `orchestrator run PIPELINE` makes one, `orchestrator serve` all"
        )
        return PASSED


@_takes_reference
@runs.command("show")
@click.option("--journal", is_flag=True, help="Every change of state as well, with who and why.")
@global_options
def show(ref: str, journal: bool) -> int:
    """Everything about a run."""
    from orchestrator.cli.details import print_details
    from orchestrator.cli.output import console, print_json
    from orchestrator.cli.views import full_json, why_waiting

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        waiting = why_waiting(app, run)
        if settings.json:
            print_json(full_json(app, run, waiting, journal))
        else:
            print_details(console(), app, run, waiting, journal)
        return PASSED


@_takes_reference
@runs.command("report")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write it as one page that needs no network, in place of printing it.",
)
@click.option("--md", is_flag=True, help="Print it in Markdown.")
@global_options
def report(ref: str, html: Path | None, md: bool) -> int:
    """What mails tell of a run, as text, in Markdown, or as one HTML file with its charts inside."""
    from orchestrator.cli.output import print_json
    from orchestrator.cli.report import write_report
    from orchestrator.cli.views import full_json, why_waiting

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        if settings.json and html is None and not md:
            print_json(full_json(app, run, why_waiting(app, run), False))
            return PASSED
        told = app.reports.build(run, pictured=html is not None)
        if html is not None:
            write_report(html, app.renderer.render(told).whole.encode())
        if md:
            click.echo(app.renderer.markdown(told), nl=False)
        elif html is None:
            click.echo(app.renderer.render(told).text)
        return PASSED


@_takes_reference
@runs.command("logs")
@click.option("--follow", "-f", is_flag=True, help="Stay, and print lines as they come.")
@click.option("--tail", "-n", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@click.option("--replicate", type=click.IntRange(0), metavar="N", help="Only this replicate (from 0).")
@click.option(
    "--try", "number", type=click.IntRange(1), metavar="N", help="This try (from 1) in place of the last one."
)
@click.option("--timestamps", "-t", is_flag=True, help="Put each line's time before it.")
@global_options
def logs(
    ref: str, follow: bool, tail: int | None, replicate: int | None, number: int | None, timestamps: bool
) -> int:
    """The output of a run's container, one replicate after the other, or as it comes with --follow."""
    from orchestrator.cli.logs import print_logs

    settings = this()
    with settings.application() as app:
        return print_logs(
            app,
            app.store.runs.find(ref),
            follow=follow,
            tail=tail,
            replicate=replicate,
            number=number,
            timestamps=timestamps,
            as_json=settings.json,
        )


@_takes_reference
@runs.command("cancel")
@global_options
def cancel(ref: str) -> int:
    """Ask a run to end. Its container is stopped and what it left is collected."""
    from orchestrator.cli.execution import clear_after
    from orchestrator.cli.output import say
    from orchestrator.cli.views import reference
    from orchestrator.domain.run import Reason

    with this().application() as app:
        run = app.store.runs.find(ref)
        if not app.store.runs.request_cancel(run.id, who(), Reason.CANCELLED_BY_PERSON, app.clock.now()):
            say(f"{reference(run)} has ended already: {app.store.runs.get(run.id).state.value}")
            return PASSED
        not_begun = run.state in (RunState.QUEUED, RunState.AWAITING_APPROVAL)
        if not_begun and not app.live_servers():
            clear_after(app, app.evaluator.advance(app.store.runs.get(run.id)))
            say(f"{reference(run)} cancelled")
        elif app.live_servers():
            say(f"{reference(run)} is asked to end")
        else:
            say(f"{reference(run)} ends as soon as somebody executes it: orchestrator runs resume {run.id}")
        return PASSED


@_takes_reference
@runs.command("resume")
@click.option("--follow", "-f", is_flag=True, help="Show the log as well.")
@global_options
def resume(ref: str, follow: bool) -> int:
    """Stay with a run until its end. Without a server, this process takes it up where it was left."""
    from orchestrator.cli.attach import stay_with

    settings = this()
    with settings.application() as app:
        return stay_with(app, app.store.runs.find(ref), show_log=follow, as_json=settings.json)


@_takes_reference
@runs.command("retry")
@click.option("--host", metavar="NAME", help="Execute on this host alone.")
@click.option("--wait/--no-wait", default=True, help="Stay until the end (the default).")
@click.option("--follow", "-f", is_flag=True, help="Show the log as well.")
@global_options
def retry(ref: str, host: str | None, wait: bool, follow: bool) -> int:
    """Run the same commit once more, on the data as they are now, as a new run."""
    from orchestrator.cli.attach import stay_with
    from orchestrator.cli.hostnames import require_host
    from orchestrator.cli.output import print_json, say
    from orchestrator.cli.views import reference, run_json

    settings = this()
    with settings.application() as app:
        if host is not None:
            require_host(app, host)
        old = app.store.runs.find(ref)
        made = app.detector.run_now(app.pipeline(old.pipeline), None, who(), host, None, rerun_of=old)
        say(f"{reference(made)} enqueued: {reference(old)} once more, {made.change.revision.short}")
        if made.change.note:
            say(made.change.note)
        if wait or follow:
            return stay_with(app, made, show_log=follow, as_json=settings.json)
        if settings.json:
            print_json(run_json(app, made))
        return PASSED


@_takes_reference
@runs.command("reproduce")
@click.option("--host", metavar="NAME", help="Execute on this host alone.")
@click.option("--wait/--no-wait", default=True, help="Stay until the end (the default).")
@click.option("--follow", "-f", is_flag=True, help="Show the log as well.")
@global_options
def reproduce(ref: str, host: str | None, wait: bool, follow: bool) -> int:
    """Do a run again with the same commit, data, image and seeds, and say whether the numbers agree.

    It passes when the metrics that are declared or judged are the same to the last digit; without any, all
    must be. It deploys nothing and is nobody's baseline.
    """
    from orchestrator.cli.attach import stay_with
    from orchestrator.cli.hostnames import require_host
    from orchestrator.cli.output import print_json, say
    from orchestrator.cli.views import reference, run_json

    settings = this()
    with settings.application() as app:
        if host is not None:
            require_host(app, host)
        old = app.store.runs.find(ref)
        made = app.reproducer.enqueue(old, who(), host)
        say(f"{reference(made)} enqueued: {reference(old)} with its seeds, {made.change.revision.short}")
        if wait or follow:
            return stay_with(app, made, show_log=follow, as_json=settings.json)
        if settings.json:
            print_json(run_json(app, made))
        return PASSED


@_takes_reference
@runs.command("keep")
@click.option("--reason", required=True, help="Why; it stays in the journal.")
@global_options
def keep(ref: str, reason: str) -> int:
    """Keep a run with all it has, whatever the rules of retention say."""
    from orchestrator.cli.output import say
    from orchestrator.cli.views import reference

    with this().application() as app:
        run = app.store.runs.find(ref)
        app.store.retention.keep(run.id, who(), reason, app.clock.now())
        say(f"{reference(run)} is kept")
        return PASSED


@_takes_reference
@runs.command("unkeep")
@global_options
def unkeep(ref: str) -> int:
    """Leave a run to the rules of retention again."""
    from orchestrator.cli.output import say
    from orchestrator.cli.views import reference

    with this().application() as app:
        run = app.store.runs.find(ref)
        was_kept = app.store.retention.unkeep(run.id, who(), app.clock.now())
        say(f"{reference(run)} is {'no longer' if was_kept else 'not'} kept")
        return PASSED


@runs.command("kept")
@global_options
def list_kept() -> int:
    """The runs that people keep, with who and why."""
    from orchestrator.cli.output import Column, iso, print_json, print_table, stamp
    from orchestrator.cli.views import reference

    settings = this()
    with settings.application() as app:
        kept = [(app.store.runs.get(each.run_id), each) for each in app.store.retention.keeps()]
        if settings.json:
            print_json(
                [
                    {
                        "id": run.id,
                        "reference": reference(run),
                        "who": each.who,
                        "reason": each.reason,
                        "at": iso(each.at),
                    }
                    for run, each in kept
                ]
            )
            return PASSED
        rows = [(reference(run), each.who, stamp(each.at), each.reason) for run, each in kept]
        columns = ("run", "who", "since", Column("why", fold=True))
        print_table(columns, rows, "nobody keeps a run: `orchestrator runs keep REF --reason WHY`")
        return PASSED


@_takes_reference
@runs.command("metrics")
@global_options
def metrics(ref: str) -> int:
    """The values that a run left, of each replicate, with the file that each is from."""
    from orchestrator.cli.found import metrics_json, metrics_of, print_metrics
    from orchestrator.cli.output import print_json
    from orchestrator.cli.views import reference

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        found = metrics_of(app, run)
        if settings.json:
            print_json(metrics_json(found))
        else:
            print_metrics(found, f"{reference(run)} left no metrics")
        return PASSED


@_takes_reference
@runs.command("series")
@click.argument("name", required=False)
@global_options
def series(ref: str, name: str | None) -> int:
    """Metrics over the course of a run: what they come to, or the points of the one that is named."""
    from orchestrator.cli.found import (
        points_json,
        points_of,
        print_points,
        print_series,
        series_json,
        series_of,
    )
    from orchestrator.cli.output import print_json
    from orchestrator.cli.views import reference

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        if name is not None:
            points = points_of(app, run, name)
            print_json(points_json(points)) if settings.json else print_points(points)
            return PASSED
        found = series_of(app, run)
        if settings.json:
            print_json(series_json(found))
        else:
            print_series(found, f"{reference(run)} left no series")
        return PASSED


@_takes_reference
@runs.command("params")
@global_options
def params(ref: str) -> int:
    """What a run's training was told, as its files say: learning rate, seed, sizes."""
    from orchestrator.cli.found import params_json, params_of, print_params
    from orchestrator.cli.output import print_json
    from orchestrator.cli.views import reference

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        found = params_of(app, run)
        if settings.json:
            print_json(params_json(found))
        else:
            print_params(found, f"{reference(run)} left no parameters")
        return PASSED


@_takes_reference
@runs.command("artifacts")
@click.option(
    "--download",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write them into this folder; of several replicates, each into a folder of its own.",
)
@global_options
def artifacts(ref: str, download: Path | None) -> int:
    """What a run left behind."""
    from orchestrator.cli.artifacts import kept, save
    from orchestrator.cli.output import Column, count, print_json, print_table, say
    from orchestrator.cli.views import reference
    from orchestrator.domain.codec import to_plain
    from orchestrator.domain.report import format_size

    settings = this()
    with settings.application() as app:
        run = app.store.runs.find(ref)
        found = kept(app, run)
        if download is not None:
            there = [(replicate, file) for replicate, file in found if not file.removed]
            saved = save(app, there, download, apart=run.replicates > 1)
            say(f"{count(saved, 'file')} of {reference(run)} written to {download}")
            for _, file in found:
                if file.removed:
                    say(f"{file.path} was {file.removed}")
            return PASSED if saved == len(found) else UNKNOWN
        if settings.json:
            print_json([{"replicate": replicate, **to_plain(file)} for replicate, file in found])
            return PASSED
        columns: tuple[Column | str, ...] = (
            "path",
            Column("size", right=True),
            "kind",
            "replicate",
            "sha256",
        )
        rows = [(f.path, format_size(f.size), f.kind, str(n), f.sha256[:12], f.removed) for n, f in found]
        if any(file.removed for _, file in found):
            columns = (*columns, Column("", fold=True))
        print_table(columns, [row[: len(columns)] for row in rows], f"{reference(run)} left nothing behind")
        return PASSED
