"""JSON Schema of each kind of file, for editors and forms.

`python -m orchestrator.config.schema docs` writes `docs/schema/*.json` and the reference in
`docs/configuration.md`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python

from orchestrator.config.models.common import Model
from orchestrator.config.models.orchestrator import OrchestratorFile
from orchestrator.config.models.pipeline import PipelineFile
from orchestrator.config.models.runner import RunnerFile
from orchestrator.config.units import format_duration, format_size
from orchestrator.config.yaml_loader import Plain

Kind = Literal["orchestrator", "runner", "pipeline"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_MODELS: Final[Mapping[Kind, type[Model]]] = {
    "orchestrator": OrchestratorFile,
    "runner": RunnerFile,
    "pipeline": PipelineFile,
}


def json_schema(kind: Kind) -> dict[str, Plain]:
    """The JSON Schema (draft 2020-12) of one kind of file, with defaults as people write them."""
    schema: dict[str, Plain] = _MODELS[kind].model_json_schema(by_alias=True, schema_generator=_Generator)
    _complete(schema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def schema_text(kind: Kind) -> str:
    """The schema as the text of its file."""
    return json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    """Durations as `60s`, and models without what they leave out."""

    def encode_default(self, dft: object) -> Plain:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        if isinstance(dft, BaseModel):
            return {}
        plain: Plain = to_jsonable_python(dft)
        return plain


def _complete(node: Plain) -> None:
    """Allow `x-` keys in closed objects, write sizes as people do, drop the titles that repeat names."""
    if isinstance(node, list):
        for item in node:
            _complete(item)
    if not isinstance(node, dict):
        return
    properties = node.get("properties")
    if isinstance(properties, dict):
        for spec in properties.values():
            if isinstance(spec, dict):
                spec.pop("title", None)
    if node.get("additionalProperties") is False:
        node["patternProperties"] = {"^x-": {}}
    elif "patternProperties" in node:
        node["additionalProperties"] = False
    default = node.get("default")
    if isinstance(default, int) and node.get("x-unit") == "size":
        node["default"] = format_size(default)
    for value in node.values():
        _complete(value)


def main(docs: Path) -> None:
    """Write the schemas, and bring the reference in `configuration.md` up to date."""
    from orchestrator.config.reference import updated

    (docs / "schema").mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (docs / "schema" / f"{kind}.json").write_text(schema_text(kind), encoding="utf-8")
    page = docs / "configuration.md"
    page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
