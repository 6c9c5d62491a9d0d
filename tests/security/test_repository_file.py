"""A repository's own YAML with the administrator's power: it has none beyond what was granted by name."""

from __future__ import annotations

import pytest

from orchestrator.config.models.dataset import FolderDataset
from orchestrator.config.models.repository import Grant, Repository
from orchestrator.config.repository import Granted, RepositoryFile, read_repository_file

PIPELINE = "pipeline: quality\nrun: {runner: cpu, command: python train.py%s}\n"
SECRET = "not-for-them-4711"


def judged(text: str | bytes) -> RepositoryFile:
    grant = Grant.model_validate({"runners": ["cpu"], "servers": ["theirs"], "secrets": ["GRANTED"]})
    source = Repository.model_validate({"git": "https://example.org/wine.git"})
    data = {"of-others": FolderDataset.model_construct(path="/data/others")}
    granted = Granted("wine", source, grant, data, has_email=True)
    return read_repository_file(text if isinstance(text, bytes) else text.encode(), granted)


def test_the_plain_file_is_fine() -> None:
    assert set(judged(PIPELINE % "").pipelines) == {"wine.quality"}


@pytest.mark.parametrize(
    "text",
    [
        PIPELINE % "" + "source: {git: /etc}\n",
        PIPELINE % "" + "source: {github: acme/other, token: '${{ env.GITHUB_TOKEN }}'}\n",
        PIPELINE % "" + "source: {ssh: {identity_file: /root/.ssh/id_ed25519}}\n",
        PIPELINE % "" + "source: {branches: ['**'], pull_requests: {trusted: [666]}}\n",
        PIPELINE % "" + "datasets: {a: {path: /etc}}\n",
        PIPELINE % "" + "datasets: {a: {url: 'http://169.254.169.254/latest/meta-data'}}\n",
        PIPELINE % "" + "datasets: {of-others: {}}\n",
        PIPELINE % "" + "datasets: [of-others]\n",
        PIPELINE % "" + "deploy_branches: ['*']\n",
        PIPELINE % "" + "hosts: {mine: {engine: unix:///var/run/docker.sock}}\n",
        PIPELINE % "" + "grants: {wine: {secrets: [ALL]}}\n",
        PIPELINE % "" + "actions: {pass: [{deploy: {server: prod, files: ['*']}}]}\n",
        PIPELINE % "" + "actions: {pass: [{deploy: {server: theirs, files: ['../../etc/passwd']}}]}\n",
        PIPELINE % "" + "actions: {pass: [{command: rm -rf /}]}\n",
        PIPELINE % "" + "actions: {pass: [{command: {run: rm -rf /}}]}\n",
        PIPELINE % "" + "actions: {start: [{webhook: chat}]}\n",
        PIPELINE % "" + "actions: {start: [{exec: notify}]}\n",
        PIPELINE % "" + "actions: {pass: [{upload: {store: models}}]}\n",
        PIPELINE % "" + "actions: {pass: [{git: {source: code, branch: main}}]}\n",
        PIPELINE % "" + "actions: {pass: [{container: {service: api}}]}\n",
        PIPELINE % "" + "actions: {pass: [{deploy: {environment: prod, files: ['*']}}]}\n",
        PIPELINE % "" + "actions: {fail: [{email: {to: [everybody@example.com]}}]}\n",
        PIPELINE % ", secrets: [GITHUB_TOKEN]",
        PIPELINE % ", env: {A: '${{ env.GITHUB_TOKEN }}'}",
        PIPELINE % ", env: {A: '${{ file:/etc/shadow }}'}",
        PIPELINE % ", env: {A: '${{ secrets.GRANTED }}'}",
        PIPELINE % ", setup: {run: 'echo ${{ env.GITHUB_TOKEN }}', key: [a]}",
        PIPELINE % ", setup: {run: make, key: [/etc/passwd]}",
        PIPELINE % ", env: {MLCI_COMMIT: another}",
        (PIPELINE % "").replace("runner: cpu", "runner: root-on-the-host"),
        (PIPELINE % "").replace("quality", "../../other.quality"),
        (PIPELINE % "").replace("python train.py", "echo ${{ env.GITHUB_TOKEN }}"),
    ],
)
def test_what_reaches_beyond_the_grant_runs_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_TOKEN", "GRANTED"):
        monkeypatch.setenv(name, SECRET)
    result = judged(text)
    assert result.pipelines == {}
    assert result.errors != ()
    assert SECRET not in " ".join(map(str, result.problems))


def test_one_bad_document_takes_all_of_the_file_with_it() -> None:
    assert judged(PIPELINE % "" + "---\npipeline: b\nrun: {runner: gpu, command: make}\n").pipelines == {}


def test_a_file_of_many_pipelines_or_bytes_is_refused() -> None:
    many = "---\n".join(f"pipeline: p{n}\nrun: {{runner: cpu, command: make}}\n" for n in range(51))
    assert "51 documents" in str(judged(many).errors[0])
    assert judged((PIPELINE % "").encode() + b"#" * 300_000).pipelines == {}
    assert judged(b"---\n" * 100_000).pipelines == {}


def test_a_tag_that_would_make_an_object_is_refused() -> None:
    assert judged("!!python/object/apply:os.system ['true']\n").pipelines == {}
