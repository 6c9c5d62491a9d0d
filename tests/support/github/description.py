"""GitHub's published description of its API, trimmed to what the stand-in speaks; what is said is held to it.

``python -m tests.support.github.description FOLDER`` makes ``description.json`` anew of the npm package
``@octokit/openapi`` (MIT), unpacked at FOLDER. Kept are the kinds and names of values, without any prose:
as JSON Schema, each operation with its parameters, what it takes and what it answers, and each webhook.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import jsonschema

if TYPE_CHECKING:
    from tests.support.github.hooks import Delivery
    from tests.support.github.server import Request

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

FILE: Final = Path(__file__).with_name("description.json")
_SOURCE: Final = "package/generated/api.github.com.json"
_OPERATIONS: Final = (
    "GET /rate_limit",
    "GET /repos/{owner}/{repo}",
    "GET /repos/{owner}/{repo}/git/matching-refs/{ref}",
    "GET /repos/{owner}/{repo}/git/tags/{tag_sha}",
    "GET /repos/{owner}/{repo}/branches",
    "GET /repos/{owner}/{repo}/tags",
    "GET /repos/{owner}/{repo}/pulls",
    "GET /repos/{owner}/{repo}/pulls/{pull_number}",
    "GET /repos/{owner}/{repo}/collaborators/{username}/permission",
    "POST /repos/{owner}/{repo}/statuses/{sha}",
    "GET /repos/{owner}/{repo}/commits/{ref}/statuses",
    "POST /repos/{owner}/{repo}/check-runs",
    "PATCH /repos/{owner}/{repo}/check-runs/{check_run_id}",
    "GET /repos/{owner}/{repo}/commits/{ref}/check-runs",
    "GET /repos/{owner}/{repo}/issues/{issue_number}/comments",
    "GET /repos/{owner}/{repo}/issues/comments/{comment_id}",
    "POST /repos/{owner}/{repo}/issues/{issue_number}/comments",
    "PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}",
    "GET /repos/{owner}/{repo}/commits/{commit_sha}/pulls",
    "GET /user",
    "GET /repos/{owner}/{repo}/installation",
    "POST /app/installations/{installation_id}/access_tokens",
)
_WEBHOOKS: Final = (
    *("push", "ping", "issue-comment-created"),
    *("pull-request-opened", "pull-request-synchronize", "pull-request-closed"),
)
_KEPT: Final = frozenset(
    {
        *("type", "properties", "required", "items", "enum", "additionalProperties", "nullable", "$ref"),
        *("oneOf", "anyOf", "allOf", "not", "minimum", "maximum", "minItems", "maxItems", "minLength"),
        *("maxLength", "pattern"),
    }
)
_PREFIX: Final = "#/components/schemas/"


def mistakes(requests: Iterable[Request]) -> list[str]:
    """Where requests, or the answers that said yes to them, are not what the description has."""
    found: list[str] = []
    for request in requests:
        operation = _operation(request.method, request.path)
        if operation is None:
            continue
        name, described = operation
        found += [
            f"{name}: {key} is no parameter" for key in request.query if key not in _names(described["query"])
        ]
        if request.body is not None and request.status < 300:
            found += _wrong(f"{name} takes", request.body)
        if request.answer is not None and request.status == described["status"]:
            found += _wrong(f"{name} answers", request.answer)
        elif request.status < 300:
            found.append(f"{name}: {request.status} is no answer")
    return found


def wrong_deliveries(deliveries: Iterable[Delivery]) -> list[str]:
    """Where webhooks are not what the description has."""
    found: list[str] = []
    for delivery in deliveries:
        action = delivery.payload.get("action")
        name = delivery.event.replace("_", "-") + (f"-{action}" if action else "")
        found += _wrong(name, delivery.payload)
    return found


@cache
def _description() -> dict[str, dict[str, dict[str, object]]]:
    described: dict[str, dict[str, dict[str, object]]] = json.loads(FILE.read_text())
    return described


def _operation(method: str, path: str) -> tuple[str, Mapping[str, object]] | None:
    for name, described in _description()["operations"].items():
        verb, _, template = name.partition(" ")
        # A ref may have slashes in it.
        pattern = re.sub(r"\{(\w+)\}", lambda m: ".+" if m[1] == "ref" else "[^/]+", template)
        if verb == method and re.fullmatch(pattern, path):
            return name, described
    return None


def _names(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _wrong(what: str, value: object) -> list[str]:
    return [
        f"{what}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in _validator(what).iter_errors(value)
    ]


@cache
def _validator(what: str) -> jsonschema.Draft202012Validator:
    name, _, part = what.rpartition(" ")
    whole = _description()
    schema = whole["operations"][name][part] if name else whole["webhooks"][what]
    return jsonschema.Draft202012Validator({"schemas": whole["schemas"], "allOf": [schema]})


class _Trimmer:
    def __init__(self, document: Json) -> None:
        self._document = document
        self.schemas: dict[str, Json] = {}

    def under(self, *keys: str) -> Json:
        value = self._document
        for key in keys:
            assert isinstance(value, dict)
            value = value[key]
        return value

    def schema(self, value: Json) -> Json:
        """A schema in JSON Schema's words, with all that it refers to kept aside."""
        if not isinstance(value, dict):
            return value
        kept: dict[str, Json] = {}
        for key, part in value.items():
            if key not in _KEPT:
                continue
            if key == "properties":
                assert isinstance(part, dict)
                kept[key] = {name: self.schema(each) for name, each in part.items()}
            elif key in ("oneOf", "anyOf", "allOf"):
                assert isinstance(part, list)
                kept[key] = [self.schema(each) for each in part]
            elif key in ("items", "additionalProperties", "not"):
                kept[key] = self.schema(part)
            elif key == "$ref":
                assert isinstance(part, str)
                kept[key] = f"#/schemas/{self._keep(part.removeprefix(_PREFIX))}"
            elif key != "nullable":
                kept[key] = part
        return {"anyOf": [kept, {"type": "null"}]} if value.get("nullable") is True else kept

    def _keep(self, name: str) -> str:
        if name not in self.schemas:
            self.schemas[name] = None
            self.schemas[name] = self.schema(self.under("components", "schemas", name))
        return name

    def operation(self, name: str) -> Json:
        verb, _, path = name.partition(" ")
        described = self.under("paths", path, verb.lower())
        assert isinstance(described, dict)
        responses = described["responses"]
        assert isinstance(responses, dict)
        status = next(code for code in responses if code.startswith("2"))
        return {
            "query": [*sorted(self._query(described.get("parameters", [])))],
            "takes": self.schema(_content(described.get("requestBody"))),
            "status": int(status),
            "answers": self.schema(_content(responses[status])),
        }

    def _query(self, parameters: Json) -> list[str]:
        assert isinstance(parameters, list)
        found = []
        for parameter in parameters:
            assert isinstance(parameter, dict)
            if "$ref" in parameter:
                parameter = self.under(*str(parameter["$ref"]).removeprefix("#/").split("/"))
                assert isinstance(parameter, dict)
            if parameter["in"] == "query":
                found.append(str(parameter["name"]))
        return found

    def webhook(self, name: str) -> Json:
        described = self.under("x-webhooks", name, "post")
        assert isinstance(described, dict)
        return self.schema(_content(described["requestBody"]))


def _content(value: Json) -> Json:
    if not isinstance(value, dict):
        return None
    content = value["content"]
    assert isinstance(content, dict)
    media = content["application/json"]
    assert isinstance(media, dict)
    return media["schema"]


def make(package: Path) -> Json:
    """The trimmed description of an unpacked package."""
    document: Json = json.loads((package / _SOURCE).read_text())
    trimmer = _Trimmer(document)
    info = trimmer.under("info")
    assert isinstance(info, dict)
    operations = {name: trimmer.operation(name) for name in _OPERATIONS}
    webhooks = {name: trimmer.webhook(name) for name in _WEBHOOKS}
    return {
        "made of": f"@octokit/openapi {info['version']}, see description.LICENSE",
        "operations": operations,
        "webhooks": webhooks,
        "schemas": dict(sorted(trimmer.schemas.items())),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(make(Path(sys.argv[1])), separators=(",", ":"), sort_keys=True) + "\n")
