"""Exceptions mean "we could not find out"; exit codes, verdicts and refusals are values.

The tree::

    OrchestratorError            carries a message and, where there is one, a remedy
    ├── InvalidInput             what a person wrote cannot be understood (check, selector, configuration)
    │   ├── InvalidCheck
    │   └── InvalidSelector
    ├── NotFound                 no such run, pipeline, host, file
    ├── SecretMissing            a referenced secret has no value
    ├── Stopping                 this process is being stopped; what was begun goes on when it runs again
    ├── DiskFull                 our own disk, while something is made that can be made again
    ├── BackupInvalid            a backup is cut off, changed, or of a newer version
    ├── StoreError
    │   ├── StoreUnavailable     the database did not answer in time
    │   ├── IllegalTransition    a state may not follow another: a defect of the caller
    │   └── LeaseLost            another worker holds, or finished, what the caller was working on
    ├── EngineError              a Docker engine refused a request
    │   ├── EngineUnavailable    it cannot be reached; asking again may help
    │   │   └── HostRefused      its host key or the login: a person has to act first
    │   ├── EngineFull           no space is left on the host
    │   ├── GpuUnavailable       a GPU is gone, or in somebody else's use
    │   ├── ImageNotFound
    │   ├── RegistryDenied       the registry wants another login, or a login at all
    │   ├── RegistryUnavailable  it does not answer, or is out of order; asking again may help
    │   ├── ImageRejected        an image could not be made from the project's files; carries the log's end
    │   └── ContainerGone        the container was removed by somebody else
    ├── SourceError              a watched repository
    │   ├── SourceUnavailable    it did not answer; asking again may help
    │   │   └── SourceRefused    it does not let us in, or is not there: a person has to act first
    │   ├── RevisionGone         the commit no longer exists at the remote
    │   └── RevisionTooLarge     it brings more than what strangers propose may bring
    ├── DatasetError
    │   ├── DatasetUnavailable   they are not there or cannot be read; asking again may help
    │   │   └── DatasetRefused   access is denied, or the address is not one that may be asked
    │   └── DatasetMoved         the files no longer are the version that was pinned
    ├── DeploymentError
    │   ├── ServerUnavailable    cannot connect; asking again may help
    │   ├── ServerRejected       host key, login or permission: asking again does not help
    │   └── TransferCorrupted    what arrived is not what was sent
    ├── ActionError              a webhook, a program, a bucket or a repository that results go to
    │   ├── ActionUnavailable    it did not answer; asking again may help
    │   └── ActionRejected       it refused, or failed by itself: asking again does not help
    └── MailError
        ├── MailUnavailable      try again later
        └── MailRejected         the server refused this message or these recipients for good
"""

from __future__ import annotations


class OrchestratorError(Exception):
    """Base of all errors that the orchestrator raises on purpose.

    ``message`` says what is wrong and where; ``remedy`` what a person can do about it, or is empty.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class Stopping(OrchestratorError):
    """This process is being stopped. What was begun is as it was, and goes on when it runs again."""


class InvalidInput(OrchestratorError):
    """What a person wrote cannot be understood."""


class InvalidCheck(InvalidInput):
    """A gate's check cannot be parsed or is not usable for its metric."""


class InvalidSelector(InvalidInput):
    """A baseline selector cannot be parsed."""


class NotFound(OrchestratorError):
    """No such thing."""


class SecretMissing(OrchestratorError):
    """A referenced secret has no value."""


class DiskFull(OrchestratorError):
    """The orchestrator's own disk is full, while something is made that can be made again."""


class BackupInvalid(OrchestratorError):
    """A backup is cut off, changed, of a newer version, or none at all."""


class StoreError(OrchestratorError):
    """The database."""


class StoreUnavailable(StoreError):
    """The database did not answer in time."""


class IllegalTransition(StoreError):
    """A state may not follow another: a defect of the caller."""


class LeaseLost(StoreError):
    """Another worker holds, or has finished, what the caller was working on."""


class EngineError(OrchestratorError):
    """A Docker engine refused a request."""


class EngineUnavailable(EngineError):
    """The engine cannot be reached; asking again may help."""


class HostRefused(EngineUnavailable):
    """The way to the engine is shut until a person acts: an unknown host key, or the login."""


class EngineFull(EngineError):
    """No space is left on the host."""


class GpuUnavailable(EngineError):
    """A GPU is no longer on the host, or somebody else uses it."""


class ImageNotFound(EngineError):
    """The image is neither on the host nor to be had from a registry."""


class RegistryDenied(EngineError):
    """A registry wants another login than it was given, or a login at all."""


class RegistryUnavailable(EngineError):
    """A registry does not answer, or is out of order; asking again may help."""


class ImageRejected(EngineError):
    """An image could not be made from the project's files.

    ``log`` holds the end of the output.
    """

    def __init__(self, message: str, log: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.log = log


class ContainerGone(EngineError):
    """The container was removed by somebody else."""


class SourceError(OrchestratorError):
    """A watched repository."""


class SourceUnavailable(SourceError):
    """The repository did not answer, or is not there.

    ``retry_after`` is for how many seconds asking again is of no use; None: nobody said so.
    """

    def __init__(self, message: str, remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, remedy)
        self.retry_after = retry_after


class SourceRefused(SourceUnavailable):
    """The repository does not let us in, or is not where it was, until a person acts."""


class RevisionGone(SourceError):
    """The commit no longer exists at the remote."""


class RevisionTooLarge(SourceError):
    """The commit brings more than what strangers propose may bring, in bytes or in time."""


class DatasetError(OrchestratorError):
    """Watched data."""


class DatasetUnavailable(DatasetError):
    """The data are missing or cannot be read.

    ``retry_after`` is for how many seconds asking again is of no use; None: nobody said so.
    """

    def __init__(self, message: str, remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, remedy)
        self.retry_after = retry_after


class DatasetRefused(DatasetUnavailable):
    """Access is denied, or the address is none that may be asked, until a person acts."""


class DatasetMoved(DatasetError):
    """The files no longer are the version that was pinned."""


class DeploymentError(OrchestratorError):
    """A deployment could not be carried out."""


class ServerUnavailable(DeploymentError):
    """The server cannot be reached; asking again may help."""


class ServerRejected(DeploymentError):
    """Host key, login, space or permission: asking again does not help by itself."""


class TransferCorrupted(DeploymentError):
    """What arrived is not what was sent."""


class ActionError(OrchestratorError):
    """What follows a run could not be done."""


class ActionUnavailable(ActionError):
    """It did not answer, or not in time; asking again may help."""


class ActionRejected(ActionError):
    """It refused, or failed by itself; asking again does not help."""


class MailError(OrchestratorError):
    """A message could not be handed over."""


class MailUnavailable(MailError):
    """The mail server did not take the message now; later it may."""


class MailRejected(MailError):
    """The mail server refused the message or its recipients for good."""
