"""The schemas and the reference are current, and every field is explained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.config.models.common import Model
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.config.models.pipeline import PipelineFile
from orchestrator.config.models.runner import RunnerFile
from orchestrator.config.reference import updated
from orchestrator.config.schema import KINDS, Kind, json_schema, schema_text
from orchestrator.config.validation import models_below
from orchestrator.config.yaml_loader import Plain

DOCS = Path(__file__).parents[3] / "docs"
REFRESH = "run: python -m orchestrator.config.schema docs"
EVERY_MODEL = sorted(
    models_below(OrchestratorFile, RunnerFile, PipelineFile), key=lambda model: model.__name__
)


@pytest.mark.parametrize("kind", KINDS)
def test_committed_schemas_are_current(kind: Kind) -> None:
    assert (DOCS / "schema" / f"{kind}.json").read_text(encoding="utf-8") == schema_text(kind), REFRESH


def test_the_configuration_reference_is_current() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert page == updated(page), REFRESH


@pytest.mark.parametrize("model", EVERY_MODEL)
def test_every_field_has_a_description_and_stands_in_the_reference(model: type[Model]) -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name}"
        assert f"| `{field.alias or name}` |" in page, f"{model.__name__}.{name}"


def test_the_models_are_found_through_unions_lists_and_mappings() -> None:
    names = {model.__name__ for model in EVERY_MODEL}
    assert {
        "Deploy",
        "EmailOptions",
        "ComparisonCheck",
        "BuiltImage",
        "HostLabels",
        "Ssh",
        "HuggingFaceDataset",
    } <= names


def closed_objects(node: Plain) -> Iterator[dict[str, Plain]]:
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for value in node.values():
            yield from closed_objects(value)
    if isinstance(node, list):
        for item in node:
            yield from closed_objects(item)


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_refuse_unknown_keys_and_allow_extensions(kind: Kind) -> None:
    found = list(closed_objects(json_schema(kind)))
    assert found
    for schema in found:
        assert schema["additionalProperties"] is False
        assert schema["patternProperties"] == {"^x-": {}}


def test_defaults_are_written_as_people_write_them() -> None:
    text = json.dumps(json_schema("pipeline"))
    assert '"default": "24h"' in text
    assert '"default": "2g"' in text
