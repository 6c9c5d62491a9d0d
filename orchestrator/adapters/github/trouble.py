"""What goes wrong with GitHub: its refusals by status and header, everything else by type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from orchestrator.adapters.github.reading import Json, NotUnderstood, at
from orchestrator.domain.errors import RevisionGone, SourceRefused, SourceUnavailable

_UNSAID: Final = 60.0
"""Seconds to wait where a limit was hit and nobody says for how long, as GitHub's documentation asks."""
_LONGEST: Final = 3660.0
_SHORTEST: Final = 1.0
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Limited:
    """Too much was asked, for ``wait`` seconds; ``primary``: the hour's quota is used up."""

    wait: float
    primary: bool


def limit_hit(status: int, headers: Mapping[str, str], body: Json, now: float) -> Limited | None:
    """Whether a refusal is about how much was asked; ``now`` in seconds since 1970."""
    if status not in (403, 429):
        return None
    after = _number(headers.get("retry-after"))
    if after is not None:
        return Limited(_within(after), primary=False)
    if _number(headers.get("x-ratelimit-remaining")) == 0:
        reset = _number(headers.get("x-ratelimit-reset"))
        # One second more, as it is not said when in that second.
        return Limited(_UNSAID if reset is None else _within(reset + 1 - now), primary=True)
    # A limit on bursts may come without any header: what it is documented under tells it from a permission.
    documented = at(body, "documentation_url")
    if status == 429 or (isinstance(documented, str) and "rate-limit" in documented):
        return Limited(_UNSAID, primary=False)
    return None


def refusal(
    status: int, headers: Mapping[str, str], body: Json, what: str
) -> SourceUnavailable | RevisionGone:
    """The error that a status stands for. ``what`` is the repository, as people call it."""
    said = at(body, "message")
    told = f" ({_fit(said)})" if isinstance(said, str) and said else ""
    match status:
        case 401:
            return SourceRefused(
                f"GitHub does not accept the login for {what}{told}: the token was revoked, has expired, or "
                "the App's key is another",
                "a new token or key under github: of orchestrator.yaml",
            )
        case 403:
            return SourceRefused(
                f"GitHub does not allow this for {what}{told}",
                "the permissions that docs/sources.md lists, for the token or the App",
            )
        case 404 | 410:
            return SourceRefused(
                f"{what} is not on GitHub, or the token may not see it",
                "check its name, and that the token or the App has access to it",
            )
        case 301 | 302 | 307 | 308:
            return SourceRefused(f"{what} was renamed or moved", "write its new name under source: github:")
        case 451:
            return SourceRefused(f"{what} is blocked for legal reasons{told}", "ask GitHub")
        case 422:
            return RevisionGone(f"GitHub does not take this for {what}{told}")
        case _ if status >= 500:
            after = _number(headers.get("retry-after"))
            return SourceUnavailable(
                f"GitHub is out of order: it answered {status} for {what}",
                "it is tried again",
                None if after is None else _within(after),
            )
        case _:
            return SourceUnavailable(f"GitHub answered {status} for {what}{told}", "it is tried again")


@contextmanager
def reaching(host: str, what: str) -> Iterator[None]:
    """Turn what PyGithub and its HTTP library raise into the domain's errors."""
    import requests

    try:
        yield
    except requests.exceptions.SSLError as error:
        raise SourceRefused(
            f"the certificate of {host} is not trusted: {_innermost(error)}",
            "where it is signed by your own authority: REQUESTS_CA_BUNDLE in the orchestrator's environment",
        ) from None
    except requests.exceptions.RequestException as error:
        if isinstance(_bottom(error), TimeoutError | requests.exceptions.Timeout):
            raise SourceUnavailable(f"{host} does not answer in time", "it is tried again") from None
        raise SourceUnavailable(f"cannot reach {host}: {_innermost(error)}", "check the network") from None
    except NotUnderstood as error:
        raise SourceUnavailable(
            f"what {host} answered for {what} cannot be understood: {error}",
            "check that github.api_url is the address of GitHub's API",
        ) from None
    except RuntimeError:
        # PyGithub's word for being sent to another host, or round in circles.
        raise SourceRefused(
            f"{host} sends us elsewhere", "the address of the API itself as github.api_url"
        ) from None


def _innermost(error: BaseException) -> str:
    bottom = _bottom(error)
    if isinstance(bottom, OSError) and bottom.strerror:
        return _fit(bottom.strerror)
    return type(bottom).__name__


def _bottom(error: BaseException) -> BaseException:
    """What was wrong first: libraries wrap it in their own words, with addresses of objects."""
    seen: set[int] = set()
    at_bottom: BaseException = error
    while id(at_bottom) not in seen:
        seen.add(id(at_bottom))
        reason = getattr(at_bottom, "reason", None)
        inner = reason if isinstance(reason, BaseException) else at_bottom.__cause__ or at_bottom.__context__
        arguments = (each for each in at_bottom.args if isinstance(each, BaseException))
        at_bottom = inner or next(arguments, at_bottom)
    return at_bottom


def _within(seconds: float) -> float:
    return min(max(seconds, _SHORTEST), _LONGEST)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None


def _fit(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:_SHOWN]
