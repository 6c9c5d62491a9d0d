"""Reports as messages of chats: what their makers take, with nobody called and nothing obeyed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import jsonschema
import pytest

from orchestrator.adapters.chat import FORMS, ReportChats
from orchestrator.domain.report import MetricRow, Report, Word
from tests.support.chats import SCHEMAS
from tests.unit.adapters_render.reports import broken, crashed, run

HOSTILE = (
    "@channel @everyone <!here> <@U123> <!channel> <@&42> [x](https://evil.example) **b** `c` ```d``` "
    "~town-square #general <at>all</at> <img src=x onerror=alert(1)> | a | b | \u202e RTL \u05d0 \U0001f600"
)


def message(form: str, of: Report, mask: str = "") -> str:
    made = ReportChats(lambda text: text.replace(mask, "***") if mask else text).message(form, of)
    return made.decode()


def hostile() -> Report:
    made = broken()
    check = replace(made.checks[0], check=HOSTILE, metric="x", sentence=HOSTILE)
    return replace(
        made,
        run=run(subject=HOSTILE, author=HOSTILE, branch=HOSTILE),
        headline=HOSTILE,
        key_metric=HOSTILE,
        checks=(check, *made.checks),
        metrics=(MetricRow(HOSTILE, "1", "2", "-1", HOSTILE), *made.metrics),
        warnings=(HOSTILE,),
        likely_cause=HOSTILE,
    )


def huge() -> Report:
    made = broken()
    long = "&<>`*_ \U0001f600" * 2000
    return replace(
        made,
        run=run(subject=long, author=long, branch=long),
        headline=long,
        outcome=long,
        what_changed=long,
        host=long,
        checks=tuple(replace(made.checks[0], check=long, sentence=long) for _ in range(200)),
        metrics=tuple(MetricRow(f"{long}{i}", "1" * 999, long, long, long) for i in range(500)),
        warnings=(long,) * 100,
        likely_cause=long,
        baseline_title=long,
        url="https://ci.example.org/runs/42",
    )


def bare() -> Report:
    made = broken()
    return replace(
        made, checks=(), metrics=(), warnings=(), headline="", url="", what_changed="", outcome="", host=""
    )


def texts(value: object) -> Iterator[str]:
    """All texts of a message but those that name kinds and addresses."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in ("type", "url", "title_link", "$schema", "contentType", "action_id", "color"):
                yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [broken, crashed, hostile, huge, bare])
def test_a_message_is_what_the_chat_takes(form: str, make: object) -> None:
    assert callable(make)
    made = json.loads(message(form, make()))
    jsonschema.Draft202012Validator(SCHEMAS[form]).validate(made)


@pytest.mark.parametrize("form", FORMS)
def test_an_ordinary_message_has_the_reports_words_numbers_and_link(form: str) -> None:
    of = replace(broken(), url="https://ci.example.org/runs/42")
    shown = " ".join(texts(json.loads(message(form, of)))).replace("\\", "")
    assert of.label in shown
    assert "try smaller trees" in shown
    assert of.metrics[0].name in shown
    assert of.metrics[0].value in shown
    assert "worse by 0.018" in shown
    assert "https://ci.example.org/runs/42" in message(form, of)


def obeyed(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Without the parts that Mattermost shows as they are."""
    return {key: value for key, value in pairs if key not in ("fallback", "footer")}


@pytest.mark.parametrize("form", FORMS)
def test_nobody_is_called_and_no_markup_is_obeyed(form: str) -> None:
    made = message(form, hostile())
    for call in ("@channel", "@everyone", "@U123", "@&42"):
        assert call not in made
    if form == "slack":
        # The only mrkdwn in it; all else is plain text, in which Slack obeys nothing.
        assert "<" not in json.loads(made)["text"]
    if form in ("discord", "mattermost"):
        for text in texts(json.loads(made, object_pairs_hook=obeyed)):
            outside = "".join(text.split("```")[::2])
            assert "[x](" not in outside
            assert "**b**" not in outside
    if form == "mattermost":
        assert "~town-square" not in made
        assert "#general" not in made


def test_discord_is_told_to_call_nobody_and_its_table_ends_where_it_should() -> None:
    made = json.loads(message("discord", hostile()))
    assert made["allowed_mentions"] == {"parse": []}
    (embed,) = made["embeds"]
    assert embed["description"].count("```") == 2


def test_an_embed_is_within_the_limit_of_all_its_texts() -> None:
    (embed,) = json.loads(message("discord", huge()))["embeds"]
    told = [embed["title"], embed["description"], *(f["name"] + f["value"] for f in embed["fields"])]
    assert sum(len(text.encode("utf-16-le")) // 2 for text in told) <= 6000


def test_a_card_is_within_the_28_kib_that_teams_takes() -> None:
    assert len(message("teams", huge()).encode()) <= 28 * 1024


@pytest.mark.parametrize("form", FORMS)
def test_secrets_are_masked_before_escaping_hides_them(form: str) -> None:
    secret = 'p<a>&s"s*w_o`r@d#1'
    of = replace(broken(), headline=f"token {secret} was printed", warnings=(f"{'x' * 190}{secret}",))
    made = message(form, of, secret)
    shown = " ".join(texts(json.loads(made)))
    assert "***" in shown.replace("\\", "")
    for part in ("w_o", "w\\_o", "p<a", "p&lt;a", "p\\<a", "*w"):
        assert part not in shown.replace("***", "")


def test_a_run_that_began_has_no_verdicts_colour() -> None:
    began = replace(broken(), word=Word.STARTED)
    (embed,) = json.loads(message("discord", began))["embeds"]
    (ended,) = json.loads(message("discord", broken()))["embeds"]
    assert embed["color"] != ended["color"]
