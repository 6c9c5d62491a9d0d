"""The one place where errors of docker-py, requests, urllib3 and sockets become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.domain.errors import EngineError, EngineFull, EngineUnavailable

if TYPE_CHECKING:
    from docker.errors import APIError
    from requests import Response

FORBIDDEN = 403
NOT_FOUND = 404
CONFLICT = 409

_UNAVAILABLE = frozenset({502, 503, 504})
_REMEDY = "see that the engine runs and that this user may use it: orchestrator hosts check"
_ANEW = "it is made anew by itself; if it does not last, `orchestrator hosts check` says why"
_SAYS: dict[type[BaseException], tuple[str, str]] = {
    FileNotFoundError: (
        "there is no socket",
        "install Docker and start it (`sudo apt-get install docker.io`), or write where its socket is",
    ),
    PermissionError: (
        "this user may not use its socket",
        "add the user to the socket's group (`sudo usermod -aG docker USER`) and log in again",
    ),
    ConnectionRefusedError: (
        "nobody listens at its socket",
        "start it: `sudo systemctl start docker`",
    ),
}
"""What the system says who cannot even connect, and what to do about it."""
# The engine answers a full disk with a plain 500. This text of the C library's is the only thing that tells
# it from other failures, so it is the one exception to the rule that no message is ever read.
_FULL = "no space left on device"


class Refused(EngineError):
    """The engine answered with an error; ``status`` is that of HTTP."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def says_full(message: str) -> bool:
    """Whether an engine's own error message (never a program's output) means a full disk."""
    return _FULL in message.lower()


def disk_full(what: str) -> EngineFull:
    """The error for a host without space."""
    return EngineFull(f"{what}: no space left on the host", "free space below the engine's data root")


class WayEnded(ConnectionError):
    """What an engine on another machine was reached over has just ended; the text says so for people."""


def way_ended(over: str, error: BaseException) -> WayEnded | None:
    """What an error of a connection means that led over ``over``; None when it means something else."""
    match _root(error):
        case ConnectionRefusedError() | FileNotFoundError():
            return WayEnded(f"the connection to {over} broke")
        case ConnectionError():
            return WayEnded(f"the connection to {over} broke, or the engine there ended")
    return None


@contextmanager
def translate(what: str) -> Iterator[None]:
    """Turn what the libraries raise into our errors; ``what`` says what was being done, for the message.

    Raises Refused with its status when the engine answered with an error, EngineFull when its disk is full,
    EngineUnavailable for anything that kept an answer from arriving, EngineError for the rest.
    """
    from http.client import HTTPException

    from docker.errors import APIError, DockerException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        raise _refusal(what, error) from error
    except OSError as error:  # also every RequestException
        raise _unreached(what, error) from error
    except (HTTPError, HTTPException) as error:
        raise EngineUnavailable(f"{what}: the engine's answer broke off ({_root(error)})") from error
    except DockerException as error:
        if isinstance(error.__cause__, (OSError, HTTPError, HTTPException)):
            raise _unreached(what, error) from error
        raise EngineError(f"{what}: {error}") from error


def check(response: Response) -> None:
    """Raise docker-py's error for a response of ours, as it does for its own."""
    from docker.errors import create_api_error_from_http_exception
    from requests.exceptions import HTTPError

    try:
        response.raise_for_status()
    except HTTPError as error:
        try:
            create_api_error_from_http_exception(error)
        finally:
            response.close()


def _refusal(what: str, error: APIError) -> EngineError:
    status = error.response.status_code if error.response is not None else 0
    explanation = str(error.explanation or error).strip()
    if status in _UNAVAILABLE:
        return EngineUnavailable(f"{what}: {explanation}")
    if says_full(explanation):
        return disk_full(what)
    return Refused(f"{what}: {explanation}", status)


def _unreached(what: str, error: BaseException) -> EngineUnavailable:
    if isinstance(error, WayEnded):
        return EngineUnavailable(f"{what}: the engine does not answer ({error})", _ANEW)
    root = _root(error)
    why, remedy = _SAYS.get(type(root), (str(root), _REMEDY))
    return EngineUnavailable(f"{what}: the engine does not answer ({why})", remedy)


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
