"""Deployments over SSH: a release folder is filled, compared, and switched to in one atomic step."""

from orchestrator.adapters.sftp.servers import ConfiguredServers
from orchestrator.adapters.sftp.settings import SshServer

__all__ = ["ConfiguredServers", "SshServer"]
