"""What one file says about another: names that must exist, rules that span several places.

These checks look at the raw documents, not at the models, so that they are made although a file has other
problems.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.config.models.actions import ONLY_PASSED, WITHOUT_RESULTS
from orchestrator.config.models.pipeline import dataset_variable
from orchestrator.config.models.source import source_title
from orchestrator.config.problems import ItemPath, Problem, any_of, closest
from orchestrator.config.yaml_loader import Document, Plain
from orchestrator.domain.baseline import SELECTORS, Selector, SelectorKind, parse_selector
from orchestrator.domain.check import Comparison, parse_check
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import infer_direction


@dataclass(frozen=True)
class Stored:
    """The names in the encrypted store; None where they are not known, and why not where somebody asked."""

    names: frozenset[str] | None
    why: str = ""

    def unchecked(self, document: Document, path: ItemPath, name: str) -> Iterator[Problem]:
        """That nobody could tell whether a secret is stored."""
        if not self.why:
            return
        message = f'whether the secret "{name}" is stored could not be checked: {self.why}'
        expected = f"`orchestrator secrets set {name}`, unless it was done"
        yield Problem(document.file, document.value_position(path), message, expected, "", "warning")


PLACES: Final = {
    "environment": "environments",
    "hook": "hooks",
    "program": "programs",
    "store": "stores",
    "service": "services",
}
"""What actions name besides servers, and the keys of orchestrator.yaml that say what it is."""
_NAMED_BY: Final = {
    "environment": ("deploy", "environment"),
    "hook": ("webhook",),
    "program": ("exec",),
    "store": ("upload", "store"),
    "service": ("container", "service"),
}
_REPORTS: Final = frozenset({"email", "github"})
"""Kinds that tell what became of the others."""
_WITH_RESULTS: Final = ("deploy", "container", "git", "upload", "command")


@dataclass(frozen=True)
class Known:
    """Names that other files define; None where they are unknown because that file cannot be read."""

    runners: frozenset[str] | None
    hosts: dict[str, Plain] | None
    servers: frozenset[str] | None
    secrets: frozenset[str] | None
    stored: Callable[[], Stored]
    """Secrets that need no entry; asked only where a name is in no file, for it may take a database."""
    has_email: bool
    has_forge: bool = True
    """Whether orchestrator.yaml logs in to GitHub."""
    others: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What else actions may name, by ``PLACES``; what is not in it is unknown."""


def at(data: Plain, *path: str | int) -> Plain:
    """The value at a path, or None."""
    for part in path:
        if isinstance(data, dict) and isinstance(part, str):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def keys_at(data: Plain, *path: str | int) -> frozenset[str]:
    found = at(data, *path)
    return frozenset(found) if isinstance(found, dict) else frozenset()


def _texts(data: Plain, *path: str | int) -> Iterator[tuple[ItemPath, str]]:
    found = at(data, *path)
    for index, item in enumerate(found if isinstance(found, list) else []):
        if isinstance(item, str):
            yield (*path, index), item


def _unknown(
    document: Document, path: ItemPath, what: str, name: str, known: Iterable[str], remedy: str
) -> Problem:
    names = sorted(known)
    expected = any_of(names) if names else remedy
    return document.problem(path, f'there is no {what} "{name}"', expected, closest(name, names))


def check_runner(document: Document, known: Known) -> Iterator[Problem]:
    """The hosts that a runner asks for."""
    hosts = known.hosts
    if hosts is None:
        return
    for path, name in _texts(document.data, "hosts"):
        if name not in hosts:
            problem = _unknown(
                document, path, "host", name, hosts, "a host under hosts: of orchestrator.yaml"
            )
            yield _unless_added(problem)
    wanted = at(document.data, "hosts", "labels")
    if isinstance(wanted, dict) and wanted:
        fitting = [name for name in hosts if wanted.items() <= _labels(hosts[name]).items()]
        if not fitting:
            labels = {f"{key}: {value}" for host in hosts.values() for key, value in _labels(host).items()}
            expected = "labels that one host of orchestrator.yaml has"
            expected += f" ({', '.join(sorted(labels))})" if labels else ""
            yield _unless_added(
                document.problem(("hosts", "labels"), "no host has all of these labels", expected)
            )


