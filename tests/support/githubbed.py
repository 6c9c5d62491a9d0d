"""Installations that watch a repository on the GitHub stand-in, told by its webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.domain.run import Run, RunState
from orchestrator.ports.store import Store
from orchestrator.store import open_store
from tests.support.github import GitHubStandIn, Hook, Repository
from tests.support.installation import TRAIN, Installation, Server
from tests.support.waiting import wait_until

SECRET = "what-GitHub-signs-with-4711"


@dataclass
class Watching:
    """A server that watches acme/wine with the token of ``ci-bot``; polls are so rare that none comes."""

    hub: GitHubStandIn
    repository: Repository
    installation: Installation
    token: str
    server: Server
    hook: Hook
    store: Store

    def runs(self, branch: str | None = None) -> list[Run]:
        """Runs, oldest first."""
        return sorted(self.store.runs.listing(branch=branch), key=lambda run: run.id)

    def wait_for_run(self, commit: str, branch: str = "main", state: RunState | None = None) -> Run:
        """The newest run of a commit, once there is one, and once it is in that state."""

        def found() -> Run | None:
            runs = [run for run in self.runs(branch) if run.change.revision.commit == commit]
            return runs[-1] if runs and state in (None, runs[-1].state) else None

        return wait_until(found, f"a run of {commit[:8]} on {branch} ({state or 'any'})", 60)

    def wait_for_status(self, commit: str, state: str, context: str = "mlci/line") -> None:
        """Return once a commit says so."""
        wait_until(lambda: self.repository.status_of(commit).get(context) == state, f"the status {state}", 60)


def files(accuracy: float = 0.9) -> dict[str, str]:
    """What a repository needs to be trained."""
    return {"train.py": TRAIN, "accuracy.txt": f"{accuracy}\n"}


@contextmanager
def watch(hub: GitHubStandIn, installation: Installation, own: str = "") -> Iterator[Watching]:
    """Watch acme/wine, whose first run is enqueued when this begins.

    With ``own``, its own file says what runs, and the pipeline ``line`` watches another repository.
    """
    repository = hub.repository("acme/wine")
    content = files() | ({".mlci.yaml": own} if own else {})
    first = repository.push("main", content, message="Begin")
    token = hub.token("ci-bot")
    repository.permissions["ci-bot"] = "write"
    secrets = installation.folder / "secrets"
    secrets.mkdir(mode=0o700)
    for name, value in {"token": token, "hook": SECRET}.items():
        (secrets / name).write_text(f"{value}\n")
        (secrets / name).chmod(0o600)
    installation.main |= {
        "github": {
            "api_url": hub.api_url,
            "token": f"${{{{ file:{secrets / 'token'} }}}}",
            "webhook_secret": f"${{{{ file:{secrets / 'hook'} }}}}",
        }
    }
    if not own:
        source = {"github": "acme/wine", "pull_requests": True, "poll": "1h", "settle": "0s"}
        installation.pipeline |= {"source": source}
    installation.write()
    server = installation.serve()
    hook = hub.hook(repository, f"{server.url}/webhooks/github", SECRET)
    store = open_store(f"sqlite:///{installation.folder / 'var' / 'orchestrator.db'}", create=False)
    try:
        made = Watching(hub, repository, installation, token, server, hook, store)
        made.wait_for_run(first)
        yield made
    finally:
        store.close()
