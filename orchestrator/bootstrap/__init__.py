"""Where objects are wired together, and the configuration's models become domain values."""

from orchestrator.bootstrap.application import Application
from orchestrator.bootstrap.configured import ConfigurationInvalid, ConfiguredSecrets, read_configuration

__all__ = ["Application", "ConfigurationInvalid", "ConfiguredSecrets", "read_configuration"]
