"""Links to commits are made for forges that are known, and never hold what one logs in with."""

from __future__ import annotations

import pytest

from orchestrator.domain.forge_pages import commit_page, compare_page
from orchestrator.domain.pipeline import SourceSpec

OLD, NEW = "a" * 40, "b" * 40


@pytest.mark.parametrize(
    ("location", "page"),
    [
        ("https://github.com/acme/wine.git", f"https://github.com/acme/wine/commit/{NEW}"),
        ("https://x-token:s3cret@github.com/acme/wine", f"https://github.com/acme/wine/commit/{NEW}"),
        ("git@github.com:acme/wine.git", f"https://github.com/acme/wine/commit/{NEW}"),
        ("ssh://git@gitlab.com:22/acme/sub/wine.git", f"https://gitlab.com/acme/sub/wine/-/commit/{NEW}"),
        ("https://gitlab.example.org/acme/wine", f"https://gitlab.example.org/acme/wine/-/commit/{NEW}"),
        ("https://bitbucket.org/acme/wine.git", f"https://bitbucket.org/acme/wine/commits/{NEW}"),
        ('https://github.com/acme/"><script>', f"https://github.com/acme/%22%3E%3Cscript%3E/commit/{NEW}"),
        ("https://git.example.org/acme/wine", ""),
        ("/srv/git/wine", ""),
        ("C:\\git\\wine", ""),
        ("file:///srv/git/wine", ""),
        ("https://[github.com/acme", ""),
        ("", ""),
    ],
)
def test_a_commit_is_linked_where_its_forge_is_known(location: str, page: str) -> None:
    assert commit_page(SourceSpec("wine", location), NEW, "https://github.com") == page


def test_a_source_of_github_is_linked_at_the_server_that_is_configured() -> None:
    source = SourceSpec("wine", "https://git.example.org/acme/wine", github="acme/wine")
    server = "https://git.example.org/"
    assert commit_page(source, NEW, server) == f"https://git.example.org/acme/wine/commit/{NEW}"
    assert (
        compare_page(source, OLD, NEW, server) == f"https://git.example.org/acme/wine/compare/{OLD}...{NEW}"
    )


def test_what_is_no_commit_is_not_linked() -> None:
    source = SourceSpec("wine", "https://github.com/acme/wine")
    assert commit_page(source, "main", "https://github.com") == ""
    assert compare_page(source, "../..", NEW, "https://github.com") == ""
