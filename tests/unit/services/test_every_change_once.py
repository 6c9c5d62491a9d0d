"""Every change is run once, whichever servers look when, and wherever they are killed."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.domain.change import Cause, PullRequest
from orchestrator.domain.pipeline import DatasetSpec, Pipeline, PullRequestRules, SourceSpec
from orchestrator.domain.run import Run, RunState
from orchestrator.ports.store import Store
from orchestrator.ports.world import DatasetSource, SourceControl
from orchestrator.services.detect import Detector
from orchestrator.store import SqlStore, open_store
from tests.support.turns import Stepped, Turn
from tests.unit.services.worlds import FakeData, FakeSources, ManualClock, pipeline

SERVERS = 3
BRANCHES = ("main", "side")
PULL = "refs/pull/7/head"


@dataclass
class Server:
    """A process that watches: it does one thing at a time, and remembers nothing when it is killed."""

    detector: Detector = field(init=False)
    turn: Turn | None = None

    def start(self, store: SqlStore, sources: FakeSources, data: FakeData, clock: ManualClock) -> None:
        """A new process."""

        def now() -> Turn | None:
            return self.turn

        stepped = SimpleNamespace(
            detection=Stepped(store.detection, now), runs=Stepped(store.runs, now), journal=store.journal
        )
        self.detector = Detector(
            cast(Store, stepped),
            cast(SourceControl, Stepped(sources, now)),
            cast(DatasetSource, Stepped(data, now)),
            clock,
        )


class Servers(RuleBasedStateMachine):
    """Pushes, tags, writes of data, looks and kills in any order."""

    store: ClassVar[SqlStore]
    number: ClassVar[int] = 0
    source_rules: ClassVar[dict[str, object]] = {}

    @initialize()
    def begin(self) -> None:
        type(self).number += 1
        self.clock = ManualClock()
        self.sources = FakeSources()
        self.data = FakeData(self.clock)
        dataset = DatasetSpec("wine", f"/data/{self.number}", settle=0)
        source = SourceSpec("repo", "/repo", ("*",), tags=("*",), pull_requests=PullRequestRules())
        self.watched: Pipeline = pipeline(
            name=f"p{self.number}",
            sources=(replace(source, **self.source_rules),),  # type: ignore[arg-type]
            datasets=(dataset,),
        )
        self.servers = [Server() for _ in range(SERVERS)]
        for server in self.servers:
            self.restart(server)
        self.poll(self.servers[0])
        self.history: dict[str, list[str | None]] = {"main": [self.sources.branches["main"]]}
        self.written = [self.data.snapshot(dataset, (), print).fingerprint]
        self.words = 0

    @rule(branch=st.sampled_from(BRANCHES), rewrite=st.booleans())
    def push(self, branch: str, rewrite: bool) -> None:
        self.words += 1
        commit = self.sources.push(
            branch, f"{self.number} {self.words}", rewrite=rewrite and not self.source_rules
        )
        self.history.setdefault(branch, []).append(commit)

    @rule()
    def push_back(self) -> None:
        """The commit that was there before comes back."""
        before = self.history["main"][-2:][0]
        assert before is not None
        if not self.source_rules and before != self.sources.branches["main"]:
            self.sources.branches["main"] = before
            self.history["main"].append(before)

    @precondition(lambda self: "side" in self.sources.branches)
    @rule()
    def delete(self) -> None:
        del self.sources.branches["side"]
        self.history["side"].append(None)

    @rule(tag=st.sampled_from(("v1", "v2")))
    def tag(self, tag: str) -> None:
        commit = self.sources.branches["main"]
        if self.sources.tags.get(tag) != commit:
            self.sources.tags[tag] = commit
            self.history.setdefault(f"refs/tags/{tag}", []).append(commit)

    @rule(is_open=st.booleans())
    def pull(self, is_open: bool) -> None:
        """A stranger opens a pull request, adds to it, or closes it."""
        if not is_open:
            if self.sources.pulls:
                self.sources.pulls = []
                self.history[PULL].append(None)
            return
        self.words += 1
        commit = self.sources.push("stranger/main", f"{self.number} {self.words}")
        del self.sources.branches["stranger/main"]
        self.sources.pulls = [PullRequest(7, "main", commit, fork=True, author_id=5, owner_id=5)]
        self.history.setdefault(PULL, []).append(commit)

    @rule(content=st.sampled_from((b"1", b"2", b"3")))
    def write(self, content: bytes) -> None:
        self.data.write("rows.csv", content)
        (dataset,) = self.watched.datasets
        self.written.append(self.data.snapshot(dataset, (), print).fingerprint)

    @precondition(lambda self: any(not server.turn or server.turn.done for server in self.servers))
    @rule(index=st.integers(0, SERVERS - 1), data=st.booleans())
    def look(self, index: int, data: bool) -> None:
        server = self.servers[index]
        if server.turn is None or server.turn.done:
            self.raise_defects(server)
            act = self.scan if data else self.poll
            server.turn = Turn(lambda: act(server))

    @rule(content=st.sampled_from((b"1", b"2", b"3")), data=st.booleans())
    def overtake(self, content: bytes, data: bool) -> None:
        """Something changes, and one server sees it at once, whatever the others are in the middle of."""
        if data:
            self.write(content)
        else:
            self.push("main", False)
        server = self.servers[0]
        if server.turn is not None:
            server.turn.finish()
            self.raise_defects(server)
            server.turn = None
        (self.scan if data else self.poll)(server)

    @precondition(lambda self: any(server.turn for server in self.servers))
    @rule(index=st.integers(0, SERVERS - 1), steps=st.integers(1, 12))
    def step(self, index: int, steps: int) -> None:
        server = self.servers[index]
        for _ in range(steps):
            if server.turn is not None:
                server.turn.step()

    @precondition(lambda self: any(server.turn for server in self.servers))
    @rule(index=st.integers(0, SERVERS - 1))
    def kill(self, index: int) -> None:
        server = self.servers[index]
        if server.turn is not None:
            server.turn.kill()
            self.raise_defects(server)
            self.restart(server)

    @precondition(lambda self: "settle" in self.source_rules)
    @rule(seconds=st.sampled_from((1, 5, 11)))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    def teardown(self) -> None:
        if not hasattr(self, "servers"):
            return
        for server in self.servers:
            if server.turn is not None:
                server.turn.finish()
                self.raise_defects(server)
            server.turn = None
        for _ in range(4):
            # Not before the second look has anything been still.
            for server in self.servers:
                self.poll(server)
                self.scan(server)
            self.clock.advance(60)
        self.judge()

    def judge(self) -> None:
        """What was to be seen was run, and nothing twice."""
        runs = list(reversed(self.store.runs.listing(self.watched.name, limit=1000)))
        assert [run.number for run in runs] == list(range(1, len(runs) + 1))
        assert len({run.change.key for run in runs}) == len(runs)
        now = dict(self.sources.branches)
        now |= {f"refs/tags/{tag}": commit for tag, commit in self.sources.tags.items()}
        now |= {pull.ref: pull.commit for pull in self.sources.pulls}
        waiting = [run for run in runs if run.state is RunState.AWAITING_APPROVAL]
        shown = [run.change.revision.commit for run in waiting]
        assert shown == [pull.commit for pull in self.sources.pulls], "not what is to be approved"
        for ref, history in self.history.items():
            made = [
                run
                for run in runs
                if run.change.revision.branch == ref and run.change.cause is not Cause.DATA
            ]
            self.judge_ref(ref, history, [run.change.revision.commit for run in made], now.get(ref))
        self.judge_data([run for run in runs if run.change.revision.branch == "main"])

    def judge_ref(self, ref: str, history: list[str | None], run: list[str], now: str | None) -> None:
        left = iter(history)
        assert all(commit in left for commit in run), f"{ref}: {run} were not pushed in this order: {history}"
        if now is not None:
            assert run, f"{ref}: never run"
            assert run[-1] == now, f"{ref}: {now} was lost"
        if None not in history:
            assert all(one != other for one, other in pairwise(run)), f"{ref}: run twice"
        if self.source_rules.get("every_commit") and None not in history and ref == "main":
            assert run == history

    def judge_data(self, runs: list[Run]) -> None:
        used = [run.change.datasets[0].fingerprint for run in runs]
        changes = used[:1] + [new for old, new in pairwise(used) if new != old]
        left = iter(self.written)
        assert all(fingerprint in left for fingerprint in changes), "data were run in another order"
        for before, run in pairwise(runs):
            if run.change.cause is Cause.DATA:
                assert before.change.datasets != run.change.datasets, "the same data made two runs"
        newest = runs[-1]
        assert newest.change.revision.commit == self.sources.branches["main"]
        assert used[-1] == self.written[-1], "a change of data was lost"
        assert newest.change.datasets[0].fingerprint == self.written[-1], (
            "what is there now was never run together"
        )

    def restart(self, server: Server) -> None:
        server.start(self.store, self.sources, self.data, self.clock)
        server.turn = None

    def poll(self, server: Server) -> None:
        server.detector.poll_source(self.watched, self.watched.sources[0])

    def scan(self, server: Server) -> None:
        server.detector.scan_dataset(self.watched, self.watched.datasets[0])

    def raise_defects(self, server: Server) -> None:
        if server.turn is not None and server.turn.error is not None:
            raise server.turn.error


@pytest.mark.parametrize(
    "rules",
    [{}, {"settle": 10.0}, {"every_commit": True}],
    ids=["each look", "bursts", "each commit"],
)
def test_every_change_runs_once_whoever_looks_and_wherever_they_are_killed(
    template: Path, rules: dict[str, object]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(template, Path(folder) / "db.sqlite")
        store = open_store(f"sqlite:///{folder}/db.sqlite")
        machine = type("Watching", (Servers,), {"store": store, "source_rules": rules})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=12,
                    phases=(Phase.generate,),
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    database=None,
                ),
            )
        finally:
            store.close()
