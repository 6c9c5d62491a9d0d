"""Results of attempts without the secrets in their texts."""

from __future__ import annotations

from array import array

from orchestrator.domain.collected import Param, Plot, PlotKind, Series
from orchestrator.domain.curves import KeptSeries, kept_series
from orchestrator.domain.metrics import Metric
from orchestrator.domain.run import AttemptState, Exit, Reason
from orchestrator.observe import Masker
from orchestrator.ports.records import AttemptResult, StoredArtifact
from orchestrator.services.masking import masked


def curve(name: str, source: str) -> KeptSeries:
    return kept_series(Series(name, array("d", [0]), array("d", [1]), source=source), 10)


mask = Masker(["hunter2-hunter2", "correct-horse"]).mask_bytes


def test_every_text_of_a_result_is_masked() -> None:
    secret = "hunter2-hunter2"
    result = AttemptResult(
        AttemptState.FAILED,
        Reason.MISSING_METRICS,
        f"there are: {secret}",
        Exit(1, error=f"no {secret}"),
        (Metric(f"a/{secret}", 1.0, f"{secret}.json", "json"), Metric("b", 2.0, f"{secret}.json", "json")),
        (StoredArtifact(f"{secret}.txt", 1, "0" * 64, "artifact"),),
        (f"{secret}.xyz: no reader knows this format",),
        (f"x: it is a symbolic link to {secret}",),
        series=(curve(f"s/{secret}", "a.csv"), curve("loss", f"{secret}.csv")),
        params=(Param("key", f"Bearer {secret}"), Param(f"{secret}/x", "1", f"{secret}.yaml")),
        plots=(Plot(f"{secret}.png", PlotKind.IMAGE, secret, {"x": secret}, secret),),
    )
    assert [each.facts.name for each in masked(result, mask).series] == ["loss"]
    assert [(p.name, p.text) for p in masked(result, mask).params] == [("key", "Bearer ***"), ("***/x", "1")]
    assert secret not in repr(masked(result, mask))
    assert [m.name for m in masked(result, mask).metrics] == ["***", "b"]
    assert masked(result, mask).left_out == ("x: it is a symbolic link to ***",)


def test_files_whose_masked_names_are_the_same_are_not_confused() -> None:
    result = AttemptResult(
        AttemptState.SUCCEEDED,
        Reason.COMPLETED,
        artifacts=(
            StoredArtifact("hunter2-hunter2", 1, "0" * 64, "artifact"),
            StoredArtifact("correct-horse", 2, "1" * 64, "artifact"),
            StoredArtifact("\udcff", 3, "2" * 64, "artifact"),
        ),
    )
    kept = masked(result, mask)
    assert [(a.path, a.size) for a in kept.artifacts] == [("***", 1), ("\udcff", 3)]
    assert kept.left_out == ("***: without its secrets its name is another file's",)
