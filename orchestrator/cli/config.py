"""The commands about configuration files, and ``version``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.settings import PASSED, USAGE, global_options, this

if TYPE_CHECKING:
    from orchestrator.config.problems import Problem


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--repository",
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="Judge the own file of the repository that is checked out in DIR instead.",
)
@click.option(
    "--as",
    "name",
    metavar="NAME",
    help="With --repository: the repository of the configuration whose grants count [every name is granted].",
)
@global_options
def validate(path: Path | None, repository: Path | None, name: str | None) -> int:
    """Report every mistake in the configuration folder PATH at once, as file:line:column."""
    from orchestrator.bootstrap import stored_names
    from orchestrator.cli.output import count, say
    from orchestrator.config.load import MAIN_FILE, load

    settings = this()
    if repository is not None:
        return _validate_repository(repository, name, path or settings.folder, settings.json)
    if name is not None:
        raise click.UsageError("--as is for --repository")
    folder = path or settings.folder
    if folder.name == MAIN_FILE and os.access(folder, os.R_OK) and folder.is_file():
        folder = folder.parent
    result = load(folder, stored=stored_names)
    _show(result.problems, settings.json)
    if result.errors:
        say(f"{folder}: {count(len(result.errors), 'error')}")
        return USAGE
    config = result.configuration
    if config is not None:
        what = f"{count(len(config.pipelines), 'pipeline')}, {count(len(config.runners), 'runner')}"
        warned = f", {count(len(result.warnings), 'warning')}" if result.warnings else ""
        click.echo(f"{folder}: valid ({what}){warned}", err=settings.json)
    return PASSED


def _show(problems: Sequence[Problem], as_json: bool) -> None:
    from orchestrator.cli.output import print_json

    if not as_json:
        for problem in problems:
            click.echo(str(problem))
        return
    print_json(
        [
            {
                "file": p.file,
                "line": p.line,
                "column": p.column,
                "severity": p.severity,
                "message": p.message,
                "expected": p.expected,
                "suggestion": p.suggestion,
            }
            for p in problems
        ]
    )


def _validate_repository(folder: Path, name: str | None, config: Path, as_json: bool) -> int:
    """Judge a repository's own file: by the grants of ``name`` in the configuration, or by its form alone."""
    from orchestrator.bootstrap.configured import read_configuration
    from orchestrator.cli.output import count, say
    from orchestrator.config.grants import granted_to
    from orchestrator.config.models.repository import FILE
    from orchestrator.config.repository import judge_without_grants, read_repository_file
    from orchestrator.config.yaml_loader import MAX_BYTES
    from orchestrator.domain.errors import NotFound

    granted = None
    file = FILE
    if name is not None:
        configuration = read_configuration(config)
        known = configuration.orchestrator.repositories
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise NotFound(f'there is no repository "{name}"', f"repositories: of {config} has: {listed}")
        granted = granted_to(configuration.orchestrator, name, configuration.pipelines)
        file = granted.repository.file
    place = folder if folder.is_file() else folder / file
    try:
        with place.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFound(
            f"{place} cannot be read: {error.strerror}", f"a checkout with {file} in it"
        ) from error
    result = judge_without_grants(raw, file) if granted is None else read_repository_file(raw, granted)
    _show(result.problems, as_json)
    if result.errors:
        say(f"{place}: {count(len(result.errors), 'error')}")
        return USAGE
    by = "" if granted is not None else ", whatever was granted"
    click.echo(f"{place}: valid ({count(len(result.pipelines), 'pipeline')}{by})", err=as_json)
    return PASSED


@click.command()
@click.argument("kind", required=False, type=click.Choice(["orchestrator", "runner", "pipeline"]))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write KIND.json files there.",
)
@global_options
def schema(kind: str | None, out: Path | None) -> int:
    """Print the JSON Schema of a KIND of file, for editors; without KIND, of all with --out."""
    from orchestrator.cli.output import say
    from orchestrator.config.schema import KINDS, schema_text
    from orchestrator.domain.errors import InvalidInput

    wanted = [known for known in KINDS if kind in (None, known)]
    if out is None:
        if len(wanted) > 1:
            raise InvalidInput("which schema?", f"name one of {', '.join(KINDS)}, or --out DIR for all")
        click.echo(schema_text(wanted[0]), nl=False)
        return PASSED
    try:
        out.mkdir(parents=True, exist_ok=True)
        for each in wanted:
            (out / f"{each}.json").write_text(schema_text(each), encoding="utf-8")
            say(f"{out / f'{each}.json'}")
    except OSError as error:
        raise InvalidInput(f"{out} cannot be written: {error.strerror}") from error
    return PASSED


