"""Messages for hooks of chats, within the limits that their makers document."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from orchestrator.adapters.chat import escaping
from orchestrator.adapters.chat.telling import Mask, Telling, aligned, fitting, telling_of, units
from orchestrator.domain.report import Report

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

SLACK_HEADER: Final = 150
SLACK_TEXT: Final = 3000
SLACK_FIELDS: Final = 10
SLACK_FIELD: Final = 2000
TEAMS_BYTES: Final = 28 * 1024
DISCORD_TITLE: Final = 256
DISCORD_DESCRIPTION: Final = 4096
DISCORD_FIELD: Final = 1024
DISCORD_TOTAL: Final = 6000
MATTERMOST_TEXT: Final = 4000
"""What the oldest servers take of a post."""
_LINK: Final = "Open the report"
_ADDRESS: Final = 2000


class ReportChats:
    """Implements ``ports.chat.Chats``. ``mask`` blanks secrets out of each text before it is escaped."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def message(self, form: str, report: Report) -> bytes:
        """A report in one of ``FORMS``."""
        told = telling_of(report, self._mask)
        return json.dumps(FORMS[form](told), ensure_ascii=False).encode("utf-8", "replace")


def slack(told: Telling) -> Json:
    """Block Kit. Texts are plain ones, in which Slack looks for nothing; a table is preformatted text."""
    blocks: list[Json] = [{"type": "header", "text": _slack_text(told.title, SLACK_HEADER)}]
    if told.headline:
        blocks.append({"type": "section", "text": _slack_text(told.headline, SLACK_TEXT)})
    if told.checks:
        blocks.append({"type": "section", "text": _slack_text("\n".join(told.checks), SLACK_TEXT)})
    if told.metrics:
        table: Json = {"type": "text", "text": escaping.literal(aligned(told.columns, told.metrics))}
        blocks.append(
            {"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": [table]}]}
        )
    if told.facts:
        fields: list[Json] = [
            _slack_text(f"{name}\n{value}", SLACK_FIELD) for name, value in told.facts[:SLACK_FIELDS]
        ]
        blocks.append({"type": "section", "fields": fields})
    if told.notes:
        blocks.append({"type": "context", "elements": [_slack_text("\n".join(told.notes), SLACK_TEXT)]})
    if _linked(told):
        button: Json = {
            "type": "button",
            "text": _slack_text(_LINK, 75),
            "url": told.url,
            "action_id": "open-report",
        }
        blocks.append({"type": "actions", "elements": [button]})
    return {"text": fitting(told.subject, SLACK_TEXT, escaping.slack), "blocks": blocks}


def _slack_text(text: str, limit: int) -> dict[str, Json]:
    return {"type": "plain_text", "text": fitting(text, limit, escaping.literal), "emoji": False}


def teams(told: Telling) -> Json:
    """An Adaptive Card as the hooks of Teams workflows take it. Runs of text have no markup in them."""
    body: list[Json] = [_paragraph(told.title, weight="bolder", size="medium", color=_teams_colour(told))]
    body += [_paragraph(told.headline)] if told.headline else []
    body += [_paragraph(check) for check in told.checks]
    if told.metrics:
        body.append(_teams_table(told))
    body += [
        {"type": "RichTextBlock", "inlines": [_run(f"{name}: ", weight="bolder"), _run(value)]}
        for name, value in told.facts
    ]
    body += [_paragraph(note, isSubtle=True) for note in told.notes]
    actions: list[Json] = []
    if _linked(told):
        actions.append({"type": "Action.OpenUrl", "title": _LINK, "url": told.url})
    message = _teams_message(told, body, actions)
    while len(json.dumps(message, ensure_ascii=False).encode()) > TEAMS_BYTES and len(body) > 1:
        body.pop()
        message = _teams_message(told, body, actions)
    return message