def _unless_added(problem: Problem) -> Problem:
    """A warning, for hosts may also be added by command, and that is no matter of these files."""
    expected = f"{problem.expected}, or a host that `orchestrator hosts add` made"
    return replace(problem, expected=expected, severity="warning")


def _labels(host: Plain) -> dict[str, Plain]:
    labels = at(host, "labels")
    return labels if isinstance(labels, dict) else {}


def check_pipeline(document: Document, known: Known) -> Iterator[Problem]:
    """Runner, secrets, servers, datasets, mail and metrics that a pipeline names."""
    runner = at(document.data, "run", "runner")
    if isinstance(runner, str) and known.runners is not None and runner not in known.runners:
        yield _unknown(document, ("run", "runner"), "runner", runner, known.runners, "a file under runners/")
    yield from _check_environment(document, known)
    yield from _check_datasets(document)
    yield from _check_sources(document, known)
    yield from _check_gate(document)
    yield from _check_judging(document)
    yield from _check_baselines(document)
    yield from _check_actions(document, known)


def _check_environment(document: Document, known: Known) -> Iterator[Problem]:
    variables = keys_at(document.data, "run", "env")
    for path, name in _texts(document.data, "run", "secrets"):
        if known.secrets is not None and name not in known.secrets:
            stored = known.stored()
            if stored.names is None:
                yield from stored.unchecked(document, path, name)
            elif name not in stored.names:
                names = sorted(known.secrets | stored.names)
                entry = f'{name}: "${{{{ env.{name} }}}}" under secrets: of orchestrator.yaml'
                expected = f"{any_of(names) if names else entry}, or `orchestrator secrets set {name}`"
                meant = closest(name, names)
                yield document.problem(path, f'there is no secret "{name}"', expected, meant)
        if name in variables:
            yield document.problem(path, f"{name} stands under env, too", "each variable once")
        if name.startswith("MLCI_"):
            yield document.problem(path, f"{name} is one of the orchestrator's own", "a name without MLCI_")
    for name in sorted(variables):
        if name.startswith("MLCI_"):
            position = document.key_position(("run", "env", name))
            message = f"{name} is one of the orchestrator's own variables"
            yield Problem(document.file, position, message, "a name without MLCI_")


def _check_datasets(document: Document) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    datasets = at(document.data, "datasets")
    for name in datasets if isinstance(datasets, dict) else {}:
        variable = dataset_variable(name)
        if variable in seen:
            position = document.key_position(("datasets", name))
            message = f'"{name}" and "{seen[variable]}" would both be at ${variable}'
            yield Problem(document.file, position, message, "names that differ in letters or digits")
        seen.setdefault(variable, name)


def _check_sources(document: Document, known: Known) -> Iterator[Problem]:
    seen: set[str] = set()
    sources = at(document.data, "sources")
    for index in range(len(sources) if isinstance(sources, list) else 0):
        title = source_title(at(document.data, "sources", index))
        if title and title in seen:
            yield document.problem(
                ("sources", index), f'a second source is called "{title}"', "a name: of its own"
            )
        seen.add(title)
        yield from _check_pulls(document, ("sources", index), known)
    yield from _check_pulls(document, ("source",), known)


def _check_pulls(document: Document, path: ItemPath, known: Known) -> Iterator[Problem]:
    source = at(document.data, *path)
    wanted = at(source, "github") and at(source, "pull_requests")
    if wanted and not at(source, "token") and not known.has_forge:
        yield document.problem(
            (*path, "pull_requests"),
            "pull requests cannot be seen: orchestrator.yaml has no login at GitHub",
            "github: {token: …} in orchestrator.yaml, or token: at the source",
        )


def _check_gate(document: Document) -> Iterator[Problem]:
    declared = at(document.data, "metrics")
    checks = at(document.data, "gate", "checks")
    for index, check in enumerate(checks if isinstance(checks, list) else []):
        metric = _metric_to_compare(check)
        if metric is None or infer_direction(metric) is not None:
            continue
        if at(declared, metric, "direction") not in ("higher", "lower"):
            expected = f"metrics: {{{metric}: {{direction: higher}}}}, or lower"
            message = f'nothing says whether a higher or a lower "{metric}" is better'
            known = list(declared) if isinstance(declared, dict) else []
            yield document.problem(
                ("gate", "checks", index), message, expected, closest(metric, set(known) - {metric})
            )


