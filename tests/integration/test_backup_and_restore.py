"""A backup taken while runs really execute, and gone on with in another database and another folder."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import NotFound
from docker.models.containers import Container

from orchestrator.store import open_store
from tests.support.git import GitRepository
from tests.support.installation import Installation, removed_afterwards
from tests.support.postgres import PostgresServer
from tests.support.smtp import SmtpServer
from tests.support.waiting import wait_until

PATIENCE = 90.0
TRAIN = """\
import json, os, time
print("waiting", flush=True)
while not os.path.exists("/tmp/go"):
    time.sleep(0.1)
json.dump({"accuracy": 0.8}, open("metrics.json", "w"))
open("model.txt", "w").write("model\\n")
"""


@pytest.fixture
def line(
    tmp_path: Path,
    git_repository: GitRepository,
    smtp_server: SmtpServer,
    docker_engine: docker.DockerClient,
    base_image: str,
) -> Iterator[Installation]:
    """A pipeline whose trainings end when they are told to."""
    made = Installation(tmp_path, git_repository, smtp_server, None, base_image)
    made.pipeline = {
        "source": {"git": git_repository.url, "branches": ["main", "try/*"], "poll": "1s", "settle": "0s"},
        "gate": {"checks": ["accuracy >= 0.5"]},
    }
    with removed_afterwards(made, docker_engine):
        yield made


class Trainings:
    """The containers of attempts on the engine."""

    def __init__(self, client: docker.DockerClient, line: Installation) -> None:
        self._client = client
        self._line = line

    def of(self, attempt: int) -> Container | None:
        """An attempt's container, if it is there."""
        instance = self._line.instance()
        labels = [f"mlci.instance={instance}", f"mlci.attempt={attempt}", "mlci.role=attempt"]
        with contextlib.suppress(NotFound):
            found = self._client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
            return found[0] if found else None
        return None

    def at_work(self, attempt: int) -> Container:
        """Wait until an attempt's training has begun."""

        def waits() -> Container | None:
            found = self.of(attempt)
            try:
                return found if found is not None and b"waiting" in found.logs() else None
            except NotFound:
                return None

        return wait_until(waits, f"attempt {attempt} to be at work", PATIENCE)

    def newer(self, than: int, count: int) -> list[int]:
        """Wait for containers of attempts with greater numbers; their attempts' numbers."""

        def there() -> list[int] | None:
            labels = [f"mlci.instance={self._line.instance()}", "mlci.role=attempt"]
            listed = self._client.containers.list(filters={"label": labels}, ignore_removed=True)
            found = sorted(n for c in listed if (n := int(c.labels["mlci.attempt"])) > than)
            return found if len(found) == count else None

        return wait_until(there, f"{count} attempts after {than}", PATIENCE)

    def let_go(self, attempt: int) -> None:
        """Let an attempt's training end."""
        assert self.at_work(attempt).exec_run(["touch", "/tmp/go"]).exit_code == 0


def restored(line: Installation, backup: str, storage: dict[str, str]) -> None:
    line.main = {"storage": storage}
    line.write()
    line.orchestrator("db", "restore", backup)


def test_a_backup_of_running_trainings_goes_on_in_postgresql_and_in_another_folder(
    line: Installation,
    docker_engine: docker.DockerClient,
    postgres_server: PostgresServer,
    smtp_server: SmtpServer,
) -> None:
    trainings = Trainings(docker_engine, line)
    line.repository.commit({"train.py": TRAIN}, "Wait")
    first = line.serve()
    container = trainings.at_work(1)
    backup = line.orchestrator("db", "backup", str(line.folder)).strip()
    # What comes now is not in the backup.
    line.repository.switch("try/it")
    line.repository.commit({"more.txt": "more\n"}, "Try it")
    stranger = trainings.at_work(2)
    first.kill()

    with postgres_server.database() as name:
        url = postgres_server.url(name)
        restored(line, backup, {"path": "../moved", "database": url})
        second = line.serve()
        # The branch is seen again, under ids that nobody had; what had its old ids has no twin.
        (later,) = trainings.newer(2, 1)
        assert trainings.at_work(later).id != stranger.id
        wait_until(lambda: trainings.of(2) is None, "the container of a lost run to be removed", PATIENCE)
        kept = trainings.of(1)
        assert kept is not None
        assert kept.id == container.id

        # The database goes away in the middle of both runs, which end before it is back.
        postgres_server.container.kill("SIGKILL")
        for attempt in (1, later):
            trainings.let_go(attempt)
        wait_until(
            lambda: "the database did not answer" in second.log.read_text(),
            "the outage to be noticed",
            PATIENCE,
        )
        postgres_server.container.start()
        postgres_server.wait_until_it_answers()
        line.wait_for_mails(2, PATIENCE)
        assert second.terminate() == 0
        runs = line.json("runs", "list")
        assert [(run["number"], run["state"]) for run in runs] == [(2, "passed"), (1, "passed")]
        assert runs[0]["id"] > 2
        with contextlib.closing(open_store(url, create=False)) as store:
            (only,) = store.attempts.of_run(1)
            assert only.container_id == container.id
        password = url.partition("orchestrator:")[2].partition("@127.0.0.1")[0]
        assert password not in second.log.read_text()

    restored(line, backup, {"path": "../third"})
    third = line.serve()
    # Its container ended and was removed under another database: lost, and tried again, once.
    for attempt in trainings.newer(later, 2):
        trainings.let_go(attempt)
    line.wait_for_mails(4, PATIENCE)
    assert third.terminate() == 0
    shown = line.json("runs", "show", "1")
    assert [(a["state"], a["reason"]) for a in shown["attempts"]] == [
        ("errored", "lost"),
        ("succeeded", "completed"),
    ]
    # What the backup knew of is done again under its key; the commit that it did not know made new runs.
    assert sorted(Counter(m.message["Message-ID"] for m in smtp_server.messages).values()) == [1, 1, 2]