def _teams_message(told: Telling, body: list[Json], actions: list[Json]) -> Json:
    card: dict[str, Json] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": escaping.literal(told.subject),
        "body": body,
        "actions": actions,
        "msteams": {"width": "Full"},
    }
    attachment: Json = {
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": None,
        "content": card,
    }
    return {"type": "message", "attachments": [attachment]}


def _teams_table(told: Telling) -> Json:
    columns: list[Json] = []
    for index, heading in enumerate(told.columns):
        items: list[Json] = [_paragraph(heading, weight="bolder")]
        items += [_paragraph(row[index] or " ") for row in told.metrics]
        columns.append({"type": "Column", "width": "auto" if index else "stretch", "items": items})
    return {"type": "ColumnSet", "columns": columns}


def _paragraph(text: str, **looks: Json) -> Json:
    return {"type": "RichTextBlock", "inlines": [_run(text, **looks)]}


def _run(text: str, **looks: Json) -> Json:
    return {"type": "TextRun", "text": escaping.literal(text), **looks}


def _teams_colour(told: Telling) -> str:
    if told.good:
        return "good"
    return "attention" if told.bad else "default"


def discord(told: Telling) -> Json:
    """An embed. Nobody is called: it says so, and the texts call nobody either."""
    left = DISCORD_TOTAL

    def part(text: str, limit: int, escape: Callable[[str], str] = escaping.discord) -> str:
        nonlocal left
        shown = fitting(text, min(limit, left), escape)
        left -= units(shown)
        return shown

    embed: dict[str, Json] = {"title": part(told.title, DISCORD_TITLE), "color": int(told.colour, 16)}
    if _linked(told):
        embed["url"] = told.url
    lines = [line for line in (told.headline, *told.checks) if line]
    described = part("\n".join(lines), DISCORD_DESCRIPTION - 1000) if lines else ""
    if told.metrics and left > 1000:
        table = part(aligned(told.columns, told.metrics), 900, escaping.code)
        described += f"\n```\n{table}\n```"
        left -= 9
    if described:
        embed["description"] = described
    fields: list[Json] = []
    for name, value in [*told.facts, *([("Notes", "\n".join(told.notes))] if told.notes else [])]:
        if left < 200:
            break
        fields.append(
            {"name": part(name, 100), "value": part(value, min(DISCORD_FIELD, 400)), "inline": True}
        )
    if fields:
        embed["fields"] = fields
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def mattermost(told: Telling) -> Json:
    """An attachment with Markdown in it."""

    def shown(text: str, limit: int) -> str:
        return fitting(text, limit, escaping.mattermost)

    lines = [shown(line, 1200) for line in (told.headline, *told.checks) if line]
    text = "\n".join(lines)
    if told.metrics:
        rows = [told.columns, ("---",) * len(told.columns), *told.metrics]
        table = "\n".join(
            "| " + " | ".join(cell if cell == "---" else shown(cell, 120) for cell in row) + " |"
            for row in rows
        )
        text = f"{text}\n\n{table}" if units(text) + units(table) + 2 <= MATTERMOST_TEXT else text
    attachment: dict[str, Json] = {
        "fallback": fitting(told.subject, 1000, escaping.uncalled),
        "color": f"#{told.colour}",
        "title": fitting(told.title, 300, escaping.uncalled),
        "text": text if units(text) <= MATTERMOST_TEXT else "\n".join(lines[:2]),
        "fields": [
            {"title": shown(name, 100), "value": shown(value, 600), "short": len(value) < 40}
            for name, value in told.facts
        ],
    }
    if _linked(told):
        attachment["title_link"] = told.url
    if told.notes:
        attachment["footer"] = fitting("; ".join(told.notes), 300, escaping.uncalled)
    return {"attachments": [attachment]}


def _linked(told: Telling) -> bool:
    return told.url.startswith(("http://", "https://")) and units(told.url) <= _ADDRESS


FORMS: Final[Mapping[str, Callable[[Telling], Json]]] = {
    "slack": slack,
    "teams": teams,
    "discord": discord,
    "mattermost": mattermost,
}
"""How each chat is told."""