def _check_judging(document: Document) -> Iterator[Problem]:
    """Predictions that checks go by, and the dataset of a hold-out, which must be declared."""
    checks = at(document.data, "gate", "checks")
    for index, check in enumerate(checks if isinstance(checks, list) else []):
        metric = at(check, "metric")
        if at(check, "test") != "paired_rows" or not isinstance(metric, str):
            continue
        if not at(document.data, "metrics", metric, "predictions"):
            yield document.problem(
                ("gate", "checks", index, "test"),
                f'nothing says which file has the predictions of "{metric}"',
                f"metrics: {{{metric}: {{predictions: preds.csv, id: row_id}}}}",
            )
    name, datasets = at(document.data, "holdout", "dataset"), at(document.data, "datasets")
    known = [str(each) for each in datasets] if isinstance(datasets, dict) else []
    evaluated = [each for each in known if at(datasets, each, "role") == "evaluation"]
    if isinstance(name, str) and name not in evaluated:
        what = "is not one that runs are judged on" if name in known else "is not among the datasets"
        yield document.problem(
            ("holdout", "dataset"),
            f'"{name}" {what}',
            any_of(evaluated) if evaluated else f"datasets: {{{name}: {{role: evaluation, …}}}}",
            closest(name, set(evaluated)),
        )


def _check_baselines(document: Document) -> Iterator[Problem]:
    """Names of baselines in checks, which must be declared."""
    declared = at(document.data, "baselines")
    names = sorted(declared) if isinstance(declared, dict) else []
    checks = at(document.data, "gate", "checks")
    for index, check in enumerate(checks if isinstance(checks, list) else []):
        selector = _baseline_of(check)
        if selector is None or selector.kind is not SelectorKind.NAMED or selector.argument in names:
            continue
        path: ItemPath = ("gate", "checks", index)
        yield document.problem(
            path if isinstance(check, str) else (*path, "vs"),
            f"'{selector}' is no baseline",
            any_of([*dict.fromkeys([*names, *SELECTORS]), "pinned:NAME", "branch:NAME", "run:ID"], 24),
            closest(selector.argument, {*names, *SELECTORS}),
        )


def _baseline_of(check: Plain) -> Selector | None:
    try:
        if isinstance(check, str):
            parsed = parse_check(check)
            return parsed.baseline if isinstance(parsed, Comparison) else None
        named = at(check, "vs")
        return parse_selector(named) if isinstance(named, str) else None
    except InvalidInput:
        return None


def _metric_to_compare(check: Plain) -> str | None:
    if isinstance(check, str):
        try:
            parsed = parse_check(check)
        except InvalidInput:
            return None
        return parsed.metric if isinstance(parsed, Comparison) else None
    metric = at(check, "metric")
    return metric if isinstance(metric, str) else None


def _check_actions(document: Document, known: Known) -> Iterator[Problem]:
    actions = at(document.data, "actions")
    for trigger, items in (actions if isinstance(actions, dict) else {}).items():
        listed = items if isinstance(items, list) else []
        yield from _check_needs(document, trigger, listed)
        for index, action in enumerate(listed):
            if not isinstance(action, dict):
                continue
            path: ItemPath = ("actions", trigger, index)
            yield from _check_time(document, path, trigger, action)
            yield from _check_places(document, path, action, known)
            for kind in _WITH_RESULTS:
                if kind in action:
                    yield from _check_contents(document, (*path, kind))
            if "email" in action and not known.has_email:
                message = "mail cannot be sent: orchestrator.yaml has no email:"
                yield document.problem(
                    (*path, "email"), message, "email: {smtp: …, from: …} in orchestrator.yaml"
                )
            if "github" in action and not known.has_forge and not _has_token(document):
                message = "GitHub cannot be told: orchestrator.yaml has no login there"
                expected = "github: {token: …} in orchestrator.yaml, or token: at the source"
                yield document.problem((*path, "github"), message, expected)


