"""What a run used is told in words, as far as it is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from orchestrator.domain.gpu import Gpu, GpuUse
from orchestrator.domain.run import Attempt, AttemptState
from orchestrator.domain.usage import resources_of
from tests.unit.adapters_render.reports import WHEN
from tests.unit.adapters_render.reports import run as a_run

ATTEMPT = Attempt(1, 1, 0, 1, 7, AttemptState.SUCCEEDED)


def test_time_is_added_up_over_replicates_and_tries() -> None:
    run = replace(a_run(), created_at=WHEN, started_at=WHEN + timedelta(seconds=90))
    begun = replace(ATTEMPT, started_at=WHEN, finished_at=WHEN + timedelta(seconds=60), hardware="EPYC")
    rows = dict(resources_of(run, [begun, begun, ATTEMPT]))
    assert rows == {"Waited": "1 m 30 s", "Computed": "2 m 0 s in 2 containers", "Hardware": "EPYC"}


def test_gpus_are_told_with_their_mean_use_by_looks_and_their_highest() -> None:
    run = replace(a_run(), created_at=WHEN, started_at=WHEN)
    gpus = (Gpu("GPU-1", "H100", 80 << 30), Gpu("GPU-2", "H100", 80 << 30))
    used = (GpuUse("GPU-1", 30, 0.9, 1.0, 40 << 30), GpuUse("GPU-2", 10, 0.5, 0.8, 20 << 30))
    trained = replace(
        ATTEMPT, gpus=gpus, utilisation=used, started_at=WHEN, finished_at=WHEN + timedelta(minutes=30)
    )
    rows = dict(resources_of(run, [trained]))
    assert rows["GPUs"] == "2 for each container, 1 h 0 m of GPU time"
    assert rows["GPU use"] == "80%, at most 100%; memory at most 40.0 GiB"


def test_nothing_is_told_of_what_is_not_known() -> None:
    assert resources_of(replace(a_run(), started_at=None), [ATTEMPT]) == ()
