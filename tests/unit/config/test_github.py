"""`github:` of orchestrator.yaml, as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config.models.github import GitHub
from tests.support.configuration import ENVIRON, MAIN, PIPELINE, ConfigFolder


@pytest.fixture
def folder(tmp_path: Path) -> ConfigFolder:
    return ConfigFolder(tmp_path)


def test_a_token_and_a_webhook_secret_are_references_that_nothing_shows(folder: ConfigFolder) -> None:
    folder.write(
        "orchestrator.yaml",
        MAIN + 'github: {token: "${{ env.GITHUB_TOKEN }}", webhook_secret: "made-up-hook-secret"}\n',
    )
    loaded = folder.load({**ENVIRON, "GITHUB_TOKEN": "made-up-token-value"}).configuration
    assert loaded is not None
    github = loaded.orchestrator.github
    assert github is not None
    assert github.token is not None
    for shown in (repr(github), github.model_dump_json(), str(github)):
        assert "made-up" not in shown


def test_a_reference_to_nothing_is_told(folder: ConfigFolder) -> None:
    (problem,) = folder.problems_of_main(MAIN + 'github: {token: "${{ env.GITHUB_TOKEN }}"}\n')
    assert problem.startswith("8:17: the environment variable GITHUB_TOKEN is not set")


def test_an_app_has_an_id_and_a_key(folder: ConfigFolder) -> None:
    folder.write("app.pem", "made-up-key")
    text = 'github: {app: {id: 12345, private_key: "${{ file:app.pem }}", installation: 6789}}\n'
    assert folder.problems_of_main(MAIN + text) == []
    by_client_id = text.replace("12345", "Iv23liEXAMPLE")
    assert folder.problems_of_main(MAIN + by_client_id) == []


def test_token_and_app_together_are_refused(folder: ConfigFolder) -> None:
    text = "github: {token: x, app: {id: 1, private_key: y}}\n"
    (problem,) = folder.problems_of_main(MAIN + text)
    assert "both token and app are given" in problem


@pytest.mark.parametrize(
    ("api", "web"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.github.com/", "https://github.com"),
        ("https://github.example.org/api/v3", "https://github.example.org"),
        ("https://github.example.org:8443/api/v3/", "https://github.example.org:8443"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com"),
        ("http://127.0.0.1:8000/api/v3", "http://127.0.0.1:8000"),
    ],
)
def test_pages_and_clones_are_beside_the_api(api: str, web: str) -> None:
    assert GitHub.model_validate({"api_url": api}).web_url == web


@pytest.mark.parametrize(
    ("api", "meant"),
    [
        ("https://github.com", "https://api.github.com"),
        ("https://github.example.org", "https://github.example.org/api/v3"),
        ("http://github.example.org/api/v3", "https://github.example.org/api/v3"),
        ("https://user:made-up@github.example.org/api/v3", "token: or app: beside it"),
        ("ftp://github.example.org", "https://HOST/api/v3"),
        ("https://[github", "https://HOST/api/v3"),
        ("github.example.org", "https://HOST/api/v3"),
    ],
)
def test_what_is_no_api_is_refused_with_what_was_meant(folder: ConfigFolder, api: str, meant: str) -> None:
    (problem,) = folder.problems_of_main(MAIN + f'github: {{api_url: "{api}"}}\n')
    assert meant in problem
    assert "made-up" not in problem


@pytest.mark.parametrize(
    ("source", "github"),
    [
        ("{github: acme/wine}", ""),
        ("{github: acme/wine, pull_requests: false}", ""),
        ("{github: acme/wine, pull_requests: true, token: '${{ env.WANDB_API_KEY }}'}", ""),
        (
            "{github: acme/wine, pull_requests: {drafts: true}}",
            "github: {token: '${{ env.WANDB_API_KEY }}'}\n",
        ),
        ("{github: acme/wine, pull_requests: true}", "github: {app: {id: 1, private_key: y}}\n"),
    ],
)
def test_pull_requests_that_can_be_seen_are_no_problem(
    folder: ConfigFolder, source: str, github: str
) -> None:
    folder.write("orchestrator.yaml", MAIN + github)
    assert folder.problems_of_pipeline(PIPELINE.replace("{git: https://example.org/wine.git}", source)) == []


@pytest.mark.parametrize("github", ["", "github: {webhook_secret: x}\n"])
def test_pull_requests_that_nobody_may_ask_for_are_told(folder: ConfigFolder, github: str) -> None:
    folder.write("orchestrator.yaml", MAIN + github)
    source = "{github: acme/wine, pull_requests: true}"
    (problem,) = folder.problems_of_pipeline(PIPELINE.replace("{git: https://example.org/wine.git}", source))
    assert problem == (
        "2:44: pull requests cannot be seen: orchestrator.yaml has no login at GitHub; expected "
        "github: {token: …} in orchestrator.yaml, or token: at the source"
    )


def test_pull_requests_of_repositories_with_a_file_of_their_own_need_a_login_as_well(
    folder: ConfigFolder,
) -> None:
    repositories = "repositories: {team: {github: acme/wine, pull_requests: true}}\n"
    (problem,) = folder.problems_of_main(MAIN + repositories)
    assert "pull requests of team cannot be seen: there is no login at GitHub" in problem
    assert (
        folder.problems_of_main(MAIN + repositories + "github: {token: '${{ env.WANDB_API_KEY }}'}\n") == []
    )


def test_pages_are_public_only_where_their_address_is(folder: ConfigFolder) -> None:
    (problem,) = folder.problems_of_main(MAIN + "web: {public: true}\n")
    assert "nothing says where the pages are public" in problem
    assert folder.problems_of_main(MAIN + 'web: {public: true, url: "https://ci.example.org"}\n') == []


def test_a_hook_says_how_its_chat_is_told(folder: ConfigFolder) -> None:
    hook = 'hooks: {{chat: {{url: "https://chat.example.org/x", format: {}}}}}\n'
    for form in ("json", "slack", "teams", "discord", "mattermost"):
        assert folder.problems_of_main(MAIN + hook.format(form)) == []
    (problem,) = folder.problems_of_main(MAIN + hook.format("irc"))
    assert "format" in problem or "irc" in problem