def _has_token(document: Document) -> bool:
    sources = at(document.data, "sources")
    every = [at(document.data, "source"), *(sources if isinstance(sources, list) else [])]
    return any(at(source, "github") and at(source, "token") for source in every)


def _check_needs(document: Document, trigger: str, items: list[Plain]) -> Iterator[Problem]:
    """Names that are given once, and needs that name what comes before."""
    before: dict[str, bool] = {}
    every = [name for item in items if isinstance(name := at(item, "name"), str)]
    for index, item in enumerate(items):
        path: ItemPath = ("actions", trigger, index)
        for place, needed in _texts(document.data, *path, "needs"):
            if needed in before:
                if before[needed] and not keys_at(item) & _REPORTS:
                    message = f'"{needed}" is a report, and reports leave last'
                    yield document.problem(place, message, "the name of an action that is no report")
                continue
            told = "comes later, or is this one" if needed in every else "is the name of none"
            expected = any_of(sorted(before)) if before else "name: NAME at an action before it"
            message = f'no action before this one under {trigger} is called "{needed}": it {told}'
            yield document.problem(place, message, expected, closest(needed, before))
        name = at(item, "name")
        if isinstance(name, str):
            if name in before:
                yield document.problem((*path, "name"), f'a second action is called "{name}"', "other names")
            before[name] = bool(keys_at(item) & _REPORTS)


def _check_time(
    document: Document, path: ItemPath, trigger: str, action: dict[str, Plain]
) -> Iterator[Problem]:
    """What may hang on what: nothing is deployed that has not passed, and nothing is taken from a run that
    has not ended.
    """
    for kind in ONLY_PASSED:
        if kind in action and trigger != "pass":
            yield Problem(
                document.file,
                document.key_position((*path, kind)),
                f"{kind} stands under {trigger}, and only what passed its gate may be deployed",
                f"{kind} under actions: pass:",
            )
    for kind in _WITH_RESULTS:
        if kind in action and kind not in ONLY_PASSED and trigger in ("start", "progress"):
            yield Problem(
                document.file,
                document.key_position((*path, kind)),
                f"{kind} stands under {trigger}, when a run has left nothing yet",
                any_of(WITHOUT_RESULTS),
            )
    if trigger == "progress" and "every" not in action:
        message = "nothing says how often this happens"
        yield document.problem(path, message, "every: 30m beside the action")
    if trigger != "progress" and "every" in action:
        position = document.key_position((*path, "every"))
        message = f"what stands under {trigger} happens once"
        yield Problem(document.file, position, message, "every under actions: progress: alone")


def _check_places(
    document: Document, path: ItemPath, action: dict[str, Plain], known: Known
) -> Iterator[Problem]:
    """Names that orchestrator.yaml has to define."""
    server = at(action, "deploy", "server")
    if isinstance(server, str) and known.servers is not None and server not in known.servers:
        remedy = "a server under servers: of orchestrator.yaml"
        yield _unknown(document, (*path, "deploy", "server"), "server", server, known.servers, remedy)
    for what, place in _NAMED_BY.items():
        name = at(action, *place)
        if isinstance(name, str) and what in known.others and name not in known.others[what]:
            remedy = f"{PLACES[what]}: {{{name}: …}} in orchestrator.yaml"
            yield _unknown(document, (*path, *place), what, name, known.others[what], remedy)


def _check_contents(document: Document, path: ItemPath) -> Iterator[Problem]:
    datasets = keys_at(document.data, "datasets")
    for place, name in _texts(document.data, *path, "data"):
        if name not in datasets:
            yield _unknown(document, place, "dataset", name, datasets, "a dataset of this pipeline")
    taken = at(document.data, *path)
    some = any(at(taken, key) for key in ("files", "data", "code", "metrics", "templates"))
    if path[-1] == "deploy" and isinstance(taken, dict) and not some and not at(document.data, "artifacts"):
        message = "there is nothing to deploy: no files, no data, and the pipeline keeps no artifacts"
        yield document.problem(path, message, 'artifacts: ["model.*"] in the pipeline, or files: here')
