"""One account's way to the API: conditional requests, the quota, and what to do when it is used up."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, Full, LifoQueue
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from urllib.parse import urlencode, urlsplit

from orchestrator.adapters.github.pace import Pace
from orchestrator.adapters.github.reading import Json, NotUnderstood, items_of, parsed
from orchestrator.adapters.github.trouble import limit_hit, reaching, refusal
from orchestrator.domain.errors import SourceUnavailable
from orchestrator.ports.forge import Quota
from orchestrator.ports.world import Clock

if TYPE_CHECKING:
    from github.Auth import Auth
    from github.Requester import Requester

PER_PAGE: Final = 100
_API_VERSION: Final = "2022-11-28"
_USER_AGENT: Final = "ml-ci-orchestrator"
_CONNECTIONS: Final = 8
_REMEMBERED: Final = 20_000
_PAGES: Final = 300
_PASSES: Final = 3

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the headers in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    body: Json


@dataclass(frozen=True, slots=True)
class _Known(Generic[T_co]):
    """What an address held at the last look, in our own words; ``more``: there is a next page."""

    etag: str
    value: T_co
    more: bool


class Client:
    """Asks one API as one account. Thread-safe. Seconds: ``timeout`` until an answer begins.

    A look at what has not changed is answered by 304, which costs no quota: what an address held is kept with
    its ETag. Where there is a quota requests are spread; once it is used up none is sent until it is renewed.
    """

    def __init__(
        self,
        api_url: str,
        auth: Auth,
        clock: Clock,
        timeout: float,
        unknown: Callable[[], None] = lambda: None,
    ) -> None:
        self._api_url = api_url
        self._auth = auth
        self._clock = clock
        self._timeout = timeout
        self._unknown = unknown
        self.host = urlsplit(api_url).netloc
        # PyGithub's requester keeps the request that it is about to send in itself: one thread at a time.
        self._idle: LifoQueue[Requester] = LifoQueue(_CONNECTIONS)
        self._known: OrderedDict[str, _Known[object]] = OrderedDict()
        self._lock = threading.Lock()
        self._pace = Pace()
        self._quota: Quota | None = None
        self._closed: tuple[float, bool] | None = None

    @property
    def quota(self) -> Quota | None:
        """What the last answer told; None before the first."""
        return self._quota

    def read(self, what: str, path: str, shape: Callable[[Json], T], **parameters: str) -> T:
        """One answer, conditionally, as ``shape`` reads it. ``what`` is the repository, for messages."""
        return self._page(what, path, shape, parameters)[0].value

    def read_all(self, what: str, path: str, shape: Callable[[Json], T], **parameters: str) -> tuple[T, ...]:
        """All items of a list in pages, each as ``shape`` reads it.

        Something may be removed while the pages are read, so that an item moves to a page that was read
        already: where there are several, they are read until nothing has changed meanwhile, which is free.
        """
        found: list[T] = []
        for _ in range(_PASSES):
            found, changed, pages = [], False, 0
            for page in range(1, _PAGES + 1):
                asked = {**parameters, "per_page": str(PER_PAGE), "page": str(page)}
                part, new = self._page(what, path, lambda body: _each(body, shape), asked)
                found += part.value
                changed, pages = changed or new, page
                if not part.more:
                    break
            if pages == 1 or not changed:
                break
        return tuple(found)

    def get(self, what: str, path: str, allowed: tuple[int, ...] = (), **parameters: str) -> Answer:
        """One answer, whatever we knew. A status of ``allowed`` is no error."""
        return self._send(what, "GET", path, parameters, {}, None, allowed)

    def post(
        self, what: str, path: str, content: Mapping[str, Json], allowed: tuple[int, ...] = ()
    ) -> Answer:
        """Make something; what the API says of it. A status of ``allowed`` is no error."""
        return self._send(what, "POST", path, {}, {}, content, allowed)

    def patch(
        self, what: str, path: str, content: Mapping[str, Json], allowed: tuple[int, ...] = ()
    ) -> Answer:
        """Change something. A status of ``allowed`` is no error."""
        return self._send(what, "PATCH", path, {}, {}, content, allowed)

    def _page(
        self, what: str, path: str, shape: Callable[[Json], T], parameters: Mapping[str, str]
    ) -> tuple[_Known[T], bool]:
        """What an address holds, and whether that is new."""
        address = f"{path}?{urlencode(parameters)}"
        with self._lock:
            known: _Known[T] | None = self._known.get(address)  # type: ignore[assignment]
        condition = {"If-None-Match": known.etag} if known is not None else {}
        answer = self._send(what, "GET", path, parameters, condition, None, (304, 409))
        if answer.status == 304 and known is not None:
            return known, False
        if answer.status == 304:
            raise refusal(304, answer.headers, None, what)
        # A repository without any commit has a status of its own.
        body: Json = [] if answer.status == 409 else answer.body
        with reaching(self.host, what):
            fresh = _Known(answer.headers.get("etag", ""), shape(body), _has_next(answer.headers))
        with self._lock:
            if fresh.etag:
                self._known[address] = fresh
                self._known.move_to_end(address)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return fresh, known is None or known.value != fresh.value

    def _send(
        self,
        what: str,
        verb: str,
        path: str,
        parameters: Mapping[str, str],
        headers: Mapping[str, str],
        content: Mapping[str, Json] | None,
        allowed: tuple[int, ...],
    ) -> Answer:
        self._gate(what)
        if self._quota is not None:
            # Whoever names no quota has none: an Enterprise server's limits are off unless switched on.
            self._clock.sleep(self._pace.wait(self._clock.monotonic()))
            self._gate(what)
        given = None if content is None else dict(content)
        with reaching(self.host, what), self._requester() as requester:
            status, got, text = requester.requestJson(verb, path, dict(parameters), dict(headers), given)
            good = 200 <= status < 300 or status in allowed
            body = parsed(text) if good and status != 304 else _perhaps(text)
        answer = Answer(status, {name: str(value) for name, value in got.items()}, body)
        self._note(answer.headers)
        if good:
            return answer
        limited = limit_hit(status, answer.headers, body, self._clock.now().timestamp())
        if limited is not None:
            self._closed = (self._clock.monotonic() + limited.wait, limited.primary)
            self._gate(what)
        if status == 401:
            self._unknown()
        raise refusal(status, answer.headers, body, what)

    def _gate(self, what: str) -> None:
        """Raise SourceUnavailable while nothing may be asked."""
        closed = self._closed
        if closed is None:
            return
        wait = closed[0] - self._clock.monotonic()
        if wait <= 0:
            self._closed = None
            return
        quota = self._quota
        if closed[1] and quota is not None:
            why = f"the {quota.limit} requests of this hour are used up"
        else:
            why = "too much was asked in a short time"
        raise SourceUnavailable(
            f"GitHub takes no requests for {what}: {why}", f"in {_span(wait)} it is tried again", wait
        )

    def _note(self, headers: Mapping[str, str]) -> None:
        try:
            limit = int(headers["x-ratelimit-limit"])
            remaining = int(headers["x-ratelimit-remaining"])
            resets_at = datetime.fromtimestamp(int(headers["x-ratelimit-reset"]), UTC)
        except (KeyError, ValueError, OverflowError):
            return
        self._quota = Quota(limit, remaining, resets_at)

    @contextmanager
    def _requester(self) -> Iterator[Requester]:
        try:
            requester = self._idle.get_nowait()
        except Empty:
            requester = self._connect()
        try:
            yield requester
        finally:
            try:
                self._idle.put_nowait(requester)
            except Full:
                requester.close()

    def _connect(self) -> Requester:
        return connect(self._api_url, self._auth, self._timeout)


def connect(api_url: str, auth: Auth, timeout: float) -> Requester:
    """A way to the API that neither waits nor asks again by itself, but for a connection that is refused."""
    from github import Github
    from urllib3 import Retry

    retry = Retry(
        total=1, connect=1, read=0, status=0, other=0, redirect=False, respect_retry_after_header=False
    )
    return Github(
        base_url=api_url,
        auth=auth,
        timeout=max(1, round(timeout)),
        user_agent=_USER_AGENT,
        per_page=PER_PAGE,
        retry=retry,
        seconds_between_requests=None,
        seconds_between_writes=None,
        api_version=_API_VERSION,
    ).requester


def _each(body: Json, shape: Callable[[Json], T]) -> list[T]:
    return [shape(item) for item in items_of(body)]


def _has_next(headers: Mapping[str, str]) -> bool:
    return 'rel="next"' in headers.get("link", "")


def _perhaps(text: str) -> Json:
    try:
        return parsed(text)
    except NotUnderstood:
        return None


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
