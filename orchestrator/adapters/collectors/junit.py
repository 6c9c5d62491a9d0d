"""JUnit's XML: how many tests there were and failed, and their numeric properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

from orchestrator.adapters.collectors.common import Findings, number
from orchestrator.domain.collected import Reading
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.metrics import Direction
from orchestrator.ports.collecting import LeftFile

_EXPECTED: Final = "expected JUnit's XML, as pytest --junitxml writes it"
_COUNTS: Final[Mapping[str, str]] = {"failure": "failures", "error": "errors", "skipped": "skipped"}
_DEEPEST: Final = 100


class _Handler:
    """Counts while the parser goes through. A document type is refused: that is where XML's bombs are."""

    def __init__(self, path: str, found: Findings) -> None:
        self.root = ""
        self.counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        self.time = 0.0
        self._path = path
        self._found = found
        self._depth = 0
        self._case = ""
        self._ended: set[str] = set()

    def doctype(self, *_: object) -> None:
        """Called for ``<!DOCTYPE``."""
        raise InvalidInput(f"{self._path}: it has a document type, which JUnit's XML never has", _EXPECTED)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Called for each element."""
        self.root = self.root or name
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InvalidInput(f"{self._path}: it is nested too deeply", _EXPECTED)
        if name == "testcase":
            self.counts["tests"] += 1
            self.time += number(attributes.get("time", "")) or 0.0
            self._case = ".".join(filter(None, (attributes.get("classname"), attributes.get("name"))))
            self._ended = set()
        elif name in _COUNTS and self._case and name not in self._ended:
            self._ended.add(name)
            self.counts[_COUNTS[name]] += 1
        elif name == "property" and (value := number(attributes.get("value", ""))) is not None:
            prefix = f"{self._case}/" if self._case else ""
            self._found.metric(prefix + attributes.get("name", ""), value)

    def end(self, name: str) -> None:
        """Called at the end of each."""
        self._depth -= 1
        if name == "testcase":
            self._case = ""


def read_junit(file: LeftFile) -> Reading:
    """A report of tests. Raises InvalidInput for what is none."""
    found = Findings("junit", file.path)
    handler = _Handler(file.path, found)
    parser = expat.ParserCreate()
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.StartDoctypeDeclHandler = handler.doctype
    if file.size == 0:
        raise InvalidInput(f"{file.path}: the file is empty", _EXPECTED)
    try:
        with file.open() as stream:
            parser.ParseFile(stream)
    except expat.ExpatError as error:
        raise InvalidInput(
            f"{file.path}:{error.lineno}:{error.offset + 1}: not XML: {expat.ErrorString(error.code)}",
            _EXPECTED,
        ) from None
    if handler.root not in ("testsuites", "testsuite"):
        raise InvalidInput(f"{file.path}: its root is <{handler.root[:60]}>", _EXPECTED)
    for name, count in handler.counts.items():
        worse = name in ("failures", "errors")
        found.metric(name, count, direction=Direction.LOWER if worse else None)
    found.metric("time", handler.time, direction=Direction.LOWER, unit="s")
    return found.reading()
