"""What happens in the demo: a person changes code and data, and the product answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.demo import workshop as people
from orchestrator.demo.console import Terminal
from orchestrator.demo.docker_cli import docker
from orchestrator.demo.errors import DemoFailed
from orchestrator.demo.mailbox import Mail, Mailbox
from orchestrator.demo.product import Facts, Follower, Product
from orchestrator.demo.production import Production
from orchestrator.demo.workshop import Workshop

_SETTLED = frozenset({"done", "failed", "skipped", "cancelled"})
_CANDIDATE = re.compile(r"candidate (\d+)/(\d+)")
_KILL_AT = 8
"""The candidate that the long training has reached when the server is killed."""


@dataclass(frozen=True)
class Expected:
    """What must come of one change."""

    cause: str
    state: str
    word: str
    commit: str
    deployed: bool


@dataclass(frozen=True)
class Chapter:
    """One change, and what came of it. ``live`` is the release on the server afterwards, empty for none."""

    expected: Expected
    run: Facts
    mails: tuple[Mail, ...]
    live: str

    @property
    def id(self) -> int:
        return int(self.run["id"])

    @property
    def title(self) -> str:
        return f"{self.run['pipeline']} #{self.run['number']}"

    @property
    def deployments(self) -> list[Facts]:
        return list(self.run["deployments"])


@dataclass
class Story:
    """Tells the story, chapter by chapter; each one waits until the product has done all it should."""

    terminal: Terminal
    workshop: Workshop
    product: Product
    production: Production
    mailbox: Mailbox
    second_harvest: str
    """The rows that come later, as a CSV file."""
    chapters: list[Chapter] = field(default_factory=list)
    _seen: Facts | None = None

    def tell(self) -> None:
        """All of it. Raises DemoFailed where the product does not do what it should."""
        terminal = self.terminal
        with terminal.phase("1  The first commit: nothing to compare with yet"):
            sha = self._push(people.FIRST)
            self._start()
            self._judged(Expected("first_sight", "passed", "passed", sha, deployed=True))
        with terminal.phase("2  A worse commit"):
            sha = self._push(people.WORSE)
            self._judged(Expected("push", "rejected", "broken", sha, deployed=False))
        with terminal.phase("3  A commit that crashes"):
            sha = self._push(people.CRASHING)
            self._judged(Expected("push", "failed", "failed", sha, deployed=False))
        with terminal.phase("4  A better commit"):
            sha = self._push(people.BETTER)
            self._judged(Expected("push", "passed", "fixed", sha, deployed=True))
        with terminal.phase("5  New data, no commit"):
            harvest = self.workshop.data / "second-harvest.csv"
            harvest.write_text(self.second_harvest)
            terminal.say(f"{len(self.second_harvest.splitlines()) - 1} more wines in {harvest}")
            self._judged(Expected("data", "passed", "passed", sha, deployed=True))
        with terminal.phase("6  kill -9 of the server while a longer training runs"):
            sha = self._push(people.SEARCH)
            self._judged(Expected("push", "passed", "passed", sha, deployed=True), killing=True)

    def _push(self, commit: people.Commit) -> str:
        sha = self.workshop.push(commit)
        self.terminal.say(f'{commit.author} pushes {sha[:7]} "{commit.message}"')
        return sha

    def _start(self) -> None:
        self.product.start()
        self.terminal.wait_for("the server", self.product.ready, 30)
        self.terminal.say(f"orchestrator serve answers at {self.product.url}")

    def _judged(self, expected: Expected, *, killing: bool = False) -> None:
        """Wait for the run of the change just made, until everything that it owes is done."""
        known = {chapter.id for chapter in self.chapters}
        fresh = self.terminal.wait_for("a run to appear", lambda: self._new_run(known), 30)
        run_id, reference = int(fresh["id"]), str(fresh["reference"])
        with self.product.follow(run_id) as log:
            if killing:
                self._kill_while_training(run_id, log)
                self._start()
            run = self.terminal.wait_for(
                f"{reference} to end",
                lambda: self._ended(run_id, log),
                180,
                now=lambda: log.lines[-1] if log.lines else "getting ready",
                run=run_id,
            )
        self.terminal.say(
            f"{reference} {run['word']}: {run['headline']}",
            style="green" if run["state"] == "passed" else "red",
        )
        if (run["state"], run["word"]) != (expected.state, expected.word):
            raise DemoFailed(
                f"{reference} should be {expected.state} ({expected.word}), "
                f"and is {run['state']} ({run['word']}): {run['headline']}",
                run=run_id,
            )
        owed = "deployment and mail" if expected.deployed else "mail"
        run = self.terminal.wait_for(
            f"the {owed} of {reference}", lambda: self._settled(run_id), 90, now=self._owing, run=run_id
        )
        mails = tuple(self.mailbox.about(f"{run['pipeline']} #{run['number']}"))
        chapter = Chapter(expected, run, mails, self.production.current())
        self.chapters.append(chapter)
        self.workshop.engine_note.write_text(engine_prefix(chapter))
        for deployment in chapter.deployments:
            self.terminal.say(
                f"release {deployment['release']} on {deployment['server']}: {deployment['state']}"
            )
        for mail in chapter.mails:
            self.terminal.say(f"mail: {mail.subject}")

    def _new_run(self, known: set[int]) -> Facts | None:
        self.product.check_alive()
        return next((row for row in self.product.runs() if int(row["id"]) not in known), None)

    def _ended(self, run_id: int, log: Follower) -> Facts | None:
        self.product.check_alive()
        return self.product.run(run_id) if log.ended else None

    def _settled(self, run_id: int) -> Facts | None:
        self.product.check_alive()
        self._seen = run = self.product.run(run_id)
        acted = run["actions"] and all(action["state"] in _SETTLED for action in run["actions"])
        mailed = run["mails"] and all(mail["state"] != "pending" for mail in run["mails"])
        return run if acted and mailed else None

    def _owing(self) -> str:
        run = self._seen or {}
        acts = [f"{action['key']} {action['state']}" for action in run.get("actions", [])]
        return ", ".join([*acts, *(f"mail {mail['state']}" for mail in run.get("mails", []))])

    def _kill_while_training(self, run_id: int, log: Follower) -> None:
        reached = self.terminal.wait_for(
            f"candidate {_KILL_AT} of {people.CANDIDATES}",
            lambda: max((n for n in candidates_in(log.lines) if n >= _KILL_AT), default=None),
            90,
            now=lambda: log.lines[-1] if log.lines else "getting ready",
            run=run_id,
        )
        self.product.kill()
        killed = datetime.now(UTC)
        container = str(self.product.run(run_id)["attempts"][0]["container"])
        state = docker("inspect", "--format", "{{.State.Running}} {{.State.FinishedAt}}", container)
        running, _, finished = state.decode().strip().partition(" ")
        # Looking took a moment, in which a short training may have come to its end by itself.
        went_on = running == "true" or datetime.fromisoformat(finished) > killed
        self.terminal.say(
            f"kill -9 at candidate {reached}; the training's container goes on: {str(went_on).lower()}",
            "yellow",
        )
        if not went_on:
            raise DemoFailed(f"the training in {container} was over before the server was killed", run=run_id)


def candidates_in(log: list[str]) -> list[int]:
    """The numbers of the candidates that a training's log speaks of, in its order."""
    return [int(found[1]) for line in log if (found := _CANDIDATE.search(line))]


def engine_prefix(chapter: Chapter) -> str:
    """How the names of the containers and volumes of this installation begin."""
    container = str(chapter.run["attempts"][0]["container"])
    return container.partition("attempt-")[0]
