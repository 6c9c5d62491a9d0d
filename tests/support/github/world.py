"""What the stand-in knows: people, repositories with real Git behind them, pull requests, marks, comments."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.support.github.plumbing import NOTHING, commit, git, init, packed


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class User:
    """A person, an organisation or a bot. The id never changes."""

    id: int
    login: str
    kind: str = "User"


@dataclass(frozen=True)
class RefChange:
    """What a push did to one ref."""

    repository: Repository
    ref: str
    before: str
    after: str
    forced: bool
    by: User


@dataclass
class Pull:
    """A pull request."""

    id: int
    number: int
    base: Repository
    base_ref: str
    head: Repository | None
    head_ref: str
    sha: str
    author: User
    title: str
    draft: bool = False
    state: str = "open"
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    comments: list[Comment] = field(default_factory=list)


@dataclass
class Comment:
    """A comment, as it is now. ``app`` is the App that wrote it; ``history`` has each text that it had."""

    id: int
    number: int
    author: User
    body: str
    created_at: str
    app: int | None = None
    history: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """A commit status, as it was set."""

    id: int
    sha: str
    state: str
    context: str
    description: str | None
    target_url: str | None
    creator: User
    created_at: str


@dataclass
class CheckRun:
    """A check run, as it is now. ``history`` has each ``(status, conclusion)`` that it had."""

    id: int
    app_id: int
    sha: str
    name: str
    status: str
    conclusion: str | None = None
    details_url: str | None = None
    external_id: str = ""
    title: str | None = None
    summary: str | None = None
    started_at: str = field(default_factory=now)
    completed_at: str | None = None
    history: list[tuple[str, str | None]] = field(default_factory=list)


class Repository:
    """A repository. Its branches and tags are those of the bare one at ``path``, whoever writes there."""

    def __init__(self, world: World, identity: int, owner: User, name: str, path: Path) -> None:
        self.world = world
        self.id = identity
        self.owner = owner
        self.name = name
        self.path = path
        self.private = False
        self.default_branch = "main"
        self.parent: Repository | None = None
        self.permissions: dict[str, str] = {owner.login: "admin"}
        self.created_at = now()
        self.pulls: dict[int, Pull] = {}
        self.statuses: list[Status] = []
        self.checks: list[CheckRun] = []
        self.comments: list[Comment] = []
        self._numbers = itertools.count(1)
        self.peeled: dict[str, str] = {}
        """What is known of which commits objects stand for: asking git takes a process."""

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"

    @property
    def clone_url(self) -> str:
        """Where real Git gets it."""
        return f"{self.world.web_url}/{self.full_name}.git"

    def refs(self, prefix: str = "refs/") -> dict[str, str]:
        """What each ref below a prefix names: commits, and tags with a message of their own."""
        found = dict(packed(self.path))
        # Everything below a folder, or what begins with the name.
        for folder, _, names in os.walk(self.path / prefix.rpartition("/")[0]):
            for name in names:
                path = Path(folder, name)
                if not name.endswith(".lock"):
                    found[path.relative_to(self.path).as_posix()] = path.read_text().strip()
        return {name: found[name] for name in sorted(found) if name.startswith(prefix)}

    def branch(self, name: str) -> str:
        """The commit of a branch."""
        ref = f"refs/heads/{name}"
        try:
            return (self.path / ref).read_text().strip()
        except FileNotFoundError:
            return dict(packed(self.path))[ref]

    def peel(self, sha: str) -> str:
        """The commit that a tag's object stands for, or the commit itself."""
        if sha not in self.peeled:
            self.peeled[sha] = git(self.path, "rev-parse", f"{sha}^{{commit}}").strip()
        return self.peeled[sha]

    def knows(self, sha: str) -> bool:
        """Whether there is such a commit."""
        return self.kind(sha) == "commit"

    def kind(self, sha: str) -> str:
        """What sort of object that is; empty when there is none."""
        try:
            return git(self.path, "cat-file", "-t", sha).strip()
        except subprocess.CalledProcessError:
            return ""

    def object_text(self, sha: str) -> str:
        return git(self.path, "cat-file", "-p", sha)

    def message(self, sha: str) -> str:
        return git(self.path, "log", "-1", "--format=%B", sha).strip()

    def push(
        self,
        branch: str = "main",
        files: Mapping[str, str | bytes] | None = None,
        *,
        message: str = "Change something",
        onto: str | None = None,
        by: str = "",
    ) -> str:
        """Commit files onto a branch, which is made when it is not there, and tell; the commit.

        ``onto`` is another commit to begin with: a force push. Of an empty text: without history.
        """
        ref = f"refs/heads/{branch}"
        before = self.refs(ref).get(ref, NOTHING)
        parent = before if onto is None else onto
        person = self.world.user(by or self.owner.login)
        stamp = next(self.world.seconds)
        if parent in ("", NOTHING) and before != NOTHING:
            git(self.path, "update-ref", "-d", ref)
        written = files or {"counter.txt": f"{stamp}\n"}
        commit(self.path, ref, "" if parent == NOTHING else parent, written, message, (person.login, stamp))
        after = self.branch(branch)
        self.world.moved([RefChange(self, ref, before, after, onto is not None, person)])
        return after

    def tag(self, name: str, commit: str, *, message: str = "", by: str = "") -> str:
        """Tag a commit, and tell; with a message, the tag is an object of its own. What the ref names."""
        ref = f"refs/tags/{name}"
        if message:
            who = ("-c", "user.name=Tagger", "-c", "user.email=tagger@example.org")
            git(self.path, *who, "tag", "--annotate", "--force", "-m", message, name, commit)
        else:
            git(self.path, "update-ref", ref, commit)
        sha = self.refs(ref)[ref]
        person = self.world.user(by or self.owner.login)
        self.world.moved([RefChange(self, ref, NOTHING, sha, False, person)])
        return sha

    def delete_branch(self, name: str, *, by: str = "") -> None:
        ref = f"refs/heads/{name}"
        before = self.refs(ref)[ref]
        git(self.path, "update-ref", "-d", ref)
        self.world.moved(
            [RefChange(self, ref, before, NOTHING, False, self.world.user(by or self.owner.login))]
        )

    def fork(self, owner: str, name: str = "") -> Repository:
        """A copy that belongs to somebody else."""
        made = self.world.copy(self, f"{owner}/{name or self.name}")
        made.parent = self
        return made

    def pull_request(
        self,
        branch: str,
        *,
        head: Repository | None = None,
        base: str = "main",
        by: str = "",
        title: str = "",
        draft: bool = False,
    ) -> Pull:
        """Open a pull request of a branch, of this repository or a fork, and tell."""
        of = head or self
        number = next(self._numbers)
        author = self.world.user(by or of.owner.login)
        pull = Pull(
            self.world.identity(),
            number,
            self,
            base,
            of,
            branch,
            of.branch(branch),
            author,
            title or f"Merge {branch}",
            draft,
        )
        self._bring(pull)
        self.pulls[number] = pull
        self.world.tell_pull("opened", pull, author)
        return pull

    def follow(self) -> None:
        """Let pull requests follow their branches."""
        for pull in self.pulls.values():
            if pull.state != "open" or pull.head is None:
                continue
            now_there = pull.head.refs(f"refs/heads/{pull.head_ref}").get(f"refs/heads/{pull.head_ref}")
            if now_there is not None and now_there != pull.sha:
                pull.sha = now_there
                pull.updated_at = now()
                self._bring(pull)
                self.world.tell_pull("synchronize", pull, pull.author)

    def close(self, number: int, *, by: str = "") -> None:
        """Close a pull request without merging, and tell."""
        pull = self.pulls[number]
        pull.state = "closed"
        pull.updated_at = now()
        self.world.tell_pull("closed", pull, self.world.user(by or self.owner.login))

    def comment(self, number: int, body: str, *, by: str = "") -> Comment:
        """Write under a pull request, and tell."""
        person = self.world.user(by or self.owner.login)
        made = Comment(self.world.identity(), number, person, body, now())
        self.comments.append(made)
        self.world.tell_comment(self.pulls[number], made)
        return made

    def status_of(self, commit: str) -> dict[str, str]:
        """The present state of each context of a commit."""
        return {status.context: status.state for status in self.statuses if status.sha == commit}

    def checks_of(self, commit: str) -> dict[str, str | None]:
        """The present conclusion of each check run of a commit, by name; its status while it has none."""
        return {run.name: run.conclusion or run.status for run in self.checks if run.sha == commit}

    def rename(self, full_name: str) -> None:
        """Give it another name. The old one redirects, until somebody makes a repository of that name."""
        self.world.rename(self, full_name)

    def delete(self) -> None:
        self.world.repositories.remove(self)

    def _bring(self, pull: Pull) -> None:
        ref = f"refs/pull/{pull.number}/head"
        if pull.head is None or pull.head is self:
            git(self.path, "update-ref", ref, pull.sha)
        else:
            git(self.path, "fetch", "--quiet", str(pull.head.path), f"+refs/heads/{pull.head_ref}:{ref}")


