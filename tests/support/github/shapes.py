"""What the API says of what there is, in the form of its published description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.github.world import CheckRun, Comment, Pull, Repository, Status, User, now

if TYPE_CHECKING:
    from tests.support.github.apps import App, Installation

Json = dict[str, object]

_USER_URLS: Final = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}
_REPOSITORY_URLS: Final = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


class Shapes:
    """Writes answers; ``api`` and ``web`` are where links lead."""

    def __init__(self, api: str, web: str) -> None:
        self.api = api
        self.web = web

    def user(self, user: User) -> Json:
        url = f"{self.api}/users/{user.login}"
        return {
            "login": user.login,
            "id": user.id,
            "node_id": f"U_{user.id}",
            "avatar_url": f"{self.web}/avatars/u/{user.id}",
            "gravatar_id": "",
            "url": url,
            "html_url": f"{self.web}/{user.login}",
            **{key: url + rest for key, rest in _USER_URLS.items()},
            "type": user.kind,
            "site_admin": False,
        }

    def public_user(self, user: User) -> Json:
        unsaid = ("bio", "blog", "company", "email", "hireable", "location", "name")
        counted = ("followers", "following", "public_gists", "public_repos")
        known = dict.fromkeys(unsaid) | dict.fromkeys(counted, 0)
        return self.user(user) | known | {"created_at": now(), "updated_at": now()}

    def repository(self, of: Repository) -> Json:
        """As it stands inside other answers."""
        url = self.url(of)
        html = f"{self.web}/{of.full_name}"
        return {
            "id": of.id,
            "node_id": f"R_{of.id}",
            "name": of.name,
            "full_name": of.full_name,
            "private": of.private,
            "owner": self.user(of.owner),
            "html_url": html,
            "description": None,
            "fork": of.parent is not None,
            "url": url,
            **{key: url + rest for key, rest in _REPOSITORY_URLS.items()},
            "clone_url": of.clone_url,
            "git_url": html.replace("http", "git", 1) + ".git",
            "ssh_url": f"git@github.example.org:{of.full_name}.git",
            "svn_url": html,
            "mirror_url": None,
            "homepage": None,
            "language": "Python",
            "license": None,
            "default_branch": of.default_branch,
            "visibility": "private" if of.private else "public",
            "archived": False,
            "disabled": False,
            "is_template": False,
            "has_issues": True,
            "has_projects": True,
            "has_wiki": True,
            "has_pages": False,
            "has_downloads": True,
            "has_discussions": False,
            "allow_forking": True,
            "web_commit_signoff_required": False,
            "topics": [],
            "forks": 0,
            "forks_count": 0,
            "open_issues": 0,
            "open_issues_count": 0,
            "stargazers_count": 0,
            "watchers": 0,
            "watchers_count": 0,
            "size": 1,
            "created_at": of.created_at,
            "updated_at": of.created_at,
            "pushed_at": of.created_at,
        }

    def full_repository(self, of: Repository) -> Json:
        """As it stands alone."""
        told = self.repository(of) | {"network_count": 0, "subscribers_count": 0}
        if of.parent is not None:
            told |= {"parent": self.repository(of.parent), "source": self.repository(of.parent)}
        return told

    def ref(self, of: Repository, name: str, sha: str) -> Json:
        kind = "commit" if of.peel(sha) == sha else "tag"
        return {
            "ref": name,
            "node_id": f"REF_{of.id}_{name}",
            "url": f"{self.url(of)}/git/{name}",
            "object": {"type": kind, "sha": sha, "url": f"{self.url(of)}/git/{kind}s/{sha}"},
        }

    def tag(self, of: Repository, name: str, sha: str) -> Json:
        commit = of.peel(sha)
        return {
            "name": name,
            "node_id": f"REF_{of.id}_{name}",
            "commit": {"sha": commit, "url": f"{self.url(of)}/commits/{commit}"},
            "zipball_url": f"{self.url(of)}/zipball/refs/tags/{name}",
            "tarball_url": f"{self.url(of)}/tarball/refs/tags/{name}",
        }

    def tag_object(self, of: Repository, sha: str) -> Json:
        head, _, message = of.object_text(sha).partition("\n\n")
        told = dict(line.partition(" ")[::2] for line in head.splitlines())
        link = f"{self.url(of)}/git/{told['type']}s/{told['object']}"
        return {
            "node_id": f"TAG_{sha}",
            "tag": told["tag"],
            "sha": sha,
            "url": f"{self.url(of)}/git/tags/{sha}",
            "message": message,
            "tagger": {"name": "Tagger", "email": "tagger@example.org", "date": of.created_at},
            "object": {"type": told["type"], "sha": told["object"], "url": link},
        }

    def branch(self, of: Repository, name: str, sha: str) -> Json:
        commit = {"sha": sha, "url": f"{self.url(of)}/commits/{sha}"}
        return {"name": name, "commit": commit, "protected": False}

    def pull(self, pull: Pull) -> Json:
        """As it stands in a list."""
        of, number = pull.base, pull.number
        url, html = f"{self.url(of)}/pulls/{number}", f"{self.web}/{of.full_name}/pull/{number}"
        issue = f"{self.url(of)}/issues/{number}"
        links = {
            "self": url,
            "html": html,
            "issue": issue,
            "comments": f"{issue}/comments",
            "review_comments": f"{url}/comments",
            "review_comment": f"{self.url(of)}/pulls/comments{{/number}}",
            "commits": f"{url}/commits",
            "statuses": f"{self.url(of)}/statuses/{pull.sha}",
        }
        closed = None if pull.state == "open" else pull.updated_at
        return {
            "url": url,
            "id": pull.id,
            "node_id": f"PR_{pull.id}",
            "html_url": html,
            "diff_url": f"{html}.diff",
            "patch_url": f"{html}.patch",
            "issue_url": issue,
            "commits_url": links["commits"],
            "review_comments_url": links["review_comments"],
            "review_comment_url": links["review_comment"],
            "comments_url": links["comments"],
            "statuses_url": links["statuses"],
            "number": number,
            "state": pull.state,
            "locked": False,
            "title": pull.title,
            "user": self.user(pull.author),
            "body": None,
            "labels": [],
            "milestone": None,
            "active_lock_reason": None,
            "created_at": pull.created_at,
            "updated_at": pull.updated_at,
            "closed_at": closed,
            "merged_at": None,
            "merge_commit_sha": None,
            "assignee": None,
            "assignees": [],
            "requested_reviewers": [],
            "requested_teams": [],
            "head": self._end(pull.head, pull.head_ref, pull.sha, pull.author),
            "base": self._end(of, pull.base_ref, of.branch(pull.base_ref), of.owner),
            "_links": {key: {"href": value} for key, value in links.items()},
            "author_association": "NONE" if pull.head is not of else "MEMBER",
            "auto_merge": None,
            "draft": pull.draft,
        }

    def full_pull(self, pull: Pull) -> Json:
        """As it stands alone."""
        return self.pull(pull) | {
            "merged": False,
            "mergeable": None,
            "rebaseable": None,
            "mergeable_state": "unknown",
            "merged_by": None,
            "comments": 0,
            "review_comments": 0,
            "maintainer_can_modify": False,
            "commits": 1,
            "additions": 1,
            "deletions": 0,
            "changed_files": 1,
        }

    def status(self, of: Repository, status: Status) -> Json:
        return {
            "url": f"{self.url(of)}/statuses/{status.sha}",
            "avatar_url": f"{self.web}/avatars/u/{status.creator.id}",
            "id": status.id,
            "node_id": f"SC_{status.id}",
            "state": status.state,
            "description": status.description,
            "target_url": status.target_url,
            "context": status.context,
            "created_at": status.created_at,
            "updated_at": status.created_at,
            "creator": self.user(status.creator),
        }

    def check(self, of: Repository, run: CheckRun, app: App) -> Json:
        url = f"{self.url(of)}/check-runs/{run.id}"
        return {
            "id": run.id,
            "name": run.name,
            "node_id": f"CR_{run.id}",
            "head_sha": run.sha,
            "external_id": run.external_id,
            "url": url,
            "html_url": f"{self.web}/{of.full_name}/runs/{run.id}",
            "details_url": run.details_url or f"{self.web}/apps/{app.slug}",
            "status": run.status,
            "conclusion": run.conclusion,
            "started_at": run.started_at,
            "completed_at": run.completed_at,
            "output": {
                "title": run.title,
                "summary": run.summary,
                "text": None,
                "annotations_count": 0,
                "annotations_url": f"{url}/annotations",
            },
            "check_suite": {"id": run.app_id},
            "app": self.app(app),
            "pull_requests": [],
        }

    def app(self, app: App) -> Json:
        return {
            "id": app.id,
            "client_id": app.client_id,
            "slug": app.slug,
            "node_id": f"A_{app.id}",
            "owner": self.user(app.owner),
            "name": app.slug,
            "description": "",
            "external_url": "https://example.org",
            "html_url": f"{self.web}/apps/{app.slug}",
            "created_at": app.created_at,
            "updated_at": app.created_at,
            "permissions": {"checks": "write", "contents": "read", "metadata": "read", "issues": "write"},
            "events": ["push", "pull_request"],
        }

    def installation(self, of: Installation) -> Json:
        return {
            "id": of.id,
            "account": self.user(of.account),
            "repository_selection": "all",
            "access_tokens_url": f"{self.api}/app/installations/{of.id}/access_tokens",
            "repositories_url": f"{self.api}/installation/repositories",
            "html_url": f"{self.web}/settings/installations/{of.id}",
            "app_id": of.app.id,
            "app_slug": of.app.slug,
            "target_id": of.account.id,
            "target_type": of.account.kind,
            "permissions": {"checks": "write", "metadata": "read", "contents": "read"},
            "events": ["push", "pull_request"],
            "created_at": of.app.created_at,
            "updated_at": of.app.created_at,
            "single_file_name": None,
            "suspended_by": None,
            "suspended_at": None,
        }

    def comment(self, of: Repository, comment: Comment, app: App | None = None) -> Json:
        html = f"{self.web}/{of.full_name}/pull/{comment.number}"
        return {
            "id": comment.id,
            "node_id": f"IC_{comment.id}",
            "url": f"{self.url(of)}/issues/comments/{comment.id}",
            "html_url": f"{html}#issuecomment-{comment.id}",
            "issue_url": f"{self.url(of)}/issues/{comment.number}",
            "user": self.user(comment.author),
            "body": comment.body,
            "created_at": comment.created_at,
            "updated_at": comment.created_at,
            "author_association": "NONE",
            "performed_via_github_app": None if app is None else self.app(app),
        }

    def permission(self, user: User, role: str) -> Json:
        legacy = {"maintain": "write", "triage": "read"}.get(role, role)
        order = ("pull", "triage", "push", "maintain", "admin")
        rank = {"none": -1, "read": 0, "triage": 1, "write": 2, "maintain": 3, "admin": 4}[role]
        held = {name: index <= rank for index, name in enumerate(order)}
        return {
            "permission": legacy,
            "role_name": role,
            "user": self.user(user) | {"permissions": held, "role_name": role},
        }

    def rate(self, limit: int, remaining: int, reset: int) -> Json:
        told = {"limit": limit, "used": limit - remaining, "remaining": remaining, "reset": reset}
        return {"resources": {"core": told, "search": told}, "rate": told}

    def url(self, of: Repository) -> str:
        return f"{self.api}/repos/{of.full_name}"

    def _end(self, of: Repository | None, ref: str, sha: str, gone: User) -> Json:
        owner = of.owner if of is not None else gone
        return {
            "label": f"{owner.login}:{ref}",
            "ref": ref,
            "sha": sha,
            "user": self.user(owner),
            "repo": None if of is None else self.repository(of),
        }

    def token(self, token: str, expires_at: str) -> Json:
        return {"token": token, "expires_at": expires_at, "permissions": {"checks": "write"}}

    @staticmethod
    def moment() -> str:
        return now()
