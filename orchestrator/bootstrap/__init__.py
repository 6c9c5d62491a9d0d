"""Where objects are wired together, and the configuration's models become domain values."""

from orchestrator.bootstrap.application import Application
from orchestrator.bootstrap.configured import ConfigurationInvalid, read_configuration
from orchestrator.bootstrap.secrets import ConfiguredSecrets, stored_names

__all__ = ["Application", "ConfigurationInvalid", "ConfiguredSecrets", "read_configuration", "stored_names"]
