"""Services: containers that the administrator has results served by."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.domain.pipeline import ImageSpec, Resources


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port that a service publishes: ``address`` and ``host`` on its host, ``container`` inside."""

    address: str
    host: int
    container: int


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service. ``command`` empty: what the image says. ``folder`` is where the results lie in it.

    ``health`` is a command in the container, empty for none: then it has to run for ``settle`` seconds.
    ``patience`` are the seconds after which one that is not healthy has failed.
    """

    name: str
    host: str
    image: ImageSpec
    command: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    health: tuple[str, ...] = ()
    interval: float = 2.0
    patience: float = 120.0
    settle: float = 5.0
    folder: str = "/mlci/artifacts"
    user: str = "65534:65534"
    resources: Resources = field(default_factory=Resources)
