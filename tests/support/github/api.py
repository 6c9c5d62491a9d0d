"""The REST API: each route as its documentation has it, over what there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.github.apps import App, Credential, Identities
from tests.support.github.shapes import Json, Shapes
from tests.support.github.world import CheckRun, Comment, Pull, Repository, Status, World, now

DOCS: Final = "https://docs.github.com/rest"
LIMITS: Final = f"{DOCS}/using-the-rest-api/rate-limits-for-the-rest-api"
SHA = re.compile(r"[0-9a-f]{40}")
_STATES: Final = ("error", "failure", "pending", "success")
_CONCLUSIONS: Final = (
    *("action_required", "cancelled", "failure", "neutral", "success", "skipped", "stale", "timed_out"),
)
_DESCRIPTION: Final = 140
_BODY: Final = 65536


@dataclass(frozen=True)
class Call:
    """A request that was let in."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Mapping[str, object]
    by: Credential | None
    jwt: str = ""


@dataclass(frozen=True)
class Answer:
    """A status and what stands in the body; a list is given in pages."""

    status: int
    body: Json | list[Json] | None
    headers: Mapping[str, str] = field(default_factory=dict)
    paged: bool = False


class Refused(Exception):
    """An answer with an error in it."""

    def __init__(self, status: int, message: str, docs: str = DOCS, **more: object) -> None:
        super().__init__(message)
        self.answer = Answer(
            status, {"message": message, "documentation_url": docs, "status": str(status), **more}
        )


Handler = Callable[["Api", Call, Mapping[str, str]], Answer]
_ROUTES: Final[list[tuple[str, re.Pattern[str], Handler]]] = []


def _route(method: str, template: str) -> Callable[[Handler], Handler]:
    pattern = re.sub(r"\{(\w+)\+\}", r"(?P<\1>.+)", template)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def keep(handler: Handler) -> Handler:
        _ROUTES.append((method, re.compile(pattern), handler))
        return handler

    return keep


class Api:
    """Answers calls."""

    def __init__(self, world: World, identities: Identities, shapes: Shapes) -> None:
        self.world = world
        self.identities = identities
        self.shapes = shapes

    def answer(self, call: Call) -> Answer:
        """What the API says. Nothing is counted here."""
        try:
            moved = self._moved(call)
            if moved is not None:
                return moved
            by_id = re.match(r"/repositories/(\d+)(/.*)?$", call.path)
            path = call.path
            if by_id is not None:
                found = self.world.by_id(int(by_id[1]))
                path = f"/repos/{found.full_name}{by_id[2] or ''}" if found else call.path
            for method, pattern, handler in _ROUTES:
                match = pattern.fullmatch(path)
                if match is not None and method == call.method:
                    return handler(self, call, match.groupdict())
        except Refused as refused:
            return refused.answer
        return Refused(404, "Not Found").answer

    def repository(self, call: Call, parts: Mapping[str, str]) -> Repository:
        """The repository that is meant, if whoever asks may know of it."""
        found = self.world.find(f"{parts['owner']}/{parts['repo']}")
        if found is None or (found.private and not self.may(call.by, found, "read")):
            raise Refused(404, "Not Found")
        return found

    def writable(self, call: Call, parts: Mapping[str, str]) -> Repository:
        found = self.repository(call, parts)
        if call.by is None or not call.by.writes or not self.may(call.by, found, "write"):
            raise Refused(403, "Resource not accessible by personal access token")
        return found

    def may(self, by: Credential | None, of: Repository, wanted: str) -> bool:
        """Whether a credential has a permission there."""
        if by is None:
            return False
        if by.installation is not None:
            return by.installation.account.id == of.owner.id
        held = of.permissions.get(by.user.login, "none")
        ranks = ("none", "read", "triage", "write", "maintain", "admin")
        return ranks.index(held) >= ranks.index(wanted)

    def commit(self, of: Repository, sha: str) -> str:
        if not SHA.fullmatch(sha) or not of.knows(sha):
            raise Refused(422, f"No commit found for SHA: {sha}")
        return sha

    def pull(self, of: Repository, number: str) -> Pull:
        if not number.isdigit() or int(number) not in of.pulls:
            raise Refused(404, "Not Found")
        return of.pulls[int(number)]

    def app_of(self, comment: Comment) -> App | None:
        """The App that wrote a comment."""
        return next((app for app in self.identities.apps if app.id == comment.app), None)

    def _moved(self, call: Call) -> Answer | None:
        named = re.match(r"/repos/([^/]+/[^/]+)(/.*)?$", call.path)
        gone = self.world.moved_away(named[1]) if named and self.world.find(named[1]) is None else None
        if named is None or gone is None or gone not in self.world.repositories:
            return None
        url = f"{self.shapes.api}/repositories/{gone.id}{named[2] or ''}"
        status = 301 if call.method == "GET" else 307
        told: Json = {"message": "Moved Permanently", "url": url, "documentation_url": DOCS}
        return Answer(status, told, {"Location": url})


@_route("GET", "/rate_limit")
def _rate(api: Api, call: Call, _: Mapping[str, str]) -> Answer:
    quota = call.by.quota if call.by else api.identities.nobody
    return Answer(200, api.shapes.rate(quota.limit, quota.remaining, quota.reset))


