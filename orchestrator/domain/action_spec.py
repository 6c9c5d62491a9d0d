"""What actions do, as data: one frozen value for each kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """How an action is carried out, whatever its kind.

    ``name`` is what ``needs`` of others call it; ``needs`` are names in the same list that have to be done
    before. ``tries`` counts all of them, 0 for the kind's own number; ``pause`` are seconds before the
    second one, doubled each time; ``timeout`` bounds one try in seconds. 0 stands for the default.
    ``every`` is how often it happens while a run is under way, in seconds; it has a meaning there alone.
    """

    name: str = ""
    needs: tuple[str, ...] = ()
    tries: int = 0
    pause: float = 0.0
    timeout: float = 0.0
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class Contents:
    """What an action takes from a run: artifacts (glob patterns), pinned dataset versions (names) and more.

    ``code`` is the repository at the run's commit; ``templates`` are small text files of the repository that
    are filled in, by their places there.
    """

    files: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    report: bool = False
    metrics: bool = False
    code: bool = False
    templates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeployAction:
    """Put a release on a server, or on all servers of an environment: exactly one of the two is named."""

    server: str = ""
    files: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    report: bool = False
    environment: str = ""
    metrics: bool = False
    code: bool = False
    templates: tuple[str, ...] = ()
    rule: Rule = Rule()
    kind: str = "deploy"

    @property
    def contents(self) -> Contents:
        """What the release holds. Apart in rows written since the first version, hence no field."""
        return Contents(self.files, self.data, self.report, self.metrics, self.code, self.templates)


@dataclass(frozen=True, slots=True)
class RollbackAction:
    """Put a release back that was live before: ``release`` names it, empty the one before the live one."""

    server: str = ""
    environment: str = ""
    release: str = ""
    rule: Rule = Rule()
    kind: str = "rollback"


@dataclass(frozen=True, slots=True)
class EmailAction:
    """Mail the report. ``to`` holds addresses, ``author`` for the commit's author, or ``list:NAME`` for a
    list of the configuration.
    """

    to: tuple[str, ...]
    always: bool = False
    """Also where nothing changed: a pass after a pass that nothing was deployed for."""
    rule: Rule = Rule()
    kind: str = "email"


@dataclass(frozen=True, slots=True)
class GitAction:
    """Commit results to a branch, or tag the run's commit, in a watched repository.

    ``source`` names it; exactly one of ``branch`` and ``tag`` is given. ``folder`` is where the contents go.
    """

    source: str
    branch: str = ""
    tag: str = ""
    folder: str = ""
    message: str = ""
    contents: Contents = Contents()
    rule: Rule = Rule()
    kind: str = "git"


@dataclass(frozen=True, slots=True)
class UploadAction:
    """Put results into a bucket of ``store``, which the administrator configured, under ``prefix``."""

    store: str
    prefix: str = ""
    contents: Contents = Contents()
    rule: Rule = Rule()
    kind: str = "upload"


@dataclass(frozen=True, slots=True)
class ContainerAction:
    """Keep a container of ``service``, which the administrator configured, running with the results in it."""

    service: str
    contents: Contents = Contents()
    rule: Rule = Rule()
    kind: str = "container"


@dataclass(frozen=True, slots=True)
class WebhookAction:
    """Tell ``hook``, an address that the administrator configured, of the run."""

    hook: str
    rule: Rule = Rule()
    kind: str = "webhook"


@dataclass(frozen=True, slots=True)
class GithubAction:
    """Say what became of the run where the change was proposed.

    ``comment``: ``always``, ``changed`` (only where the word differs from the last one told) or ``never``.
    """

    status: bool = True
    comment: str = "always"
    rule: Rule = Rule()
    kind: str = "github"


@dataclass(frozen=True, slots=True)
class CommandAction:
    """Run a shell command in a fresh container of a runner, with the results in its working folder."""

    command: str
    runner: str = ""
    contents: Contents = Contents()
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    rule: Rule = Rule()
    kind: str = "command"


@dataclass(frozen=True, slots=True)
class ExecAction:
    """Start ``program``, an executable of the administrator's, with the run's JSON on standard input."""

    program: str
    rule: Rule = Rule()
    kind: str = "exec"


ActionSpec = (
    DeployAction
    | RollbackAction
    | EmailAction
    | GitAction
    | UploadAction
    | ContainerAction
    | WebhookAction
    | GithubAction
    | CommandAction
    | ExecAction
)

SPECS: dict[str, type[ActionSpec]] = {
    "deploy": DeployAction,
    "rollback": RollbackAction,
    "email": EmailAction,
    "git": GitAction,
    "upload": UploadAction,
    "container": ContainerAction,
    "webhook": WebhookAction,
    "github": GithubAction,
    "command": CommandAction,
    "exec": ExecAction,
}
"""The kinds by their names."""


def place_of(spec: ActionSpec) -> str:
    """Where an action takes effect, in a few words: a server, addresses, a program."""
    match spec:
        case DeployAction() | RollbackAction():
            return spec.environment or spec.server
        case EmailAction():
            return ", ".join(spec.to)
        case GitAction():
            return f"{spec.source} {'tag' if spec.tag else 'branch'} {spec.tag or spec.branch}"
        case UploadAction():
            return f"{spec.store}/{spec.prefix}" if spec.prefix else spec.store
        case ContainerAction():
            return spec.service
        case WebhookAction():
            return spec.hook
        case GithubAction():
            return "GitHub"
        case CommandAction():
            return spec.command
        case ExecAction():
            return spec.program


def told(spec: ActionSpec) -> str:
    """What an action will do, as one line."""
    match spec:
        case DeployAction() | GitAction() | UploadAction() | ContainerAction():
            return f"{spec.kind} to {place_of(spec)}: {', '.join(_named(spec.contents)) or 'nothing'}"
        case EmailAction():
            return f"mail to {place_of(spec)}"
        case RollbackAction():
            return f"roll {place_of(spec)} back to {spec.release or 'the release before'}"
        case WebhookAction() | CommandAction() | ExecAction():
            return f"{spec.kind} {place_of(spec)}"
        case GithubAction():
            said = ["a status"] * spec.status + ["a comment"] * (spec.comment != "never")
            return f"tell GitHub: {' and '.join(said) or 'nothing'}"


def _named(contents: Contents) -> tuple[str, ...]:
    return (
        *contents.files,
        *(f"data {name}" for name in contents.data),
        *(["the report"] if contents.report else []),
        *(["the metrics"] if contents.metrics else []),
        *(["the code"] if contents.code else []),
        *contents.templates,
    )
