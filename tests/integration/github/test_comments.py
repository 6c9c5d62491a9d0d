"""Our own comments under pull requests: made, changed and found again, and never taken for another's."""

from __future__ import annotations

import pytest

from orchestrator.domain.errors import NotFound, SourceRefused, SourceUnavailable
from tests.integration.github.conftest import Watched

MARKER = "<!-- mlci report 0123 wine -->"


def opened(watched: Watched) -> int:
    base = watched.repository.push()
    watched.repository.push("topic", onto=base)
    return watched.repository.pull_request("topic").number


@pytest.mark.parametrize("by_app", [False, True])
def test_a_comment_is_made_changed_and_found_again_by_its_marker(watched: Watched, by_app: bool) -> None:
    number = opened(watched)
    if by_app:
        watched.as_app()
    github = watched.github()
    assert github.own_comment(watched.spec, number, MARKER) == ""
    made = github.comment(watched.spec, number, f"{MARKER}\nqueued")
    assert github.change_comment(watched.spec, made, f"{MARKER}\npassed")
    (comment,) = watched.repository.comments
    assert (str(comment.id), comment.body) == (made, f"{MARKER}\npassed")
    assert watched.github().own_comment(watched.spec, number, MARKER) == made


@pytest.mark.parametrize("by_app", [False, True])
def test_a_marker_that_somebody_else_wrote_is_not_ours(watched: Watched, by_app: bool) -> None:
    number = opened(watched)
    watched.repository.comment(number, f"{MARKER}\nlook at me", by="eve")
    if by_app:
        watched.as_app()
    assert watched.github().own_comment(watched.spec, number, MARKER) == ""


def test_a_comment_is_found_among_hundreds(watched: Watched) -> None:
    number = opened(watched)
    for index in range(130):
        watched.repository.comment(number, f"word {index}", by="ana")
    github = watched.github()
    made = github.comment(watched.spec, number, f"{MARKER}\nreport")
    assert github.own_comment(watched.spec, number, MARKER) == made


def test_a_comment_that_was_deleted_is_told_apart(watched: Watched) -> None:
    number = opened(watched)
    github = watched.github()
    made = github.comment(watched.spec, number, "words")
    watched.repository.comments.clear()
    assert not github.change_comment(watched.spec, made, "other words")


def test_a_comment_where_there_is_no_pull_request_is_told_from_a_repository_that_is_gone(
    watched: Watched,
) -> None:
    with pytest.raises(NotFound, match="no pull request #9"):
        watched.github().comment(watched.spec, 9, "words")
    watched.hub.fault("/repos/acme/wine", 404, body={"message": "Not Found"})
    with pytest.raises(SourceRefused, match="may not see it"):
        watched.github().comment(watched.spec, 9, "words")


def test_open_pull_requests_of_a_commit_are_found_by_their_newest_commit(watched: Watched) -> None:
    repository = watched.repository
    number = opened(watched)
    topic = repository.branch("topic")
    assert watched.github().pulls_of(watched.spec, topic) == (number,)
    assert watched.github().pulls_of(watched.spec, "0" * 40) == ()
    repository.push("topic")
    assert watched.github().pulls_of(watched.spec, topic) == ()
    repository.close(number)
    assert watched.github().pulls_of(watched.spec, repository.branch("topic")) == ()


def test_a_comment_at_a_forge_that_is_out_of_order_is_for_later(watched: Watched) -> None:
    number = opened(watched)
    watched.hub.fault("POST .*/comments", 502)
    with pytest.raises(SourceUnavailable, match="out of order"):
        watched.github().comment(watched.spec, number, "words")
