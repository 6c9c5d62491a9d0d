"""What a rendered report says, and that nothing in a report becomes more than text."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.adapters.render import ReportRenderer
from orchestrator.adapters.render.renderer import SIZE_LIMIT
from orchestrator.domain.gate import CheckResult, Outcome
from orchestrator.domain.report import ArtifactRow, CommitRow, DeploymentRow, MetricRow, Report, Word
from tests.unit.adapters_render.reports import broken, crashed, run

RENDERER = ReportRenderer()


class Page(HTMLParser):
    """The elements, links and the visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def filled_with(text: str, count: int = 1) -> Report:
    """A report with the text in every place that holds one."""
    made = run(pipeline=text, subject=text, branch=text, author=text, commit=text)
    change = dataclasses.replace(
        made.change,
        requested_by=text,
        note=text,
        datasets=tuple(dataclasses.replace(d, dataset=text, fingerprint=text) for d in made.change.datasets),
    )
    check = CheckResult(text, text, Outcome.FAIL, text, warnings=(text,))
    return Report(
        run=dataclasses.replace(made, change=change, message=text),
        word=Word.FAILED,
        headline=text,
        key_metric=text,
        outcome=text,
        checks=(check,) * count,
        metrics=(MetricRow(text, text, text, text, text, better=True),) * count,
        baseline_title=text,
        what_changed=text,
        commits=(CommitRow(text, text, text, text),) * count,
        data_changes=(text,) * count,
        deployments=(DeploymentRow(text, text, text, text),) * count,
        artifacts=(ArtifactRow(text, 1),) * count,
        warnings=(text,) * count,
        likely_cause=text,
        log_tail=(text,) * count,
        duration=text,
        host=text,
        url=text,
    )


@pytest.mark.parametrize(
    "attack",
    [
        "<img src=x onerror=alert(1)>",
        "</title></td><script>alert(1)</script>",
        "\"><svg onload='alert(1)'>",
        "<!--",
        "' style='position:fixed",
    ],
)
def test_markup_in_any_field_of_a_report_stays_text(attack: str) -> None:
    ordinary, page = Page(RENDERER.render(broken()).html), Page(RENDERER.render(filled_with(attack)).html)
    assert page.tags <= ordinary.tags
    assert page.attributes <= ordinary.attributes
    assert page.text.count(" ".join(attack.split())) > 20


def test_template_language_in_a_report_stays_as_it_is() -> None:
    rendered = RENDERER.render(filled_with("{{7*7}} {% raw %} ${7*7}"))
    for words in (Page(rendered.html).text, rendered.text, rendered.subject):
        assert "{{7*7}} {% raw %} ${7*7}" in words
        assert "49" not in words


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "data:text/html,x", "//evil.example", "http://[x"]
)
def test_only_web_addresses_become_a_link(address: str) -> None:
    commits = (CommitRow("3f2a91c", "try", "Ada", address),)
    rendered = RENDERER.render(
        dataclasses.replace(broken(), url=address, commits=commits, compare_url=address, commit_url=address)
    )
    assert Page(rendered.html).links == []
    assert address not in rendered.text


def test_the_run_is_one_click_away_and_nothing_else_is_loaded() -> None:
    page = Page(RENDERER.render(broken()).html)
    assert page.links == [
        "http://localhost:8080/runs/42",
        "https://github.com/acme/wine/commit/3f2a91c",
        "https://github.com/acme/wine/compare/77aa310...3f2a91c",
    ]
    assert page.tags.isdisjoint({"script", "img", "link", "iframe", "form", "object"})


@pytest.mark.parametrize("text", ["x" * 100_000, "&" * 5_000, "😀" * 5_000, "a b " * 2_000, "\n" * 9_000])
def test_a_rendering_stays_under_80_kb_whatever_a_report_holds(text: str) -> None:
    rendered = RENDERER.render(filled_with(text, count=400))
    assert len(rendered.html.encode()) <= SIZE_LIMIT
    assert len(rendered.text.encode()) <= SIZE_LIMIT
    for words in (Page(rendered.html).text, rendered.text):
        assert "more not shown here" in words


