"""Reports without secrets, also those that no run of this process was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.bootstrap.secrets import ConfiguredSecrets
from orchestrator.domain.report import Rendered, Report
from orchestrator.observe import Masker
from orchestrator.ports.world import Renderer


class MaskedRenderer:
    """A Renderer that blanks every secret of the configuration out of what another one renders.

    A commit message, a branch or the name of a file can hold one that the run itself was never given.
    """

    def __init__(self, renderer: Renderer, masker: Masker, secrets: ConfiguredSecrets) -> None:
        self._renderer = renderer
        self._masker = masker
        self._secrets = secrets

    def render(self, report: Report) -> Rendered:
        self._secrets.learn_now_and_then()
        found = self._renderer.render(report)
        mask = self._masker.mask_text
        return replace(found, subject=mask(found.subject), text=mask(found.text), html=mask(found.html))

    def page(self, report: Report, links: Mapping[str, str]) -> str:
        self._secrets.learn_now_and_then()
        return self._masker.mask_text(self._renderer.page(report, links))
