"""Ways to engines on other machines: a supervised OpenSSH process for each forwards the engine's socket."""

from orchestrator.adapters.ssh.link import Link
from orchestrator.adapters.ssh.links import SshLinks

__all__ = ["Link", "SshLinks"]
