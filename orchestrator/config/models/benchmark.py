"""The user's own benchmark."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from orchestrator.config.models.command import Command, argv_of
from orchestrator.config.models.common import Duration, Items, Model
from orchestrator.config.models.gate import MetricName
from orchestrator.domain.pipeline import Benchmark


class BenchmarkSpec(Model):
    """A command that computes metrics from what a training left, in a container of its own.

    It executes in the image of the attempt with the code at the commit, the data, and the artifacts at
    $MLCI_ARTIFACTS, without a network and without secrets. Its metrics count, whatever the training says.
    """

    command: Command = Field(
        description="The command: text for `sh -c`, or a list of arguments. It writes to $MLCI_OUTPUT_DIR.",
        examples=["python score.py $MLCI_ARTIFACTS/model.joblib $MLCI_DATA_WINE_TEST"],
    )
    metrics: Annotated[Items[MetricName], Field(min_length=1)] = Field(
        description="The metrics that it must leave behind.", examples=[["accuracy"]]
    )
    timeout: Duration = Field(
        default=timedelta(hours=1), description="Longest time that it may take.", examples=["30m"]
    )


def benchmark_of(spec: BenchmarkSpec | None) -> Benchmark | None:
    """As the services see it."""
    if spec is None:
        return None
    return Benchmark(argv_of(spec.command), spec.metrics, spec.timeout.total_seconds())