@click.command()
@click.argument("folder", default="config", type=click.Path(file_okay=False, path_type=Path))
@click.option("--pipeline", default=None, metavar="NAME", help="What to call the pipeline.")
@click.option("--source", default=None, metavar="URL", help="The repository to watch: a URL or a path.")
@click.option("--branch", default=None, metavar="NAME", help="The branch to watch [main].")
@click.option("--image", default=None, metavar="IMAGE", help="The image that runs execute in, or its folder.")
@click.option("--run", "command", default=None, metavar="COMMAND", help="What trains.")
@click.option("--setup", default=None, metavar="COMMAND", help="What installs; kept as an image layer.")
@click.option("--dataset", default=None, metavar="PATH", help="A folder of data to watch.")
@click.option("--metric", default=None, metavar="NAME", help="The metric that the gate judges [accuracy].")
@click.option("--smtp", default=None, metavar="URL", help="A mail server; needs --mail-to as well.")
@click.option("--mail-to", default=None, metavar="ADDRESS", help="Who gets the reports.")
@global_options
def init(
    folder: Path,
    pipeline: str | None,
    source: str | None,
    branch: str | None,
    image: str | None,
    command: str | None,
    setup: str | None,
    dataset: str | None,
    metric: str | None,
    smtp: str | None,
    mail_to: str | None,
) -> int:
    """Write a commented configuration into FOLDER [config]. On a terminal, asks for what no option says."""
    import sys
    from dataclasses import replace

    from orchestrator.cli.output import say
    from orchestrator.config.init import Answers, EmailAnswers, write_example
    from orchestrator.domain.errors import InvalidInput

    plain = Answers()
    ask = sys.stdin.isatty() and not any((pipeline, source, branch, image, command, metric))

    def answer(given: str | None, default: str, question: str) -> str:
        return given or (str(click.prompt(question, default=default, err=True)) if ask else default)

    wanted = answer(image, _shipped_image() or plain.image, "image that runs execute in (a name or a folder)")
    build = _from(folder, wanted) if Path(wanted, "Dockerfile").is_file() else None
    answers = Answers(
        image=wanted,
        image_folder=build,
        pipeline=answer(pipeline, plain.pipeline, "name of the pipeline"),
        source=_from(folder, answer(source, ".", "repository to watch (a URL or a path)")),
        branch=answer(branch, plain.branch, "branch to watch"),
        command=answer(command, plain.command, "command that trains"),
        metric=answer(metric, plain.metric, "metric that the gate judges"),
        setup=setup,
    )
    data = answer(dataset, "", "folder of data to watch (empty: none)")
    if data:
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(data).name) or "train"
        answers = replace(answers, dataset=name, dataset_path=_from(folder, data))
    if (smtp is None) != (mail_to is None):
        raise InvalidInput("--smtp and --mail-to belong together", "give both or none")
    if smtp is not None and mail_to is not None:
        answers = replace(answers, email=EmailAnswers(smtp, "ML CI <ci@localhost>", (mail_to,)))
    try:
        written = write_example(folder, answers)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be written: {error.strerror}") from error
    for path in written:
        say(str(path))
    made = "built from its Dockerfile" if build else "pulled"
    say(f"runs execute in {wanted}, {made} by `orchestrator --config {folder} images build`")
    say(f"next: edit them, then `orchestrator --config {folder} validate`")
    return PASSED


def _shipped_image() -> str | None:
    """The runner image that comes with the sources, where these are: here, or around the package."""
    for place in (Path(), Path(__file__).parents[2]):
        if (place / "runner-images" / "cpu" / "Dockerfile").is_file():
            return str(place / "runner-images" / "cpu")
    return None


def _from(folder: Path, place: str) -> str:
    """A path as it is written in a file of ``folder``; a URL as it is."""
    if "://" in place or Path(place).is_absolute() or not Path(place).exists():
        return place
    return os.path.relpath(place, folder)


@click.command()
@global_options
def version() -> int:
    """Print the version, and those of what it stands on with --verbose."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from orchestrator.cli.output import print_json

    settings = this()
    names = ["ml-ci-orchestrator"]
    if settings.verbose or settings.json:
        names += [
            "docker",
            "paramiko",
            "SQLAlchemy",
            "pydantic",
            "fastapi",
            "uvicorn",
            "APScheduler",
            "click",
        ]
    found = {}
    for name in names:
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if settings.json:
        print_json(found)
    else:
        for name, number in found.items():
            click.echo(f"{name} {number}")
    return PASSED
