"""GitHub as a Forge, and as a look at refs that costs nothing while nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from orchestrator.adapters.github import comments, marks
from orchestrator.adapters.github.account import Account, Accounts, AppKey
from orchestrator.adapters.github.client import Client
from orchestrator.adapters.github.reading import Json, at, items_of, moment_at, number_at, text_at
from orchestrator.adapters.github.trouble import reaching, refusal
from orchestrator.domain.change import PullRequest, Refs
from orchestrator.domain.errors import NotFound, SecretMissing, SourceRefused
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.forge import Comment, CommitStatus, Quota
from orchestrator.ports.world import Clock

if TYPE_CHECKING:
    from github.Auth import Auth

    from orchestrator.adapters.github.app import App

_HEADS: Final = "refs/heads/"
_TAGS: Final = "refs/tags/"
_WRITERS: Final = ("admin", "maintain", "write")
_SINGLY: Final = 10
"""From how many new tags with a message on the list with all their commits is read."""
_ACCOUNTS: Final = 256
_REMEMBERED: Final = 20_000
_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class _Ref:
    """A ref as the API lists it; ``repository`` is what its address calls the repository."""

    name: str
    kind: str
    sha: str
    repository: str


class GitHub:
    """Forge of the sources that name a repository on GitHub. Thread-safe. Seconds: ``timeout`` of a request.

    ``accounts`` finds who asks; ``learned`` is told each token that GitHub issues, to have it masked.
    """

    def __init__(
        self,
        accounts: Accounts,
        clock: Clock,
        learned: Callable[[str], None] = lambda token: None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._learned = learned
        self._timeout = timeout
        self._lock = threading.Lock()
        self._clients: dict[tuple[Account, int], Client] = {}
        self._apps: dict[Account, App] = {}
        self._commits: dict[str, str] = {}

    def knows(self, source: SourceSpec) -> bool:
        """Whether the source is on GitHub and the configuration says who asks there."""
        return bool(source.github) and self._account(source) is not None

    def refs(self, source: SourceSpec) -> Refs:
        """All branches; the tags that are watched; the open pull requests of a source that watches them."""
        client = self._client(source)
        return Refs(
            branches={
                ref.name.removeprefix(_HEADS): ref.sha for ref in self._listed(client, source, "heads")
            },
            tags=self._tags(client, source) if source.tags else {},
            pulls=self._pulls(client, source) if source.pull_requests is not None else (),
        )

    def pull(self, source: SourceSpec, number: int) -> PullRequest:
        """An open pull request as it is now."""
        body = self._one(source, f"pulls/{number}")
        if body is not None:
            with _understanding(source):
                found = _pull(body)
                if at(body, "state") == "open":
                    return found
        raise NotFound(f"{source.github} has no open pull request #{number}")

    def may_write(self, source: SourceSpec, login: str, user_id: int) -> bool:
        """Whether that user may push to the repository."""
        body = self._one(source, f"collaborators/{quote(login, safe='')}/permission")
        # A login may be somebody else's by now, and it is not said of whom the API speaks otherwise.
        same = user_id > 0 and at(body, "user", "id") == user_id
        return same and at(body, "permission") in _WRITERS

    def set_status(self, source: SourceSpec, status: CommitStatus) -> str:
        """Put a mark on a commit. RevisionGone when GitHub knows no such commit."""
        client, account = self._client(source), self._required(source)
        if account.app is None:
            return marks.set_status(client, source.github, _path(source), status)
        return marks.set_check(client, source.github, _path(source), status, account.app.id)

    def read_comment(self, source: SourceSpec, comment: int) -> Comment:
        """A comment by its id."""
        body = self._one(source, f"issues/comments/{comment}")
        if body is None:
            raise NotFound(f"{source.github} has no comment {comment}")
        with _understanding(source):
            number = urlsplit(text_at(body, "issue_url")).path.rpartition("/")[2]
            author = at(body, "user")
            return Comment(
                number_at(body, "id"),
                int(number) if number.isdigit() else 0,
                text_at(author, "login") if author is not None else "",
                number_at(author, "id") if author is not None else 0,
                text_at(body, "body"),
                moment_at(body, "created_at"),
            )

    def comment(self, source: SourceSpec, number: int, text: str) -> str:
        """Write under a pull request; the comment's id."""
        return comments.post(self._client(source), source.github, _path(source), number, text)

    def change_comment(self, source: SourceSpec, comment: str, text: str) -> bool:
        """Let a comment say something else. False when it is not there any more."""
        return comments.change(self._client(source), source.github, _path(source), comment, text)

    def own_comment(self, source: SourceSpec, number: int, marker: str) -> str:
        """The first comment there that we wrote and that begins with ``marker``; empty when there is none."""
        client, app = self._client(source), self._required(source).app
        is_ours = comments.by_user(client, source.github) if app is None else comments.by_app(app.id)
        return comments.own(client, source.github, _path(source), number, marker, is_ours)

    def pulls_of(self, source: SourceSpec, commit: str) -> Sequence[int]:
        """The open pull requests, by number, whose newest commit that is."""
        path = f"{_path(source)}/commits/{commit}/pulls"
        answer = self._client(source).get(source.github, path, (404, 422), per_page="100")
        if answer.status != 200:
            return ()
        with _understanding(source):
            return tuple(
                number_at(pull, "number")
                for pull in items_of(answer.body)
                if at(pull, "state") == "open" and text_at(pull, "head", "sha") == commit
            )

    def quota(self, source: SourceSpec) -> Quota | None:
        """What the last answers told; None before the first, and where nobody asks."""
        account = self._account(source) if source.github else None
        if account is None:
            return None
        app = self._apps.get(account)
        installation = app.installation_of(source.github) if app is not None else 0
        client = None if installation is None else self._clients.get((account, installation))
        return None if client is None else client.quota

    def git_token(self, source: SourceSpec) -> str:
        """What git logs in with over https; empty without an account."""
        account = self._account(source) if source.github else None
        if account is None:
            return ""
        if account.app is None:
            return account.token
        return self._app(account, account.app).token_for_git(source.github).token

    def _listed(self, client: Client, source: SourceSpec, kind: str) -> tuple[_Ref, ...]:
        """All refs of a kind, which come in one answer."""
        found = client.read(source.github, f"{_path(source)}/git/matching-refs/{kind}", _refs)
        other = next((r.repository for r in found if r.repository.casefold() != source.github.casefold()), "")
        if other:
            # The old name leads there only until somebody else takes it.
            raise SourceRefused(
                f"{source.github} was renamed: it is {other} now", f"github: {other} under source:"
            )
        return tuple(ref for ref in found if ref.name.startswith(f"refs/{kind}/"))

    def _tags(self, client: Client, source: SourceSpec) -> dict[str, str]:
        """Each watched tag with its commit, which of a tag with a message has to be asked for, once."""
        watched = self._watched_tags(client, source)
        unknown = [
            name for name, ref in watched.items() if ref.kind == "tag" and ref.sha not in self._commits
        ]
        if len(unknown) > _SINGLY:
            listed = dict(client.read_all(source.github, f"{_path(source)}/tags", _tag))
            # The list has commits without the objects: it tells of those tags that did not move meanwhile.
            after = self._watched_tags(client, source)
            for name in unknown:
                if name in listed and after.get(name) == watched[name]:
                    self._remember(watched[name].sha, listed[name])
        found: dict[str, str] = {}
        for name, ref in watched.items():
            commit = ref.sha if ref.kind == "commit" else self._peeled(client, source, ref.kind, ref.sha)
            if commit:
                found[name] = commit
        return found

    def _watched_tags(self, client: Client, source: SourceSpec) -> dict[str, _Ref]:
        named = {ref.name.removeprefix(_TAGS): ref for ref in self._listed(client, source, "tags")}
        return {name: ref for name, ref in named.items() if source.watches_tag(name)}

    def _peeled(self, client: Client, source: SourceSpec, kind: str, sha: str) -> str:
        """The commit behind a tag's object; empty when there is something else behind it."""
        first = sha
        if first in self._commits:
            return self._commits[first]
        while kind == "tag":
            body = client.get(source.github, f"{_path(source)}/git/tags/{sha}").body
            with _understanding(source):
                kind, sha = text_at(body, "object", "type"), text_at(body, "object", "sha")
        self._remember(first, sha if kind == "commit" else "")
        return sha if kind == "commit" else ""

    def _remember(self, tag: str, commit: str) -> None:
        with self._lock:
            self._commits[tag] = commit
            while len(self._commits) > _REMEMBERED:
                self._commits.pop(next(iter(self._commits)))

    def _pulls(self, client: Client, source: SourceSpec) -> tuple[PullRequest, ...]:
        path = f"{_path(source)}/pulls"
        order = {"state": "open", "sort": "created", "direction": "asc"}
        found = client.read_all(source.github, path, _pull, **order)
        return tuple({pull.number: pull for pull in found}.values())

    def _one(self, source: SourceSpec, path: str) -> Json:
        """One thing of a repository; None when there is none. SourceRefused when the repository is gone."""
        client = self._client(source)
        answer = client.get(source.github, f"{_path(source)}/{path}", allowed=(404,))
        if answer.status != 404:
            return answer.body
        if client.get(source.github, _path(source), allowed=(404,)).status == 404:
            raise refusal(404, answer.headers, answer.body, source.github)
        return None

    def _client(self, source: SourceSpec) -> Client:
        account = self._required(source)
        if account.app is None:
            from github.Auth import Token

            return self._kept(account, 0, lambda: self._connected(account, Token(account.token)))
        app = self._app(account, account.app)
        token = app.token_for(source.github)

        def lost() -> None:
            token.drop()
            app.forget(source.github)

        return self._kept(account, token.installation, lambda: self._connected(account, token, lost))

    def _connected(self, account: Account, auth: Auth, lost: Callable[[], None] = lambda: None) -> Client:
        return Client(account.api_url, auth, self._clock, self._timeout, lost)

    def _kept(self, account: Account, installation: int, make: Callable[[], Client]) -> Client:
        with self._lock:
            if (account, installation) not in self._clients:
                self._clients[account, installation] = make()
                while len(self._clients) > _ACCOUNTS:
                    self._clients.pop(next(iter(self._clients)))
            return self._clients[account, installation]

    def _app(self, account: Account, key: AppKey) -> App:
        from orchestrator.adapters.github.app import App

        with self._lock:
            if account not in self._apps:
                self._apps[account] = App(account.api_url, key, self._clock, self._timeout, self._learned)
            return self._apps[account]

    def _account(self, source: SourceSpec) -> Account | None:
        try:
            return self._accounts(source)
        except SecretMissing as error:
            raise SourceRefused(
                f"cannot ask GitHub for {source.name}: {error.message}", error.remedy
            ) from error

    def _required(self, source: SourceSpec) -> Account:
        account = self._account(source)
        if account is None:
            raise SourceRefused(
                f"nobody is logged in to GitHub for {source.github}",
                "github: {token: …} in orchestrator.yaml, or token: at the source",
            )
        return account