class World:
    """Everything there is. Changes happen under ``lock``; whoever wants to know of them adds a listener."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.web_url = ""
        self.lock = threading.RLock()
        self.seconds = itertools.count(1_760_000_000)
        self.users: dict[str, User] = {}
        self.repositories: list[Repository] = []
        self.former: dict[str, Repository] = {}
        self.on_push: list[Callable[[RefChange], None]] = []
        self.on_pull: list[Callable[[str, Pull, User], None]] = []
        self.on_comment: list[Callable[[Pull, Comment], None]] = []
        self._identities = itertools.count(1000)

    def identity(self) -> int:
        """A number that nothing else has."""
        return next(self._identities)

    def user(self, login: str, kind: str = "User") -> User:
        """A person by login; made when new."""
        with self.lock:
            if login not in self.users:
                self.users[login] = User(self.identity(), login, kind)
            return self.users[login]

    def repository(self, full_name: str, *, private: bool = False) -> Repository:
        """Make an empty repository; its owner is made when new."""
        owner, _, name = full_name.partition("/")
        with self.lock:
            return self._made(owner, name, private, self._empty())

    def copy(self, of: Repository, full_name: str) -> Repository:
        """Make a repository with the branches and tags of another one."""
        owner, _, name = full_name.partition("/")
        with self.lock:
            made = self._made(owner, name, of.private, of.path)
            shutil.rmtree(made.path / "refs" / "pull", ignore_errors=True)
            made.default_branch = of.default_branch
            made.peeled.update(of.peeled)
            return made

    def _made(self, owner: str, name: str, private: bool, like: Path) -> Repository:
        identity = self.identity()
        path = self.folder / f"{identity}.git"
        shutil.copytree(like, path)
        made = Repository(self, identity, self.user(owner), name, path)
        made.private = private
        self.repositories.append(made)
        self.former.pop(made.full_name, None)
        return made

    def _empty(self) -> Path:
        """A bare repository without anything in it, to be copied."""
        path = self.folder / "empty.git"
        if not path.exists():
            init(path)
        return path

    def find(self, full_name: str) -> Repository | None:
        """A repository by its present name."""
        return next((r for r in self.repositories if r.full_name.lower() == full_name.lower()), None)

    def by_id(self, identity: int) -> Repository | None:
        return next((r for r in self.repositories if r.id == identity), None)

    def moved_away(self, full_name: str) -> Repository | None:
        """The repository that once had a name which nobody has now."""
        return self.former.get(full_name)

    def rename(self, repository: Repository, full_name: str) -> None:
        with self.lock:
            self.former[repository.full_name] = repository
            owner, _, repository.name = full_name.partition("/")
            repository.owner = self.user(owner)

    def moved(self, changes: Iterable[RefChange]) -> None:
        """Refs were moved: let pull requests follow, and tell."""
        for change in changes:
            for listener in self.on_push:
                listener(change)
            for repository in list(self.repositories):
                if any(pull.head is change.repository for pull in repository.pulls.values()):
                    repository.follow()

    def tell_pull(self, action: str, pull: Pull, by: User) -> None:
        for listener in self.on_pull:
            listener(action, pull, by)

    def tell_comment(self, pull: Pull, comment: Comment) -> None:
        for listener in self.on_comment:
            listener(pull, comment)
