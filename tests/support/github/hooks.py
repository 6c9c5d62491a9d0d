"""Webhooks: what GitHub tells of what happens, signed as it signs."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import requests

from tests.support.github.plumbing import NOTHING
from tests.support.github.shapes import Json, Shapes
from tests.support.github.world import Comment, Pull, RefChange, Repository, User, World, now

_TIMEOUT = 10.0


@dataclass(frozen=True)
class Delivery:
    """One message and how it was answered; ``status`` 0: not at all."""

    id: str
    event: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0
    answer: str = ""

    @property
    def payload(self) -> Json:
        payload = json.loads(self.body)
        assert isinstance(payload, dict)
        return payload


@dataclass
class Hook:
    """Where events of a repository go. An ``active`` one sends; ``deliveries`` has what it has sent."""

    id: int
    repository: Repository
    url: str
    secret: str
    events: tuple[str, ...]
    active: bool = True
    deliveries: list[Delivery] = field(default_factory=list)

    def send(self, event: str, payload: Json) -> Delivery:
        """Sign a payload and post it."""
        body = json.dumps(payload).encode()
        identity = str(uuid.uuid4())
        return self.post(Delivery(identity, event, self._headers(event, identity, body), body))

    def redeliver(self, delivery: Delivery) -> Delivery:
        """Send the same once more, under the same id, as the button of that name does."""
        return self.post(delivery)

    def post(self, delivery: Delivery) -> Delivery:
        """Post a message as it stands."""
        got = requests.post(
            self.url, delivery.body, headers=dict(delivery.headers), timeout=_TIMEOUT, allow_redirects=False
        )
        done = replace(delivery, status=got.status_code, answer=got.text)
        self.deliveries.append(done)
        return done

    def _headers(self, event: str, identity: str, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"GitHub-Hookshot/{secrets.token_hex(4)[:7]}",
            "X-GitHub-Delivery": identity,
            "X-GitHub-Event": event,
            "X-GitHub-Hook-ID": str(self.id),
            "X-GitHub-Hook-Installation-Target-ID": str(self.repository.id),
            "X-GitHub-Hook-Installation-Target-Type": "repository",
        }
        if self.secret:
            headers["X-Hub-Signature"] = f"sha1={_signed(self.secret, body, 'sha1')}"
            headers["X-Hub-Signature-256"] = f"sha256={_signed(self.secret, body, 'sha256')}"
        return headers


def _signed(secret: str, body: bytes, algorithm: str) -> str:
    return hmac.new(secret.encode(), body, getattr(hashlib, algorithm)).hexdigest()


class Hooks:
    """All hooks; they hear of what happens in the world."""

    def __init__(self, world: World, shapes: Shapes) -> None:
        self._world = world
        self._shapes = shapes
        self._hooks: list[Hook] = []
        world.on_push.append(self._pushed)
        world.on_pull.append(self._pulled)
        world.on_comment.append(self._commented)

    def add(self, repository: Repository, url: str, secret: str, events: tuple[str, ...]) -> Hook:
        """Register a hook, which is told so by a ping."""
        hook = Hook(self._world.identity(), repository, url, secret, events)
        self._hooks.append(hook)
        hook.send("ping", self.ping(hook))
        return hook

    def remove(self, hook: Hook) -> None:
        self._hooks.remove(hook)

    def ping(self, hook: Hook) -> Json:
        url = f"{self._shapes.url(hook.repository)}/hooks/{hook.id}"
        return {
            "zen": "Keep it logically awesome.",
            "hook_id": hook.id,
            "hook": {
                "type": "Repository",
                "id": hook.id,
                "name": "web",
                "active": True,
                "events": list(hook.events),
                "config": {"content_type": "json", "insecure_ssl": "0", "url": hook.url},
                "created_at": now(),
                "updated_at": now(),
                "url": url,
                "test_url": f"{url}/test",
                "ping_url": f"{url}/pings",
                "deliveries_url": f"{url}/deliveries",
                "last_response": {"code": None, "status": "unused", "message": None},
            },
            **self._about(hook.repository, hook.repository.owner),
        }

    def push(self, change: RefChange) -> Json:
        """What is told of a push."""
        of, branch = change.repository, change.ref.startswith("refs/heads/")
        commit = self._commit(of, change.after) if branch and change.after != NOTHING else None
        person = {"name": change.by.login, "email": f"{change.by.login}@example.org"}
        span = f"{change.before[:12]}...{change.after[:12]}"
        return {
            "ref": change.ref,
            "before": change.before,
            "after": change.after,
            "created": change.before == NOTHING,
            "deleted": change.after == NOTHING,
            "forced": change.forced,
            "base_ref": None,
            "compare": f"{self._shapes.web}/{of.full_name}/compare/{span}",
            "commits": [] if commit is None else [commit],
            "head_commit": commit,
            "pusher": person,
            **self._about(of, change.by),
            "repository": self._shapes.repository(of) | {"master_branch": of.default_branch},
        }

    def pull_request(self, action: str, pull: Pull, by: User) -> Json:
        """What is told of a pull request."""
        told: Json = {
            "action": action,
            "number": pull.number,
            "pull_request": self._shapes.full_pull(pull),
            **self._about(pull.base, by),
        }
        if action == "synchronize":
            told |= {"before": NOTHING, "after": pull.sha}
        return told

    def issue_comment(self, pull: Pull, comment: Comment) -> Json:
        """What is told of a comment under a pull request."""
        shown = self._shapes.pull(pull)
        html = f"{self._shapes.web}/{pull.base.full_name}/pull/{pull.number}"
        issue = f"{self._shapes.url(pull.base)}/issues/{pull.number}"
        links = {"url": shown["url"], "html_url": html, "diff_url": f"{html}.diff"}
        return {
            "action": "created",
            "issue": {
                "url": issue,
                "repository_url": self._shapes.url(pull.base),
                "labels_url": f"{issue}/labels{{/name}}",
                "comments_url": f"{issue}/comments",
                "events_url": f"{issue}/events",
                "html_url": html,
                "id": pull.id,
                "node_id": f"I_{pull.id}",
                "number": pull.number,
                "title": pull.title,
                "user": self._shapes.user(pull.author),
                "labels": [],
                "state": pull.state,
                "locked": False,
                "assignee": None,
                "assignees": [],
                "milestone": None,
                "comments": 1,
                "created_at": pull.created_at,
                "updated_at": pull.updated_at,
                "closed_at": None,
                "author_association": "NONE",
                "active_lock_reason": None,
                "draft": pull.draft,
                "body": None,
                "reactions": self._reactions(f"{issue}/reactions"),
                "pull_request": links | {"patch_url": f"{html}.patch", "merged_at": None},
            },
            "comment": self._shapes.comment(pull.base, comment)
            | {"performed_via_github_app": None, "reactions": self._reactions(f"{issue}/reactions")},
            **self._about(pull.base, comment.author),
        }

    def _tell(self, repository: Repository, event: str, payload: Json) -> None:
        for hook in list(self._hooks):
            wanted = "*" in hook.events or event in hook.events
            if hook.active and wanted and hook.repository is repository:
                hook.send(event, payload)

    def _pushed(self, change: RefChange) -> None:
        if re.match(r"refs/(heads|tags)/", change.ref):
            self._tell(change.repository, "push", self.push(change))

    def _pulled(self, action: str, pull: Pull, by: User) -> None:
        self._tell(pull.base, "pull_request", self.pull_request(action, pull, by))

    def _commented(self, pull: Pull, comment: Comment) -> None:
        self._tell(pull.base, "issue_comment", self.issue_comment(pull, comment))

    def _about(self, of: Repository, by: User) -> Json:
        return {"repository": self._shapes.repository(of), "sender": self._shapes.user(by)}

    def _commit(self, of: Repository, sha: str) -> Json:
        who = {"name": "Somebody", "email": "somebody@example.org"}
        return {
            "id": sha,
            "tree_id": sha,
            "distinct": True,
            "message": of.message(sha),
            "timestamp": now(),
            "url": f"{self._shapes.web}/{of.full_name}/commit/{sha}",
            "author": who,
            "committer": who,
            "added": [],
            "removed": [],
            "modified": [],
        }

    @staticmethod
    def _reactions(url: str) -> Json:
        kinds = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")
        return {"url": url, "total_count": 0, **dict.fromkeys(kinds, 0)}
