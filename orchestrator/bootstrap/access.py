"""How watched repositories let us in, as the configuration says now, also those that runs froze long ago."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator.adapters.git import Access
from orchestrator.config.interpolation import Text
from orchestrator.config.models.source import Source
from orchestrator.domain.pipeline import SourceSpec


def _no_forge(source: SourceSpec) -> str:
    return ""


class SourceAccess:
    """Finds a source's login by its address, and by its name where several have that.

    ``sources`` are those of the configuration with their addresses; ``value`` resolves a reference, and masks
    what it gives; ``forge`` gives a token for what is watched by a forge's API and has no login of its own,
    or nothing.
    """

    def __init__(
        self,
        sources: Iterable[tuple[str, Source]],
        value: Callable[[Text], str],
        forge: Callable[[SourceSpec], str] = _no_forge,
    ) -> None:
        self._value = value
        self._forge = forge
        self._known: dict[str, list[Source]] = {}
        for address, source in sources:
            self._known.setdefault(address, []).append(source)

    def __call__(self, spec: SourceSpec) -> Access:
        """Raises SecretMissing, and what the forge raises."""
        same = self._known.get(spec.location, [])
        found = next((source for source in same if source.title == spec.name), same[0] if same else None)
        if found is not None and found.token is not None:
            return Access(password=self._value(found.token).strip(), login=repr(found.token))
        if found is not None and found.password is not None:
            password = self._value(found.password)
            return Access(found.username or "", password, login=repr(found.password))
        if found is not None and found.ssh is not None:
            return Access(
                identity_file=_text(found.ssh.identity_file), known_hosts=_text(found.ssh.known_hosts)
            )
        return Access(password=self._forge(spec)) if spec.github else Access()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
