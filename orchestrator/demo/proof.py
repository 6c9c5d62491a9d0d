"""What the demo checks at its end, on the server, in the mailbox and in the logs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.demo import workshop as people
from orchestrator.demo.docker_cli import docker, run_python
from orchestrator.demo.mailbox import Mail, Mailbox
from orchestrator.demo.product import Product
from orchestrator.demo.production import Production
from orchestrator.demo.story import Chapter, candidates_in, engine_prefix
from orchestrator.demo.workshop import PROJECT, Workshop


@dataclass(frozen=True)
class Check:
    """Something that must be so, and what was found."""

    what: str
    holds: bool
    found: str = ""


@dataclass
class Proof:
    """All checks, on what the story left behind."""

    workshop: Workshop
    product: Product
    production: Production
    mailbox: Mailbox
    chapters: list[Chapter]
    image: str
    """The runner's image, in which the deployed model is tried."""

    def checks(self) -> Iterator[Check]:
        """Every check, as it is made."""
        yield self._one_run_per_change()
        yield self._rejected_by_comparison()
        yield self._nothing_rejected_is_live()
        yield from self._mails()
        yield from self._releases()
        yield from self._killed_training()
        yield self._nothing_left_on_the_host()

    @property
    def prefix(self) -> str:
        """How the names of everything begin that this installation made on the host."""
        return engine_prefix(self.chapters[0])

    def _one_run_per_change(self) -> Check:
        made = [(run["cause"], run["commit"]) for run in self.product.runs()]
        wanted = [(chapter.expected.cause, chapter.expected.commit) for chapter in self.chapters]
        causes = ", ".join(cause for cause, _ in made)
        return Check("exactly one run for each change", made == wanted, f"{len(made)} runs: {causes}")

    def _rejected_by_comparison(self) -> Check:
        rejected = next(chapter for chapter in self.chapters if chapter.expected.state == "rejected")
        outcomes = {str(check["check"]): str(check["outcome"]) for check in rejected.run["checks"]}
        found = ", ".join(f"{check}: {outcome}" for check, outcome in outcomes.items())
        holds = list(outcomes.values()) == ["pass", "fail"]
        return Check("the worse commit met the limit, and was rejected by the comparison", holds, found)

    def _nothing_rejected_is_live(self) -> Check:
        live, wrong = "", []
        for chapter in self.chapters:
            switched = chapter.live != live
            if switched != chapter.expected.deployed or switched != bool(chapter.deployments):
                wrong.append(chapter.title)
            live = chapter.live
        found = (
            f"wrong: {', '.join(wrong)}" if wrong else "rejected and failed runs left the live one as it was"
        )
        return Check("each passed run went live, and no other did", not wrong, found)

    def _mails(self) -> Iterator[Check]:
        counts = {chapter.title: len(self.mailbox.about(chapter.title)) for chapter in self.chapters}
        total = len(self.mailbox.mails)
        one_each = all(count == 1 for count in counts.values()) and total == len(self.chapters)
        yield Check("one mail for each run", one_each, f"{total} mails for {len(self.chapters)} runs")
        wrong = [
            mail.subject
            for chapter in self.chapters
            for mail in self.mailbox.about(chapter.title)
            if not mail.subject.startswith(
                tuple(f"[{people.PIPELINE}] {chapter.expected.word}{end}" for end in ":,")
            )
        ]
        words = ", ".join(chapter.expected.word for chapter in self.chapters)
        yield Check("their subjects carry the news", not wrong, "; ".join(wrong) or words)
        crashed = next(chapter for chapter in self.chapters if chapter.expected.state == "failed")
        cause = "KeyError: 'flavonoids'"
        told = any(cause in mail.text() and "Traceback" in mail.text() for mail in self._about(crashed))
        yield Check("the mail about the crash names its cause and shows the traceback", told, cause)

    def _about(self, chapter: Chapter) -> list[Mail]:
        return self.mailbox.about(chapter.title)

    def _releases(self) -> Iterator[Check]:
        deployed = [chapter for chapter in self.chapters if chapter.expected.deployed]
        names = [str(deployment["release"]) for chapter in deployed for deployment in chapter.deployments]
        there = self.production.releases()
        yield Check("the server keeps every release, one for each", there == names, ", ".join(there))
        last = deployed[-1]
        current = self.production.current()
        yield Check("the last one is live", [current] == names[-1:], f"current -> {current}")
        files = self.production.files(current)
        hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        artifacts = {a["path"]: a["sha256"] for a in last.run["attempts"][-1]["artifacts"]}
        data = {
            f"data/wine/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.workshop.data.glob("*.csv")
        }
        wanted = {name: artifacts.get(name) for name in ("model.joblib", "metrics.json")} | data
        differing = [path for path, digest in wanted.items() if hashes.get(path) != digest]
        yield Check(
            "its model, metrics and data are the run's, by SHA-256",
            not differing,
            f"differing: {', '.join(differing)}" if differing else f"{len(wanted)} files compared",
        )
        yield self._manifest(last, files, hashes)
        yield self._prediction(files)

    def _manifest(self, last: Chapter, files: dict[str, bytes], hashes: dict[str, str]) -> Check:
        manifest = json.loads(files.get("release.json", b"{}"))
        listed = {path: entry["sha256"] for path, entry in manifest.get("files", {}).items()}
        rest = {path: digest for path, digest in hashes.items() if path != "release.json"}
        holds = (
            manifest.get("run") == last.id
            and manifest.get("commit") == last.expected.commit
            and manifest.get("metrics") == json.loads(files.get("metrics.json", b"{}"))
            and listed == rest
        )
        found = f"run {manifest.get('run')}, commit {str(manifest.get('commit'))[:7]}, {len(listed)} files"
        return Check("release.json names its run, commit, metrics and every file", holds, found)

    def _prediction(self, files: dict[str, bytes]) -> Check:
        """The deployed model, in a fresh container, on wines that it never saw."""
        wines = (self.workshop.test_data / "wines.csv").read_bytes()
        given = {f"release/{path}": content for path, content in files.items()} | {"wines.csv": wines}
        script = (PROJECT / "predict.py.txt").read_text()
        told = json.loads(run_python(self.image, script, "/demo/release", "/demo/wines.csv", files=given))
        reached = told["right"] / told["wines"]
        promised = json.loads(files["metrics.json"])["accuracy"]
        found = (
            f"{told['right']} of {told['wines']} right: {reached:.4f}, and metrics.json says {promised:.4f}"
        )
        return Check(
            "the live model predicts as well as it was measured", abs(reached - promised) < 1e-9, found
        )

    def _killed_training(self) -> Iterator[Check]:
        last = self.chapters[-1]
        numbers = candidates_in(self.product.log_of(last.id))
        whole = list(range(1, people.CANDIDATES + 1))
        lines = f"candidates {numbers[0]} to {numbers[-1]}, {len(numbers)} lines" if numbers else "no lines"
        yield Check("the log of the killed server's training is complete", numbers == whole, lines)
        attempts = last.run["attempts"]
        deployments = last.deployments
        yield Check(
            "it trained once, and was deployed once",
            len(attempts) == 1 and len(deployments) == 1,
            f"{len(attempts)} attempt, {len(deployments)} deployment",
        )

    def _nothing_left_on_the_host(self) -> Check:
        left = (
            docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"name=^{self.prefix}")
            .decode()
            .split()
        )
        return Check("no container of a run is left on the host", not left, ", ".join(left) or "none")
