"""Templates of the administrator's take the place of our forms; where one fails, ours is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.render import CustomTemplates, ReportRenderer
from tests.unit.adapters_render.reports import broken


def rendering(folder: Path, **texts: str) -> ReportRenderer:
    files = {}
    for form, text in texts.items():
        files[form] = folder / f"{form}.jinja"
        files[form].write_text(text)
    return ReportRenderer(custom=CustomTemplates(files))


def test_each_form_is_what_its_template_makes(tmp_path: Path) -> None:
    made = rendering(
        tmp_path,
        subject="{{ run.pipeline }} is {{ word }}\n",
        text="{% for check in checks %}{{ check.text }}\n{% endfor %}",
        comment="Hello.\n\n{{ standard }}",
    )
    report = broken()
    rendered = made.render(report)
    assert rendered.subject == "wine-quality is rejected (broken)"
    assert rendered.text == "".join(f"{check.check}\n" for check in report.checks)
    assert made.comment(report).text == "Hello.\n\n" + ReportRenderer().comment(report).text
    assert rendered.trouble == ""


def test_html_that_is_no_whole_page_stands_in_ours(tmp_path: Path) -> None:
    rendered = rendering(tmp_path, html="<p>A note for all.</p>{{ standard }}").render(broken())
    standard = ReportRenderer().render(broken()).html
    assert rendered.html.startswith("<!DOCTYPE html>")
    assert rendered.html.replace("<p>A note for all.</p>", "") == standard
    whole = rendering(tmp_path, html="<html><body>{{ headline }}</body></html>").render(broken())
    assert whole.html.startswith("<html><body>")


def test_what_a_repository_wrote_means_nothing_in_any_form(tmp_path: Path) -> None:
    evil = replace(broken(), likely_cause="<script>x</script> [a](http://evil.example) @all")
    made = rendering(
        tmp_path,
        html="{{ likely_cause }}{{ likely_cause | upper }}",
        comment="{{ likely_cause }} {{ likely_cause ~ likely_cause }} {{ likely_cause | tojson }}",
    )
    assert "<script>" not in made.render(evil).html.lower()
    comment = made.comment(evil).text
    assert "<script>" not in comment
    assert "](http" not in comment
    assert "@all" not in comment


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{{ nothing_such }}", "'nothing_such' is undefined"),
        ("{% for", "line 1"),
        ("{{ ''.__class__ }}", "unsafe"),
        ("{{ range(9) }}", "not possible in a template"),
        ("{% for c in checks %}" * 3 + "{% endfor %}" * 3, "2 deep"),
    ],
)
def test_a_template_with_an_error_costs_neither_the_report_nor_a_word_about_it(
    tmp_path: Path, text: str, told: str
) -> None:
    rendered = rendering(tmp_path, html=text, text=text).render(broken())
    standard = ReportRenderer().render(broken())
    assert (rendered.html, rendered.text) == (standard.html, standard.text)
    assert "html.jinja" in rendered.trouble
    assert "text.jinja" in rendered.trouble
    assert told in rendered.trouble


def test_a_template_that_is_gone_or_makes_too_much_is_told_of(tmp_path: Path) -> None:
    gone = ReportRenderer(custom=CustomTemplates({"text": tmp_path / "gone.txt"})).render(broken())
    assert "gone.txt cannot be read" in gone.trouble
    assert gone.text == ReportRenderer().render(broken()).text
    large = rendering(tmp_path, text="x" * 90_000).render(broken())
    assert large.text == ReportRenderer().render(broken()).text
    assert "90000 bytes" in large.trouble


def test_secrets_are_gone_before_a_text_is_escaped() -> None:
    report = replace(broken(), likely_cause="password is s_3-cr*et")
    hiding = ReportRenderer(mask=lambda text: text.replace("s_3-cr*et", "***"))
    for text in (hiding.comment(report).text, hiding.markdown(report), hiding.render(report).html):
        assert "cr" not in text.split("password is ")[1][:20]
