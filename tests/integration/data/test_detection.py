"""From a change of data elsewhere to runs: the whole configuration, a real database, real Git and servers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.bootstrap.application import Application
from orchestrator.bootstrap.configured import read_configuration
from orchestrator.domain.change import Cause
from orchestrator.domain.errors import DatasetError, DatasetUnavailable
from orchestrator.domain.run import Run
from tests.support.dataweb import DataWeb, Served
from tests.support.git import GitRepository
from tests.support.remotedata import contents

OLD, NEW = "Mon, 02 Nov 2026 10:00:00 GMT", "Mon, 02 Nov 2026 11:00:00 GMT"


class Watching:
    """A pipeline over a repository and two datasets of the web: one with ETags, one with a marker."""

    def __init__(self, app: Application, web: DataWeb) -> None:
        self.app = app
        self.web = web
        self.pipeline = app.pipeline("wine")

    def put(self, name: str, content: bytes, etag: str, modified: str = OLD) -> None:
        self.web.files[f"/{name}"] = Served(content, etag=f'"{etag}"', modified=modified)

    def look(self) -> tuple[list[Run], list[str]]:
        """Look at everything once, as a server does: the runs that this made, and what went wrong."""
        runs, troubles = [], []
        for source in self.pipeline.sources:
            runs += self.app.detector.poll_source(self.pipeline, source)
        for dataset in self.pipeline.datasets:
            try:
                runs += self.app.detector.scan_dataset(self.pipeline, dataset)
            except DatasetError as error:
                troubles.append(str(error))
        return runs, troubles

    def files_of(self, run: Run, name: str) -> dict[str, bytes]:
        """What the run would get of a dataset."""
        dataset, version = self.pipeline.dataset_named(name), run.change.version_of(name)
        assert dataset is not None
        assert version is not None
        entries = self.app.store.detection.manifest(dataset, version.fingerprint)
        return contents(self.app.datasets, dataset, entries)


@pytest.fixture
def watching(web: DataWeb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    repository = GitRepository.create(tmp_path)
    repository.commit({"train.py": "print(1)\n"})
    config = tmp_path / "config"
    files = {
        "orchestrator.yaml": "storage: {path: ../var}\n",
        "runners/cpu.yaml": "runner: cpu\nimage: mlci/base:1\n",
        "pipelines/wine.yaml": f"""\
            pipeline: wine
            source: {{git: {repository.url}, settle: 0s}}
            datasets:
              wine:
                url: {web.url}/wine.csv
                token: "${{{{ env.DATA_TOKEN }}}}"
                allow_private: true
                settle: 0s
              labels: {{url: "{web.url}/labels", files: [a, b], marker: _SUCCESS, allow_private: true}}
            run: {{runner: cpu, command: python train.py}}
            """,
    }
    for name, text in files.items():
        (config / name).parent.mkdir(parents=True, exist_ok=True)
        (config / name).write_text(textwrap.dedent(text))
    monkeypatch.setenv("DATA_TOKEN", "d4t4-t0ken")
    with closing(Application(read_configuration(config))) as app:
        made = Watching(app, web)
        made.put("wine.csv", b"1", "1")
        for name in ("a", "b"):
            made.put(f"labels/{name}", b"1", "1")
        web.files["/labels/_SUCCESS"] = Served(modified=OLD)
        yield made


def test_each_change_makes_one_run_and_no_change_none(watching: Watching) -> None:
    (first,), _ = watching.look()
    assert first.change.cause is Cause.FIRST_SIGHT
    assert watching.look() == ([], [])
    watching.put("wine.csv", b"2", "2")
    (second,), _ = watching.look()
    assert second.change.cause is Cause.DATA
    assert watching.files_of(second, "wine") == {"wine.csv": b"2"}
    assert watching.look() == ([], [])


def test_half_written_data_make_no_run_until_they_are_whole(watching: Watching) -> None:
    watching.look()
    watching.put("labels/a", b"2", "2", NEW)
    assert watching.look() == ([], [])
    watching.put("labels/b", b"2", "2", NEW)
    assert watching.look() == ([], [])
    watching.web.files["/labels/_SUCCESS"] = Served(modified=NEW)
    (run,), _ = watching.look()
    assert watching.files_of(run, "labels") == {"a": b"2", "b": b"2"}


def test_deleted_data_make_no_run_and_stop_no_other_dataset(watching: Watching) -> None:
    watching.look()
    del watching.web.files["/wine.csv"]
    watching.put("labels/a", b"2", "2", OLD)
    runs, troubles = watching.look()
    assert runs == []
    # That of the labels needs the wine as well, and is made as soon as it is back.
    assert {trouble.partition(":")[0] for trouble in troubles} == {"dataset wine"}
    assert "/wine.csv is not there: the server answers 404" in troubles[0]
    watching.put("wine.csv", b"1", "1")
    (run,), _ = watching.look()
    assert watching.files_of(run, "labels") == {"a": b"2", "b": b"1"}
    assert watching.look() == ([], [])


def test_logins_go_to_the_server_and_nowhere_else(watching: Watching) -> None:
    (run,), _ = watching.look()
    shown = {seen.headers.get("Authorization") for seen in watching.web.seen if seen.target == "/wine.csv"}
    assert shown == {"Bearer d4t4-t0ken"}
    assert "d4t4-t0ken" not in repr(watching.app.store.runs.definition(run.id))
    assert b"d4t4-t0ken" not in b"".join(
        path.read_bytes() for path in watching.app.state.rglob("*") if path.is_file()
    )


def test_a_run_is_never_given_what_came_after_it(watching: Watching) -> None:
    (run,), _ = watching.look()
    watching.put("wine.csv", b"2", "2")
    with pytest.raises(DatasetError, match="the server has another one by now"):
        watching.files_of(run, "wine")


def test_a_secret_that_has_no_value_is_a_message_on_the_dataset(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.look()
    monkeypatch.delenv("DATA_TOKEN")
    _, troubles = watching.look()
    assert any("dataset wine: " in trouble and "DATA_TOKEN" in trouble for trouble in troubles)


def test_data_are_unavailable_and_not_changed_while_their_server_is_out_of_order(watching: Watching) -> None:
    watching.look()
    watching.web.files["/wine.csv"] = Served(status=503)
    with pytest.raises(DatasetUnavailable, match="is not to be had now: the server answers 503"):
        watching.app.detector.scan_dataset(watching.pipeline, watching.pipeline.datasets[0])
    watching.put("wine.csv", b"1", "1")
    assert watching.look() == ([], [])
