"""Files of a run's repository that go into a release: the code at the commit, and templates filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator.domain.errors import ActionUnavailable, InvalidInput, NotFound, RevisionGone, SourceError
from orchestrator.domain.pipeline import SourceSpec
from orchestrator.ports.templates import Templates, Value
from orchestrator.ports.world import SourceControl
from orchestrator.services.code import CodeArchives

_LIMIT = 64 * 1024


class Repository:
    """Reads a repository at a commit. Thread-safe.

    Its methods raise ActionUnavailable when the repository does not answer, NotFound when the commit or the
    file is not there.
    """

    def __init__(self, sources: SourceControl, templates: Templates, scratch: Path) -> None:
        self._sources = sources
        self._templates = templates
        self._code = CodeArchives(sources, scratch)

    @contextmanager
    def code(self, source: SourceSpec, commit: str) -> Iterator[Path]:
        """A folder with the commit's files, for as long as the block lasts."""
        try:
            checkout = self._code.checkout(source, commit)
            folder = checkout.__enter__()
        except SourceError as error:
            raise _translated(error) from error
        try:
            yield folder
        finally:
            checkout.__exit__(None, None, None)

    def filled(self, source: SourceSpec, commit: str, place: str, values: Mapping[str, Value]) -> bytes:
        """A template with its expressions replaced. InvalidInput when that is not possible."""
        try:
            content = self._sources.read(source, commit, place, _LIMIT)
        except SourceError as error:
            raise _translated(error) from error
        if content is None:
            raise NotFound(f"the repository has no template {place} at {commit[:12]}")
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the template {place} is no text in UTF-8") from error
        return self._templates.fill(place, text, values).encode()


def _translated(error: SourceError) -> NotFound | ActionUnavailable:
    if isinstance(error, RevisionGone):
        return NotFound(error.message, error.remedy)
    return ActionUnavailable(error.message, error.remedy)
