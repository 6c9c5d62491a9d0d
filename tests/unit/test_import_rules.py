"""The rule that import-linter cannot express: the domain imports the standard library and itself only."""

import ast
import sys
from pathlib import Path

import orchestrator.domain

FOLDER = Path(orchestrator.domain.__file__).parent
ALLOWED_ELSEWHERE = {"statistics.py": {"numpy", "scipy"}}


def imported_modules(source: str) -> set[str]:
    """The full names of all modules that ``source`` imports, at any depth."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add("." * node.level + (node.module or ""))
    return modules


def foreign(path: Path) -> set[str]:
    """The modules that ``path``, a file of the domain, imports and must not."""
    allowed = sys.stdlib_module_names | ALLOWED_ELSEWHERE.get(path.name, set())
    return {
        module
        for module in imported_modules(path.read_text())
        if module.split(".")[0] not in allowed and not f"{module}.".startswith("orchestrator.domain.")
    }


def test_the_domain_imports_only_the_standard_library_and_itself() -> None:
    files = sorted(FOLDER.glob("**/*.py"))
    assert files
    assert {path.name: foreign(path) for path in files if foreign(path)} == {}


def test_a_foreign_import_is_seen_wherever_it_hides(tmp_path: Path) -> None:
    path = tmp_path / "leaky.py"
    path.write_text(
        "import json\ndef late():\n    import docker.errors\n    from orchestrator.store import x\n"
    )
    assert foreign(path) == {"docker.errors", "orchestrator.store"}
