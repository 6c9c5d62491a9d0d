"""How the place is entered where a dataset lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestrator.domain.errors import DatasetRefused, SecretMissing
from orchestrator.domain.pipeline import DatasetSpec


@dataclass(frozen=True, slots=True)
class Access:
    """What the configuration says of the way to a dataset, for as long as it is needed.

    ``secrets`` are by the names of their keys: ``token``, ``password``, ``access_key``, ``sql``. ``settings``
    are what is no secret and may change without the data being others: ``ca_file``, ``identity_file``,
    ``host_key``, ``known_hosts``, and for a query ``timeout`` (seconds) and ``limit`` (bytes).
    """

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)
    allow_private: bool = False
    """Whether addresses of this machine and of private networks may be asked."""
    anonymous: bool = False
    """Whether nobody logs in."""


Accesses = Callable[[DatasetSpec], Access | None]
"""How to find the way to a dataset; None: the configuration says nothing of it any more.

Raises SecretMissing when a secret has no value.
"""


def access_to(dataset: DatasetSpec, accesses: Accesses) -> Access:
    """The way to a dataset. DatasetRefused when it left the configuration, or a secret has no value."""
    try:
        found = accesses(dataset)
    except SecretMissing as error:
        raise DatasetRefused(f"dataset {dataset.name}: {error.message}", error.remedy) from error
    if found is None:
        raise DatasetRefused(
            f"dataset {dataset.name}: the configuration no longer says how {dataset.path} is reached",
            "write it into a pipeline again, with the same address",
        )
    return found


def option(dataset: DatasetSpec, name: str) -> str | None:
    """What the dataset's kind was told by that name."""
    return next((value for key, value in dataset.options if key == name), None)
