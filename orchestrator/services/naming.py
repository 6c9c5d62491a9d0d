"""What things on hosts are called, and what is written on them.

Names are chosen before the thing exists and derive from database ids, so that whoever takes over finds them
again.
"""

from __future__ import annotations

import hashlib

from orchestrator.domain.change import FileEntry
from orchestrator.domain.run import Attempt

RUN_LABEL = "mlci.run"
ATTEMPT_LABEL = "mlci.attempt"
ROLE_LABEL = "mlci.role"

LOOK = "look"
"""The role of a container that looks at something on a host. It may be there at any time, so that only its
age tells that it is a leftover."""
BENCHMARK = "benchmark"
"""The role of the container in which a user's benchmark computes metrics from an attempt's artifacts."""
SAMPLER = "sampler"
"""The role of the container that looks, while an attempt runs, how its GPUs are used."""

ACTION = "action"
"""The role of the container in which an action's command runs."""
SERVICE = "service"
"""The role of a container that serves what passed: it stays."""
ACTION_LABEL = "mlci.action"
SERVICE_LABEL = "mlci.service"
RANK_LABEL = "mlci.rank"
"""The rank of the change that a service's container serves."""

WORKSPACE = "/workspace"
OUTPUT = "/mlci/output"
ARTIFACTS = "/mlci/artifacts"
CHECKPOINT = "/mlci/checkpoint"
HOME = "/mlci/home"
SECRETS = "/mlci/secrets"
DATA = "/mlci/data"
DATA_FILES = "files"
"""The folder inside a dataset's volume that holds its files."""


def container_name(instance: str, attempt_id: int) -> str:
    """The container of an attempt."""
    return f"mlci-{instance[:8]}-attempt-{attempt_id}"


def sampler_name(container: str) -> str:
    """The container that watches the GPUs of an attempt's container."""
    return f"{container}-gpus"


def benchmark_name(container: str) -> str:
    """The container of the benchmark of an attempt's container."""
    return f"{container}-benchmark"


def action_prefix(instance: str) -> str:
    """What the names of all actions' containers begin with."""
    return f"mlci-{instance[:8]}-action-"


def action_name(instance: str, action_id: int) -> str:
    """The container of an action's command, and the network that it alone has."""
    return f"{action_prefix(instance)}{action_id}"


def service_prefix(instance: str) -> str:
    """What the names of all services' containers and networks begin with."""
    return f"mlci-{instance[:8]}-service-"


def service_name(instance: str, service: str, action_id: int) -> str:
    """The container of a service that an action has made."""
    return f"{service_prefix(instance)}{service}-{action_id}"


def service_network(instance: str, service: str) -> str:
    """The network of a service's containers."""
    return f"{service_prefix(instance)}{service}-network"


def slot_prefix(instance: str) -> str:
    """What the names of all slots' networks begin with."""
    return f"mlci-{instance[:8]}-slot-"


def slot_name(instance: str, host: str, slot: int) -> str:
    """The network of a slot, and the container that holds it; each host's own, for two may be one engine."""
    return f"{slot_prefix(instance)}{host}-{slot}"


def data_volume(instance: str, fingerprint: str) -> str:
    """The volume of a dataset version: one volume a version, whatever pipelines use it."""
    return f"mlci-{instance[:8]}-data-{fingerprint[:40]}"


def data_files(dataset: str) -> str:
    """Where a container finds the files of a dataset."""
    return f"{DATA}/{dataset}/{DATA_FILES}"


def part_key(entry: FileEntry) -> str:
    """What the parts of a large file are called on a host until it is put together."""
    return hashlib.sha256(f"{entry.sha256} {entry.path}".encode("utf-8", "surrogateescape")).hexdigest()[:32]


def helper_name(instance: str, role: str, key: str, owner: str) -> str:
    """A container that one process makes for a short time; another one's of the same key has another name."""
    return f"mlci-{instance[:8]}-{role}-{key[:24]}-{hashlib.sha256(owner.encode()).hexdigest()[:6]}"


def checkpoint_volume(instance: str, run_id: int, replicate: int) -> str:
    """The volume that survives retries of one replicate on the same host."""
    return f"mlci-{instance[:8]}-checkpoint-{run_id}-{replicate}"


def labels_of(attempt: Attempt, role: str) -> dict[str, str]:
    """The labels of something made for an attempt, beside the instance label that the engine adds."""
    return {RUN_LABEL: str(attempt.run_id), ATTEMPT_LABEL: str(attempt.id), ROLE_LABEL: role}
