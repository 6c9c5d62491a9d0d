"""config/pipelines/*.yaml: what to watch, how to train, how to judge, what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Final, Literal

from pydantic import (
    Field,
    model_validator,
)

from orchestrator.config.models.actions import Actions
from orchestrator.config.models.baselines import Baseline
from orchestrator.config.models.benchmark import BenchmarkSpec
from orchestrator.config.models.collect import Collected
from orchestrator.config.models.command import Command, argv_of
from orchestrator.config.models.common import (
    Duration,
    Inside,
    Items,
    Model,
    Name,
    Size,
    Variable,
    Verbatim,
    wrong,
)
from orchestrator.config.models.dataset import Dataset
from orchestrator.config.models.gate import (
    DriftRules,
    GateRules,
    HoldoutRules,
    MetricName,
    domain_check,
    domain_gate,
)
from orchestrator.config.models.replicates import Replicates
from orchestrator.config.models.source import Source
from orchestrator.config.models.triggers import Cron, Zone
from orchestrator.domain.gate import Gate
from orchestrator.domain.metrics import Direction, infer_direction

GIB: Final = 1 << 30
_LONGEST_GRACE: Final = timedelta(minutes=10)


class Concurrency(Model):
    """What becomes of older runs when a newer change comes, and how many go at the same time."""

    later: ClassVar[Mapping[str, str]] = {"group": ""}

    cancel_in_progress: bool = Field(
        default=False, description="Cancel unfinished runs of the same branch.", examples=[True]
    )
    grace: Duration = Field(
        default=timedelta(seconds=10),
        description="How long a command that is cancelled may take to end, and to write its last checkpoint, "
        "between SIGTERM and SIGKILL.",
        examples=["60s"],
    )
    limit: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None,
        description="How many runs of this pipeline go at the same time; the others wait for their turn. "
        "Without it, as many as hosts have slots.",
        examples=[1],
        json_schema_extra={"x-unit": "runs"},
    )

    @model_validator(mode="after")
    def _ends_at_last(self) -> Concurrency:
        if self.grace > _LONGEST_GRACE:
            raise wrong("this is longer than 10m", "a time in which a checkpoint is written", key="grace")
        return self


class Setup(Model):
    """Preparation whose result is kept as an image layer."""

    run: Verbatim = Field(
        min_length=1,
        description="Command for `sh -c`, run in the repository.",
        examples=["pip install -r requirements.txt"],
    )
    key: Annotated[Items[Inside], Field(min_length=1)] = Field(
        description="Files of the repository on which the result depends; it is made again when one changes.",
        examples=[["requirements.txt"]],
    )


class Retry(Model):
    """What is tried again."""

    later: ClassVar[Mapping[str, str]] = {"failed": "a training that fails is not tried again"}

    infrastructure: Annotated[int, Field(ge=0, le=20)] = Field(
        default=2,
        description="How often an attempt is tried again when the host or the orchestrator failed.",
        examples=[2],
        json_schema_extra={"x-unit": "tries"},
    )


class Execution(Model):
    """How one attempt runs."""

    later: ClassVar[Mapping[str, str]] = {"lost_after": "it is a key of hosts", "matrix": ""}

    runner: Name = Field(description="A runner of config/runners/.", examples=["cpu"])
    setup: Setup | None = Field(
        default=None, description="Preparation whose result is kept as an image layer."
    )
    command: Command = Field(
        description="The training: text for `sh -c`, or a list of arguments.",
        examples=["python train.py --data $MLCI_DATA_WINE", ["python", "train.py"]],
    )
    env: Mapping[Variable, Verbatim] = Field(
        default={},
        description="Environment variables, stored and shown: not for secrets.",
        examples=[{"EPOCHS": "20"}],
    )
    secrets: Items[Variable] = Field(
        default=(),
        description="Names of secrets of orchestrator.yaml that the run gets as environment variables.",
        examples=[["WANDB_API_KEY"]],
    )
    timeout: Duration = Field(
        default=timedelta(hours=24),
        description="Longest time that the command may take; the setup before it, and the build of the "
        "repository's own Dockerfile, have as much.",
        examples=["2h"],
    )
    retry: Retry = Field(default=Retry(), description="How often an attempt is tried again.")
    log_limit: Size = Field(
        default=2 * GIB,
        description="Longest log as it lies on disk, with a timestamp of 31 bytes a line; a run that writes "
        "more fails.",
        examples=["100m"],
    )

    checkpoint_copy: Duration | None = Field(
        default=None,
        description="How often what is in $MLCI_CHECKPOINT_DIR is copied to the orchestrator while the "
        "command runs, so that a try on another host goes on from there; without it, such a try begins with "
        "nothing.",
        examples=["10m"],
    )

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as an argument list."""
        return argv_of(self.command)


class MetricDeclaration(Model):
    """What is known about a metric. A declared metric that a run does not leave behind makes the run fail."""

    direction: Literal["higher", "lower"] | None = Field(
        default=None,
        description="Which way is good; without it, the name must say so (accuracy, f1, auc, r2: higher; "
        "loss, error, rmse, latency: lower).",
        examples=["higher"],
    )
    unit: Verbatim = Field(default="", description="Shown behind its values.", examples=["points"])
    scale: Literal["linear", "log_ratio"] = Field(
        default="linear",
        description="How values are compared: by their difference, or by the logarithm of their ratio, as "
        "suits durations.",
        examples=["log_ratio"],
    )
    predictions: Inside | None = Field(
        default=None,
        description="A file (.csv, .jsonl or .parquet) with a prediction for each row of the evaluation "
        "data, for checks with `test: paired_rows`. Its columns are `label` and `prediction` or `score`, or "
        "one of the metric's name with its value for each row. It is kept as an artifact.",
        examples=["preds.csv"],
    )
    id: Verbatim = Field(
        default="",
        description="The column of the predictions that names the row; without it row_id, id, row or index.",
        examples=["row_id"],
    )


