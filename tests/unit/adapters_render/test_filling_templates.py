"""Templates of a repository: what they may say, and that nothing else is possible."""

import time
from collections.abc import Mapping

import pytest

from orchestrator.adapters.render.filling import SandboxedTemplates
from orchestrator.domain.errors import InvalidInput
from orchestrator.ports.templates import Value

VALUES: Mapping[str, Value] = {
    "run": {"id": 7, "commit": "abc"},
    "metrics": {"accuracy": 0.93},
    "release": "r",
}


def test_values_conditions_loops_and_filters_are_filled_in() -> None:
    text = (
        "commit = {{ run.commit }}\n{% for name in metrics %}{{ name }}={{ metrics[name] | round(1) }}\n"
        "{% endfor %}{% if run.id > 5 %}new{% else %}old{% endif %} {{ missing | default('none') }}\n"
    )
    assert SandboxedTemplates().fill("a.ini", text, VALUES) == "commit = abc\naccuracy=0.9\nnew none\n"


@pytest.mark.parametrize(
    "text",
    [
        "{{ run.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ run.items() }}",
        "{{ range(10) }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%1000000000d' % 1 }}",
        "{% set x = 'a' %}{{ x }}",
        "{% with x = 'a' %}{{ x }}{% endwith %}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% macro m() %}{{ m() }}{% endmacro %}",
        "{{ 'ab' | replace('', 'x') }}",
        "{{ run | attr('__class__') }}",
        "{% for a in metrics recursive %}{{ a }}{% endfor %}",
        "{% for a in run %}{% for b in run %}{% for c in run %}{% endfor %}{% endfor %}{% endfor %}",
        "{{ unknown }}",
        "{{ run.id",
        "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    ],
)
def test_a_template_reaches_and_takes_nothing_beyond_its_values(text: str) -> None:
    with pytest.raises(InvalidInput, match="the template evil"):
        SandboxedTemplates().fill("evil", text, VALUES)


def test_a_template_that_grows_without_end_is_stopped() -> None:
    many: Mapping[str, Value] = {"metrics": {f"metric-{n}": n for n in range(3000)}}
    text = "{% for a in metrics %}{% for b in metrics %}{{ a }}{{ b }}{% endfor %}{% endfor %}"
    began = time.monotonic()
    with pytest.raises(InvalidInput, match="makes more than 1 MiB"):
        SandboxedTemplates().fill("big", text, many)
    assert time.monotonic() - began < 10
