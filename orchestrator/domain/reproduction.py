"""Whether a run that repeats another one with its seeds comes to the same numbers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.gate import CheckResult, Outcome, Verdict
from orchestrator.domain.metrics import Values, format_apart
from orchestrator.domain.run import Attempt, latest_tries

_TEST = "same seeds"
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Repeated:
    """One side: a run's title and its values by replicate."""

    run_id: int
    title: str
    replicates: Mapping[int, Values]


def compare_repeated(
    original: Repeated, again: Repeated, judged: Collection[str], differences: Sequence[str] = ()
) -> Verdict:
    """Whether two runs of the same code, data and seeds have the same numbers, to the last digit.

    ``judged`` are the metrics that must agree; the others, such as durations, are only told of where they
    differ. With none, all must. ``differences`` says what else was not the same, such as the image; it
    becomes warnings.
    """
    names = sorted({name for values in original.replicates.values() for name in values})
    wanted = sorted(set(judged) & set(names)) or names
    results = tuple(_compare(name, original, again) for name in wanted)
    others = [n for n in names if n not in wanted and _compare(n, original, again).outcome is Outcome.FAIL]
    warnings = list(differences)
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        warnings.append(f"not judged here, and different: {', '.join(others[:_NAMED])}{more}")
    bad = [result for result in results if result.outcome is Outcome.FAIL]
    count = len(original.replicates)
    seeds = "its seed" if count == 1 else f"its {count} seeds"
    if not results:
        sentence = f"{original.title} left no metrics that could be compared"
        return Verdict(Outcome.INCONCLUSIVE, sentence, warnings=tuple(warnings))
    if bad:
        sentence = f"{original.title} is not reproduced: {bad[0].sentence}"
        if len(bad) > 1:
            sentence += f"; {len(bad)} of {len(results)} metrics differ"
        return Verdict(Outcome.FAIL, sentence, results, warnings=tuple(warnings))
    which = f"{wanted[0]} agrees" if len(wanted) == 1 else f"all {len(wanted)} metrics agree"
    sentence = f"{original.title} is reproduced with {seeds}: {which} to the last digit"
    return Verdict(Outcome.PASS, sentence, results, warnings=tuple(warnings))


def _compare(name: str, original: Repeated, again: Repeated) -> CheckResult:
    differing = []
    for replicate, values in sorted(original.replicates.items()):
        then, now = values.get(name), again.replicates.get(replicate, {}).get(name)
        if not _same(then, now):
            differing.append((replicate, then, now))
    common = {
        "candidate_n": len(again.replicates),
        "baseline_n": len(original.replicates),
        "baseline_run": original.run_id,
        "baseline_title": original.title,
        "test": _TEST,
    }
    if not differing:
        sentence = f"{name} is the same in every replicate"
        return CheckResult(name, name, Outcome.PASS, sentence, **common)  # type: ignore[arg-type]
    replicate, then, now = differing[0]
    where = f" in replicate {replicate}" if len(original.replicates) > 1 else ""
    sentence = f"{name} is {_shown(now, then)} and was {_shown(then, now)}{where}"
    return CheckResult(
        name,
        name,
        Outcome.FAIL,
        sentence,
        estimate=now,
        baseline=then,
        difference=None if then is None or now is None else now - then,
        **common,  # type: ignore[arg-type]
    )


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def _shown(value: float | None, other: float | None) -> str:
    if value is None:
        return "not there"
    return format_apart(value, math.nan if other is None else other)


def circumstances(original: Sequence[Attempt], again: Sequence[Attempt]) -> list[str]:
    """What was not the same besides, in words: the image, the host, the GPU."""
    then = {attempt.replicate: attempt for attempt in latest_tries(original)}
    found: list[str] = []
    for attempt in latest_tries(again):
        before = then.get(attempt.replicate)
        if before is None:
            continue
        if before.image_digest != attempt.image_digest:
            now, was = _short(attempt.image_digest), _short(before.image_digest)
            found.append(f"the image is another one: {now}, it was {was}")
        if before.host != attempt.host:
            found.append(f"the host is another one: {attempt.host}, it was {before.host}")
        models = [sorted({gpu.model for gpu in each.gpus}) for each in (attempt, before)]
        if models[0] != models[1]:
            now, was = (", ".join(each) or "none" for each in models)
            found.append(f"the GPU is another one: {now}, it was {was}")
    return list(dict.fromkeys(found))


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or "unknown"