class PipelineFile(Model):
    """config/pipelines/NAME.yaml: what to watch, how to train, how to judge, what to do next."""

    later: ClassVar[Mapping[str, str]] = {
        "on": "write source: and datasets:",
        "plots": "name the files under artifacts:",
        "noise": "",
    }

    pipeline: Name = Field(description="Its name.", examples=["wine-quality"])
    project: Name = Field(default="default", description="The group that it belongs to.", examples=["wine"])
    source: Source | None = Field(
        default=None, description="The repository to watch.", examples=[{"git": "../repository"}]
    )
    sources: Items[Source] = Field(
        default=(), description="Several repositories, in place of `source`; each makes runs of its own."
    )
    datasets: Mapping[Name, Dataset] = Field(
        default={},
        description="Watched data by name; a run finds NAME at $MLCI_DATA_NAME.",
        examples=[{"wine": {"path": "/data/wine"}}],
    )
    schedule: Items[Cron] = Field(
        default=(),
        description="Times at which it runs besides, each as five fields of cron: minute, hour, day of the "
        "month, month, day of the week. Times that passed while no server was up make one run together.",
        examples=[["0 3 * * 1"]],
    )
    timezone: Zone = Field(
        default="UTC",
        description="The time zone of `schedule`, by its name in the IANA's database. A time that clocks "
        "leap over in spring comes right after the leap; one that they show twice in autumn comes once.",
        examples=["Europe/Berlin"],
    )
    after: Items[Name] = Field(
        default=(),
        description="Pipelines after each passed run of which this one runs; runs of pull requests do not "
        "count.",
        examples=[["wine-features"]],
    )
    concurrency: Concurrency = Field(
        default=Concurrency(), description="What becomes of older runs, and how many go at the same time."
    )
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(
        default=0,
        description="Where several runs wait for a host, those with the greater number go first. Among "
        "equals the pipelines take turns.",
        examples=[10],
    )
    deploy_branches: Items[Verbatim] | None = Field(
        default=None,
        description="Branches whose runs may deploy and be baselines, and tags as refs/tags/NAME; patterns "
        "with * and ?. Without it, the default branch. Runs of pull requests never do.",
        examples=[["main"], ["main", "refs/tags/v*"]],
    )
    run: Execution = Field(description="The training, and in what it executes.")
    replicates: Replicates = Field(
        default=1,
        description="How many times each change is trained, each with its own seed: a number, or looks that "
        "stop as soon as the verdict is fixed.",
        examples=[3, {"looks": [2, 4, 8]}],
        json_schema_extra={"x-unit": "attempts"},
    )
    collect: Items[Collected] = Field(
        default=(),
        description="Files with metrics that must be there after the run, and how they, or the output, are "
        "read where a name does not tell. What is of a known format is found without this.",
        examples=[["metrics.json", {"file": "metrics.txt", "pattern": r"Accuracy: (?P<accuracy>[0-9.]+)"}]],
    )
    metrics: Mapping[MetricName, MetricDeclaration] = Field(
        default={}, description="Metrics by name.", examples=[{"accuracy": {"direction": "higher"}}]
    )
    artifacts: Items[Inside] = Field(
        default=(), description="Files to keep, as patterns.", examples=[["model.*", "predictions.csv"]]
    )
    baselines: Mapping[Name, Baseline] = Field(
        default={},
        description="Baselines by names of your own, for checks that compare with them, and how well each is "
        "to be known. One that is called like a selector, such as best, takes its place.",
        examples=[{"main": {"select": "branch:main", "replicates": 8}}],
    )
    benchmark: BenchmarkSpec | None = Field(
        default=None, description="A command of your own that computes metrics from the artifacts."
    )
    gate: GateRules = Field(default=GateRules(), description="What a run must show to pass.")
    holdout: HoldoutRules | None = Field(
        default=None, description="The budget of a sealed test set. Without it, uses are not limited."
    )
    drift: DriftRules | None = Field(
        default=None, description="A warning when the level of a metric has changed over the last commits."
    )
    actions: Actions = Field(
        default_factory=lambda: Actions.model_validate({}), description="What happens on which outcome."
    )

    @model_validator(mode="after")
    def _sources_are_clear(self) -> PipelineFile:
        if (self.source is None) == (not self.sources):
            message = "both source and sources are given" if self.source else "there is nothing to watch"
            raise wrong(
                message, "source: {git: URL or path}, or sources: [...]", key="sources" if self.source else ""
            )
        return self

    @model_validator(mode="after")
    def _a_zone_has_a_schedule(self) -> PipelineFile:
        if self.timezone != "UTC" and not self.schedule:
            message = "there is a time zone and no schedule that it is of"
            raise wrong(message, 'schedule: ["0 3 * * 1"] beside it', key="timezone")
        return self

    @property
    def all_sources(self) -> tuple[Source, ...]:
        return self.sources if self.source is None else (self.source,)

    def direction_of(self, metric: str) -> Direction | None:
        """The declared direction, or the one that the name says, or None."""
        declared = self.metrics.get(metric)
        if declared is not None and declared.direction is not None:
            return Direction(declared.direction)
        return infer_direction(metric)

    def judged_by(self) -> Gate:
        """The gate as the domain judges it. The configuration must be free of problems."""
        checks = tuple(domain_check(check, self.direction_of) for check in self.gate.checks)
        return domain_gate(self.gate, checks, self.holdout, self.drift)


def dataset_variable(name: str) -> str:
    """The environment variable that tells a run where a dataset is."""
    return "MLCI_DATA_" + "".join(c if c.isalnum() else "_" for c in name.upper())
