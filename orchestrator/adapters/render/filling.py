"""Templates that others write, filled in by Jinja: what they may say is listed, and all else refused.

The sandbox keeps a template from reaching Python. It does not keep it from taking a gigabyte or a day, so
that no template gets the means: nothing is called, assigned, multiplied or imported, loops go over what is
given, two deep at most, and no filter makes more of less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.markdown import plain
from orchestrator.ports.templates import Value

_FILTERS: Final = ("default", "int", "float", "round", "length", "lower", "upper", "trim", "tojson", "string")
_TESTS: Final = ("defined", "undefined", "none", "true", "false")
_NODES: Final = (
    *("Template", "Output", "TemplateData", "Name", "Const", "Getattr", "Getitem", "For", "If", "CondExpr"),
    *("Filter", "Test", "Compare", "Operand", "And", "Or", "Not", "Concat"),
)
Form = Literal["text", "html", "markdown"]
"""What a template makes: values are escaped so that they mean nothing there."""
_DEEPEST: Final = 2
_NONE: Final[Mapping[str, str]] = {}
_LIMIT: Final = 1024 * 1024


class SandboxedTemplates:
    """Implements Templates."""

    def fill(
        self,
        name: str,
        text: str,
        values: Mapping[str, Value],
        markup: Form = "text",
        made: Mapping[str, str] = _NONE,
    ) -> str:
        """See the port. The result has at most 1 MiB. ``made`` are values that are markup already."""
        from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from markupsafe import Markup

        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined,
            autoescape=markup == "html",
            keep_trailing_newline=True,
            finalize=_in_markdown if markup == "markdown" else None,
        )
        as_made = {"html": Markup, "markdown": _Made}.get(markup, str)
        given = dict(values) | {key: as_made(value) for key, value in made.items()}
        environment.globals = {}
        environment.filters = {key: environment.filters[key] for key in _FILTERS}
        environment.tests = {key: environment.tests[key] for key in _TESTS}
        parts: list[str] = []
        size = 0
        try:
            _check(name, environment.parse(text))
            for part in environment.from_string(text).generate(given):
                size += len(part)
                if size > _LIMIT:
                    raise InvalidInput(f"the template {name} makes more than 1 MiB", "shorten its loops")
                parts.append(part)
        except TemplateSyntaxError as error:
            raise InvalidInput(
                f"the template {name}, line {error.lineno}: {error.message}",
                f"expressions such as {{{{ run.commit }}}}; filters: {', '.join(_FILTERS)}",
            ) from error
        except RecursionError as error:
            raise InvalidInput(f"the template {name} is nested too deeply", "write it flatter") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise InvalidInput(
                f"the template {name} cannot be filled in: {error}",
                f"it may name {', '.join(sorted(given))}",
            ) from error
        return "".join(parts)


class _Made(str):
    """Text that is Markdown already."""


def _in_markdown(value: object) -> object:
    return value if isinstance(value, _Made) else plain(str(value))


def _check(name: str, tree: object, deep: int = 0) -> None:
    from jinja2 import nodes

    if not isinstance(tree, nodes.Node):
        return
    kind = type(tree).__name__
    deep += kind == "For"
    if kind not in _NODES or deep > _DEEPEST or (isinstance(tree, nodes.For) and tree.recursive):
        what = f"loops more than {_DEEPEST} deep" if kind == "For" else f"what Jinja calls {kind}"
        raise InvalidInput(
            f"the template {name}, line {tree.lineno}: {what} is not possible in a template",
            "write values, conditions, loops over what is given, and the filters " + ", ".join(_FILTERS),
        )
    for child in tree.iter_child_nodes():
        _check(name, child, deep)