def test_a_report_of_ordinary_size_is_not_cut() -> None:
    many = tuple(MetricRow(f"class_{n}/f1", "0.9", "0.8", "+0.1", better=True) for n in range(60))
    rendered = RENDERER.render(dataclasses.replace(broken(), metrics=many))
    for words in (rendered.html, rendered.text):
        assert "class_59/f1" in words
        assert "not shown here" not in words


def test_the_sentences_of_the_domain_stand_word_for_word_in_both_renderings() -> None:
    report = broken()
    rendered = RENDERER.render(report)
    sentences = [
        report.headline,
        *(check.sentence for check in report.checks),
        *(warning for check in report.checks for warning in check.warnings),
        *report.warnings,
        report.what_changed,
        *(row.line for row in report.commits),
        *report.data_changes,
    ]
    for words in (Page(rendered.html).text, " ".join(rendered.text.split())):
        assert [sentence for sentence in sentences if sentence not in words] == []


def test_both_renderings_tell_the_same_facts() -> None:
    rendered = RENDERER.render(broken())
    facts = ["0.897", "0.915", "-0.018", "14.2 ms", "prod", "20261123T054459Z-42", "model.joblib", "1.2 MiB"]
    facts += [
        "wine-quality #17",
        "3f2a91c0 try smaller trees",
        "main",
        "Ana Sousa",
        "wine v7",
        "local",
        "4 m 12 s",
    ]
    for words in (Page(rendered.html).text, " ".join(rendered.text.split())):
        assert [fact for fact in facts if fact not in words] == []


def test_the_verdict_comes_before_everything_else() -> None:
    rendered = RENDERER.render(broken())
    order = ["roken", "Checks", "What changed", "Metrics", "Deployments", "Warnings", "Artifacts", "3f2a91c0"]
    body = rendered.html.partition("<body")[2]
    for words in (body, rendered.text):
        assert sorted(order, key=words.index) == order


def test_good_and_bad_are_told_in_words_not_only_in_colour() -> None:
    lines = RENDERER.render(broken()).text.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("▼ worse")] == ["accuracy"]
    assert [line.split()[0] for line in lines if line.endswith("▲ better")] == ["latency"]


def test_a_failure_shows_its_likely_cause_and_the_last_30_lines_of_the_log() -> None:
    rendered = RENDERER.render(crashed())
    for words in (Page(rendered.html).text, rendered.text):
        assert "Likely cause" in words
        assert "epoch 14: loss" in words
        assert "epoch 13: loss" not in words
    assert rendered.text.count("  | ") == 30
    assert "  |     model.fit(frame[COLUMNS], frame.quality)" in rendered.text


def test_control_characters_and_marks_that_turn_the_text_round_are_left_out() -> None:
    rendered = RENDERER.render(filled_with("a\x1b[31mb\u202ec\x00d\u2028e\ud800"))
    for words in (rendered.subject, rendered.text, rendered.html):
        assert "a[31mbcd e" in words
        assert {"\x1b", "\u202e", "\x00", "\ud800"}.isdisjoint(words)


@pytest.mark.parametrize("word", Word)
def test_every_word_has_a_page(word: Word) -> None:
    report = dataclasses.replace(broken(), word=word)
    page = Page(RENDERER.render(report).html)
    assert report.label.capitalize() in page.words


@settings(max_examples=40, deadline=None)
@given(text=st.text(st.characters(), max_size=300), count=st.integers(0, 40))
def test_any_text_renders_within_the_limit(text: str, count: int) -> None:
    rendered = RENDERER.render(filled_with(text, count))
    assert len(rendered.html.encode()) <= SIZE_LIMIT
    assert len(rendered.text.encode()) <= SIZE_LIMIT
    assert "\n" not in rendered.subject
