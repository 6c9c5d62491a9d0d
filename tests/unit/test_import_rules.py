"""The rules that import-linter cannot express: what the domain imports, and what may be loaded when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator.domain

FOLDER = Path(orchestrator.domain.__file__).parent
ALLOWED_ELSEWHERE = {FOLDER / "statistics": {"numpy", "scipy"}}


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
    allowed = sys.stdlib_module_names | ALLOWED_ELSEWHERE.get(path.parent, set())
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


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import orchestrator.domain.statistics.bounds", id="statistics"),
        pytest.param("import orchestrator.domain.gate, orchestrator.services.evaluate", id="judging"),
        pytest.param(
            "from orchestrator.cli.main import execute; execute(['--help'])", id="orchestrator --help"
        ),
        pytest.param(
            "from orchestrator.domain.statistics.bounds import compare; compare([0.9], [0.8])",
            id="one run each",
        ),
    ],
)
def test_neither_numpy_nor_scipy_is_loaded_before_a_test_needs_them(program: str) -> None:
    heavy = "sorted({name.split('.')[0] for name in sys.modules} & {'numpy', 'scipy'})"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {program}; sys.exit(str({heavy}))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == "[]"


def test_a_test_of_replicates_needs_no_more_than_the_special_functions() -> None:
    program = (
        "import sys; from orchestrator.domain.statistics.bounds import compare; compare([1, 2], [3, 5]); "
        "sys.exit(str(sorted({'scipy.special', 'scipy.stats'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "['scipy.special']"