@_route("GET", "/repos/{owner}/{repo}")
def _repository(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    return Answer(200, api.shapes.full_repository(api.repository(call, parts)))


@_route("GET", "/repos/{owner}/{repo}/git/matching-refs/{ref+}")
def _matching(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    refs = of.refs()
    if not refs:
        raise Refused(409, "Git Repository is empty.")
    wanted = f"refs/{parts['ref']}"
    return Answer(
        200, [api.shapes.ref(of, name, sha) for name, sha in refs.items() if name.startswith(wanted)]
    )


@_route("GET", "/repos/{owner}/{repo}/git/tags/{sha}")
def _tag_object(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    if not SHA.fullmatch(parts["sha"]) or of.kind(parts["sha"]) != "tag":
        raise Refused(404, "Not Found")
    return Answer(200, api.shapes.tag_object(of, parts["sha"]))


@_route("GET", "/repos/{owner}/{repo}/branches")
def _branches(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    found = of.refs("refs/heads/").items()
    return _page([api.shapes.branch(of, name.removeprefix("refs/heads/"), sha) for name, sha in found])


@_route("GET", "/repos/{owner}/{repo}/tags")
def _tags(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    found = reversed(of.refs("refs/tags/").items())
    return _page([api.shapes.tag(of, name.removeprefix("refs/tags/"), sha) for name, sha in found])


@_route("GET", "/repos/{owner}/{repo}/pulls")
def _pulls(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    wanted = call.query.get("state", "open")
    found = [pull for pull in of.pulls.values() if wanted in ("all", pull.state)]
    newest_first = call.query.get("direction", "desc") == "desc"
    found.sort(key=lambda pull: pull.number, reverse=newest_first)
    return _page([api.shapes.pull(pull) for pull in found])


@_route("GET", "/repos/{owner}/{repo}/pulls/{number}")
def _pull(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    return Answer(200, api.shapes.full_pull(api.pull(of, parts["number"])))


@_route("GET", "/repos/{owner}/{repo}/collaborators/{login}/permission")
def _permission(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    if not api.may(call.by, of, "write"):
        raise Refused(403, "Must have push access to view collaborator permission.")
    user = api.world.users.get(parts["login"])
    if user is None:
        raise Refused(404, f"{parts['login']} is not a user")
    return Answer(200, api.shapes.permission(user, of.permissions.get(user.login, _public(of))))


@_route("POST", "/repos/{owner}/{repo}/statuses/{sha}")
def _set_status(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.writable(call, parts)
    sha = api.commit(of, parts["sha"])
    state, context = call.body.get("state"), call.body.get("context", "default")
    description, url = call.body.get("description"), call.body.get("target_url")
    if state not in _STATES or not isinstance(context, str):
        raise _invalid("Status", "state")
    if description is not None and len(str(description)) > _DESCRIPTION:
        raise _invalid("Status", "description")
    if url is not None and not re.match(r"https?://", str(url)):
        raise _invalid("Status", "target_url")
    assert call.by is not None
    made = Status(
        api.world.identity(),
        sha,
        str(state),
        context,
        None if description is None else str(description),
        None if url is None else str(url),
        call.by.user,
        now(),
    )
    of.statuses.append(made)
    return Answer(201, api.shapes.status(of, made))


@_route("GET", "/repos/{owner}/{repo}/commits/{sha}/statuses")
def _statuses(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    return _page([api.shapes.status(of, s) for s in reversed(of.statuses) if s.sha == parts["sha"]])


@_route("POST", "/repos/{owner}/{repo}/check-runs")
def _make_check(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.writable(call, parts)
    app = _app_of(call)
    name, sha = call.body.get("name"), api.commit(of, str(call.body.get("head_sha")))
    if not isinstance(name, str) or not name:
        raise _invalid("CheckRun", "name")
    made = CheckRun(api.world.identity(), app, sha, name, "queued")
    _change(made, call.body)
    of.checks.append(made)
    return _check_answer(api, 201, of, made)


@_route("PATCH", "/repos/{owner}/{repo}/check-runs/{id}")
def _change_check(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.writable(call, parts)
    app = _app_of(call)
    run = next((r for r in of.checks if str(r.id) == parts["id"] and r.app_id == app), None)
    if run is None:
        raise Refused(404, "Not Found")
    _change(run, call.body)
    return _check_answer(api, 200, of, run)


@_route("GET", "/repos/{owner}/{repo}/commits/{sha}/check-runs")
def _checks(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    name, app = call.query.get("check_name"), call.query.get("app_id")
    found = [
        run
        for run in reversed(of.checks)
        if run.sha == parts["sha"] and name in (None, run.name) and app in (None, str(run.app_id))
    ]
    if call.query.get("filter", "latest") == "latest":
        latest: dict[tuple[int, str], CheckRun] = {}
        for run in found:
            latest.setdefault((run.app_id, run.name), run)
        found = list(latest.values())
    apps = {a.id: a for a in api.identities.apps}
    told = [api.shapes.check(of, run, apps[run.app_id]) for run in found]
    return Answer(200, {"total_count": len(told), "check_runs": told})


@_route("GET", "/repos/{owner}/{repo}/issues/{number}/comments")
def _comments(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    pull = api.pull(of, parts["number"])
    found = [c for c in of.comments if c.number == pull.number]
    return _page([api.shapes.comment(of, c, api.app_of(c)) for c in found])


@_route("GET", "/repos/{owner}/{repo}/issues/comments/{id}")
def _one_comment(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    found = next((c for c in of.comments if str(c.id) == parts["id"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return Answer(200, api.shapes.comment(of, found, api.app_of(found)))


@_route("POST", "/repos/{owner}/{repo}/issues/{number}/comments")
def _comment(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    if call.by is None or not call.by.writes:
        raise Refused(403, "Resource not accessible by personal access token")
    pull = api.pull(of, parts["number"])
    app = call.by.installation.app.id if call.by.installation is not None else None
    made = Comment(api.world.identity(), pull.number, call.by.user, _text(call), now(), app)
    of.comments.append(made)
    return Answer(201, api.shapes.comment(of, made, api.app_of(made)))


@_route("PATCH", "/repos/{owner}/{repo}/issues/comments/{id}")
def _change_comment(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    found = next((c for c in of.comments if str(c.id) == parts["id"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    own = call.by is not None and call.by.writes and call.by.user == found.author
    if not own and not api.may(call.by, of, "write"):
        raise Refused(403, "Resource not accessible by personal access token")
    found.history.append(found.body)
    found.body = _text(call)
    return Answer(200, api.shapes.comment(of, found, api.app_of(found)))


@_route("GET", "/repos/{owner}/{repo}/commits/{sha}/pulls")
def _pulls_of(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    of = api.repository(call, parts)
    sha = api.commit(of, parts["sha"])
    return _page([api.shapes.pull(pull) for pull in of.pulls.values() if pull.sha == sha])


@_route("GET", "/user")
def _user(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    if call.by is None:
        raise Refused(401, "Requires authentication")
    if call.by.installation is not None:
        raise Refused(403, "Resource not accessible by integration")
    return Answer(200, api.shapes.public_user(call.by.user))


@_route("GET", "/repos/{owner}/{repo}/installation")
def _installation(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    app = api.identities.by_jwt(call.jwt)
    if app is None:
        raise Refused(401, "A JSON web token could not be decoded")
    of = api.world.find(f"{parts['owner']}/{parts['repo']}")
    found = api.identities.installed(app, of.owner) if of is not None else None
    if found is None:
        raise Refused(404, "Not Found")
    return Answer(200, api.shapes.installation(found))


@_route("POST", "/app/installations/{id}/access_tokens")
def _access_token(api: Api, call: Call, parts: Mapping[str, str]) -> Answer:
    app = api.identities.by_jwt(call.jwt)
    if app is None:
        raise Refused(401, "A JSON web token could not be decoded")
    known = (i for i in api.identities.installations if i.app is app and str(i.id) == parts["id"])
    found = next(known, None)
    if found is None:
        raise Refused(404, "Not Found")
    return Answer(201, api.shapes.token(*api.identities.access_token(found)))


def _page(found: Sequence[Json]) -> Answer:
    return Answer(200, list(found), paged=True)


def _text(call: Call) -> str:
    body = call.body.get("body")
    if not isinstance(body, str) or not body or len(body) > _BODY:
        raise _invalid("IssueComment", "body")
    return body


def _public(of: Repository) -> str:
    return "none" if of.private else "read"


def _invalid(resource: str, name: str) -> Refused:
    return Refused(
        422, "Validation Failed", errors=[{"resource": resource, "field": name, "code": "invalid"}]
    )


def _app_of(call: Call) -> int:
    if call.by is None or call.by.installation is None:
        raise Refused(403, "You must authenticate via a GitHub App.")
    return call.by.installation.app.id


def _change(run: CheckRun, body: Mapping[str, object]) -> None:
    status, conclusion = body.get("status", run.status), body.get("conclusion")
    if conclusion is not None and conclusion not in _CONCLUSIONS:
        raise _invalid("CheckRun", "conclusion")
    if status == "completed" and conclusion is None:
        raise _invalid("CheckRun", "conclusion")
    output = body.get("output")
    if isinstance(output, dict):
        if not isinstance(output.get("title"), str) or not isinstance(output.get("summary"), str):
            raise _invalid("CheckRun", "output")
        run.title, run.summary = output["title"], output["summary"]
    if conclusion is not None:
        run.conclusion, run.status, run.completed_at = str(conclusion), "completed", now()
    else:
        run.status = str(status)
    if isinstance(body.get("details_url"), str):
        run.details_url = str(body["details_url"])
    if isinstance(body.get("external_id"), str):
        run.external_id = str(body["external_id"])
    run.history.append((run.status, run.conclusion))


def _check_answer(api: Api, status: int, of: Repository, run: CheckRun) -> Answer:
    app = next(a for a in api.identities.apps if a.id == run.app_id)
    return Answer(status, api.shapes.check(of, run, app))