def _path(source: SourceSpec) -> str:
    return f"/repos/{quote(source.github)}"


def _understanding(source: SourceSpec) -> AbstractContextManager[None]:
    return reaching("GitHub", source.github)


def _refs(body: Json) -> tuple[_Ref, ...]:
    return tuple(
        _Ref(
            text_at(ref, "ref"),
            text_at(ref, "object", "type"),
            text_at(ref, "object", "sha"),
            "/".join(text_at(ref, "url").partition("/repos/")[2].split("/")[:2]),
        )
        for ref in items_of(body)
    )


def _tag(body: Json) -> tuple[str, str]:
    return text_at(body, "name"), text_at(body, "commit", "sha")


def _pull(body: Json) -> PullRequest:
    repository, author = at(body, "head", "repo"), at(body, "user")
    # Of a fork that was deleted nothing is said; neither of an author who left.
    fork = repository is None or number_at(repository, "id") != number_at(body, "base", "repo", "id")
    return PullRequest(
        number=number_at(body, "number"),
        base=text_at(body, "base", "ref"),
        commit=text_at(body, "head", "sha"),
        branch=text_at(body, "head", "ref"),
        repository=text_at(repository, "full_name") if repository is not None else "",
        fork=fork,
        author=text_at(author, "login") if author is not None else "",
        author_id=number_at(author, "id") if author is not None else 0,
        title=text_at(body, "title"),
        draft=at(body, "draft") is True,
        owner_id=number_at(repository, "owner", "id") if repository is not None else 0,
    )
