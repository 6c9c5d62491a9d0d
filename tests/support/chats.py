"""What chats take, as JSON Schema, with the limits that their makers document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | bool | None"
Schema: TypeAlias = Mapping[str, Json]


def _shape(required: Mapping[str, Json], **optional: Json) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _text(most: int, least: int = 1) -> Schema:
    return {"type": "string", "minLength": least, "maxLength": most}


def _items(of: Schema, most: int, least: int = 1) -> Schema:
    return {"type": "array", "items": of, "minItems": least, "maxItems": most}


_URL: Schema = {"type": "string", "pattern": "^https?://", "maxLength": 3000}


def _plain(most: int) -> Schema:
    return _shape({"type": {"const": "plain_text"}, "text": _text(most)}, emoji={"type": "boolean"})


_PREFORMATTED = _shape(
    {
        "type": {"const": "rich_text_preformatted"},
        "elements": _items(_shape({"type": {"const": "text"}, "text": _text(10_000)}), 1),
    }
)
_BUTTON = _shape(
    {"type": {"const": "button"}, "text": _plain(75), "action_id": _text(255)},
    url=_URL,
)
SLACK: Schema = _shape(
    {
        "text": _text(40_000),
        "blocks": _items(
            {
                "oneOf": [
                    _shape({"type": {"const": "header"}, "text": _plain(150)}),
                    _shape({"type": {"const": "section"}, "text": _plain(3000)}),
                    _shape({"type": {"const": "section"}, "fields": _items(_plain(2000), 10)}),
                    _shape({"type": {"const": "context"}, "elements": _items(_plain(3000), 10)}),
                    _shape({"type": {"const": "rich_text"}, "elements": _items(_PREFORMATTED, 5)}),
                    _shape({"type": {"const": "actions"}, "elements": _items(_BUTTON, 25)}),
                ]
            },
            50,
        ),
    }
)

_RUN = _shape(
    {"type": {"const": "TextRun"}, "text": _text(28_000)},
    weight={"enum": ["lighter", "default", "bolder"]},
    size={"enum": ["small", "default", "medium", "large", "extraLarge"]},
    color={"enum": ["default", "dark", "light", "accent", "good", "warning", "attention"]},
    isSubtle={"type": "boolean"},
)
_RICH = _shape({"type": {"const": "RichTextBlock"}, "inlines": _items(_RUN, 50)})
_COLUMN = _shape(
    {"type": {"const": "Column"}, "items": _items(_RICH, 200), "width": {"enum": ["auto", "stretch"]}}
)
_CARD = _shape(
    {
        "type": {"const": "AdaptiveCard"},
        "version": {"enum": ["1.4"]},
        "body": _items(
            {"oneOf": [_RICH, _shape({"type": {"const": "ColumnSet"}, "columns": _items(_COLUMN, 10)})]}, 200
        ),
    },
    **{
        "$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"},
        "fallbackText": _text(28_000),
        "actions": _items(
            _shape({"type": {"const": "Action.OpenUrl"}, "title": _text(200), "url": _URL}), 6, 0
        ),
        "msteams": _shape({"width": {"const": "Full"}}),
    },
)
TEAMS: Schema = _shape(
    {
        "type": {"const": "message"},
        "attachments": _items(
            _shape(
                {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": _CARD,
                }
            ),
            1,
        ),
    }
)

DISCORD: Schema = _shape(
    {
        "embeds": _items(
            _shape(
                {"title": _text(256)},
                description=_text(4096),
                url=_URL,
                color={"type": "integer", "minimum": 0, "maximum": 0xFFFFFF},
                fields=_items(
                    _shape({"name": _text(256), "value": _text(1024)}, inline={"type": "boolean"}), 25
                ),
            ),
            10,
        ),
        "allowed_mentions": _shape({"parse": {"const": []}}),
    }
)

MATTERMOST: Schema = _shape(
    {
        "attachments": _items(
            _shape(
                {"fallback": _text(4000)},
                color={"type": "string", "pattern": "^#[0-9a-f]{6}$"},
                title=_text(4000),
                title_link=_URL,
                text=_text(4000, 0),
                footer=_text(300),
                fields={
                    "type": "array",
                    "items": _shape({"title": _text(4000), "value": _text(4000)}, short={"type": "boolean"}),
                },
            ),
            5,
        )
    }
)

SCHEMAS = {"slack": SLACK, "teams": TEAMS, "discord": DISCORD, "mattermost": MATTERMOST}
