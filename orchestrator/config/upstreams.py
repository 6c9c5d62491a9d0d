"""What pipelines say of each other under ``after``: names that must exist, and no circles."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from orchestrator.config.problems import Problem, any_of, closest
from orchestrator.config.references import at
from orchestrator.config.yaml_loader import Document


def check_upstreams(
    documents: Sequence[Document], names: Collection[str], repositories: Collection[str]
) -> Iterator[Problem]:
    """The pipelines after which others run. ``names`` are all pipelines, also those that cannot be read.

    Those of ``repositories``, NAME.PIPELINE, are known to nobody before their own files are read.
    """
    waits = {_name(document): _after(document) for document in documents}
    for document in documents:
        own = _name(document)
        seen: set[str] = set()
        for index, upstream in enumerate(_after(document)):
            place = ("after", index)
            others = sorted(set(names) - {own})
            if upstream in seen:
                yield document.problem(place, f'"{upstream}" stands here twice', "each pipeline once")
            elif upstream == own:
                expected = any_of(others) if others else "another pipeline under pipelines/"
                yield document.problem(place, "a pipeline cannot run after itself", expected)
            elif upstream not in names and upstream.partition(".")[0] not in repositories:
                expected = any_of(others) if others else "another pipeline under pipelines/"
                message = f'there is no pipeline "{upstream}"'
                yield document.problem(place, message, expected, closest(upstream, others))
            elif own in _all_before(upstream, waits):
                message = (
                    f'"{upstream}" itself runs after "{own}", so each run would make another without end'
                )
                yield document.problem(
                    place, message, "pipelines that do not wait for each other in a circle"
                )
            seen.add(upstream)


def _name(document: Document) -> str:
    name = at(document.data, "pipeline")
    return name if isinstance(name, str) else ""


def _after(document: Document) -> list[str]:
    after = at(document.data, "after")
    return [name for name in after if isinstance(name, str)] if isinstance(after, list) else []


def _all_before(pipeline: str, waits: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    coming = list(waits.get(pipeline, ()))
    while coming:
        name = coming.pop()
        if name not in found:
            found.add(name)
            coming += waits.get(name, ())
    return found
