"""Comments under pull requests at GitHub: made, changed, and found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orchestrator.adapters.github.client import Client
from orchestrator.adapters.github.reading import Json, at, number_at, text_at
from orchestrator.adapters.github.trouble import reaching, refusal
from orchestrator.domain.errors import NotFound
from orchestrator.domain.markdown import cut

LENGTH: Final = 65_536
"""Characters that GitHub takes."""
_GONE: Final = (404, 410)


@dataclass(frozen=True, slots=True)
class _Found:
    id: str
    ours: bool


def post(client: Client, what: str, repository: str, number: int, text: str) -> str:
    """Write under a pull request; the comment's id. NotFound when there is no such pull request."""
    made = client.post(
        what, f"{repository}/issues/{number}/comments", {"body": cut(text, LENGTH)}, allowed=_GONE
    )
    if made.status in _GONE:
        if client.get(what, repository, allowed=_GONE).status in _GONE:
            raise refusal(made.status, made.headers, made.body, what)
        raise NotFound(f"{what} has no pull request #{number}")
    with reaching(client.host, what):
        return str(number_at(made.body, "id"))


def change(client: Client, what: str, repository: str, comment: str, text: str) -> bool:
    """Replace what a comment says; False when it is not there."""
    path = f"{repository}/issues/comments/{comment}"
    return client.patch(what, path, {"body": cut(text, LENGTH)}, allowed=_GONE).status not in _GONE


def own(
    client: Client, what: str, repository: str, number: int, marker: str, is_ours: Callable[[Json], bool]
) -> str:
    """The first comment that is ours and begins with a marker; its id, empty when there is none."""

    def shape(body: Json) -> _Found:
        marked = text_at(body, "body").startswith(marker)
        return _Found(str(number_at(body, "id")), marked and is_ours(body))

    found = client.read_all(what, f"{repository}/issues/{number}/comments", shape)
    return next((comment.id for comment in found if comment.ours), "")


def by_user(client: Client, what: str) -> Callable[[Json], bool]:
    """Whether the owner of our token wrote a comment. Anybody can write a marker, and has the right to."""
    me = client.read(what, "/user", lambda body: number_at(body, "id"))
    return lambda comment: at(comment, "user", "id") == me


def by_app(app: str) -> Callable[[Json], bool]:
    """Whether the App with that ID or client ID wrote a comment."""

    def is_ours(comment: Json) -> bool:
        author = at(comment, "performed_via_github_app")
        return app in (str(at(author, "id")), at(author, "client_id"))

    return is_ours
