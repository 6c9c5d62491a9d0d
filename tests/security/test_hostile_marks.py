"""What a run measures and prints, on its commit: shown as it is, and nobody obeys it."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from orchestrator.adapters.render import ReportRenderer
from orchestrator.bootstrap.masked import MaskedForge
from orchestrator.domain.markdown import plain, table
from orchestrator.domain.report import MetricRow
from orchestrator.domain.text import clean
from orchestrator.observe import Masker
from orchestrator.ports.forge import CommitStatus, Mark
from tests.unit.adapters_render.reports import broken
from tests.unit.services.forges import WINE, FakeForge

HOSTILE = (
    "![x](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "@acme/everyone",
    "closes #1",
    "acme/wine#1",
    "https://evil.example",
    "`code` **bold** ~~gone~~ $math$",
    "| a | b |\n| --- | --- |",
    "\u202egnp.exe \x1b[31mred",
    "&lt;b&gt; \\<b\\>",
)


def rendered(markdown: str) -> str:
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_shows_as_it_is_and_becomes_no_markup(text: str) -> None:
    page = rendered(plain(text))
    assert re.findall(r"<[^>]*>", page) == ["<p>", "</p>"]
    assert html.unescape(page[3:-5]).replace("\u2060", "") == clean(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_nobody_is_called_and_nothing_is_linked_or_referred_to_by_a_text(text: str) -> None:
    shown = html.unescape(rendered(plain(text)))
    assert not re.search(r"@\w|#\d|://", shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_breaks_out_of_no_table(text: str) -> None:
    page = rendered(table(("name", "value"), [(text, "1"), ("2", text)]))
    assert (page.count("<tr>"), page.count("<td>")) == (3, 4)
    assert not re.search(r"<(?!/?(?:table|thead|tbody|tr|th|td)>)", page)


def test_nothing_that_a_report_holds_is_obeyed_on_a_commit() -> None:
    evil = " ".join(HOSTILE[:7])
    found = broken()
    hostile = replace(
        found,
        headline=evil,
        what_changed=evil,
        likely_cause=evil,
        baseline_title=evil,
        warnings=(evil,),
        metrics=(MetricRow(evil, evil, evil, evil, evil),),
        checks=tuple(replace(check, check=evil, sentence=evil) for check in found.checks),
        log_tail=("the log says something",),
    )
    page = rendered(ReportRenderer().comment(hostile).text)
    assert set(re.findall(r'href="([^"]*)"', page)) == {
        "https://github.com/acme/wine/commit/3f2a91c",
        "https://github.com/acme/wine/compare/77aa310...3f2a91c",
    }
    page = re.sub(r"</?a[^>]*>", "", page)
    ours = {"p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert set(re.findall(r"</?([^\s>/]+)", page)) == ours
    assert not re.search(r"@\w|#\d|://", html.unescape(page))
    assert "the log says something" not in page


def test_a_secret_of_the_configuration_shows_on_no_commit_and_in_no_comment() -> None:
    inner = FakeForge()
    secrets = Secretive()
    forge = MaskedForge(inner, Masker(["correct-horse-battery"]), secrets)  # type: ignore[arg-type]
    text = "the metric correct-horse-battery fell"
    forge.set_status(WINE, CommitStatus("a" * 40, "mlci/wine", Mark.FAILURE, text, details=text))
    forge.comment(WINE, 7, text)
    assert "correct-horse-battery" not in repr((inner.marks, inner.answers))
    assert secrets.learned == 2


class Secretive:
    """Counts how often secrets were read anew before something was told."""

    learned = 0

    def learn_now_and_then(self) -> None:
        self.learned += 1
