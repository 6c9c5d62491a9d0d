"""The labels by which we know our own things on a host that others use too."""

from __future__ import annotations

from collections.abc import Mapping

INSTANCE = "mlci.instance"
"""On everything we make; the value is the id of our database. What lacks it is never touched."""

CONTAINER = "mlci.container"
"""The container's own name. Containers inherit the labels of their image, so what a person starts from one of
our images has our instance label, and would be taken for ours without this one."""

IMAGE = "mlci.image"
"""The image's own tag, for the same reason: an image made FROM ours inherits our label."""

MADE = "mlci.made"
"""A different value on each volume at the moment it is made, which tells who of two makers was first."""

RANGE = "mlci.range"
"""On a network whose range is a part: the whole, for the next one."""


def ours(labels: Mapping[str, str] | None, instance: str) -> bool:
    """Whether labels as an engine shows them are those of our instance."""
    return labels is not None and labels.get(INSTANCE) == instance


def with_instance(labels: Mapping[str, str], instance: str) -> dict[str, str]:
    """The caller's labels and ours, which wins."""
    return {**labels, INSTANCE: instance}
