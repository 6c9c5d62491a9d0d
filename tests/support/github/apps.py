"""Who asks: personal tokens, Apps and their installations, and what each has left of its quota."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.github.world import User, now

WINDOW = 3600


@dataclass
class Quota:
    """Requests that are left until ``reset``."""

    limit: int = 5000
    remaining: int = 5000
    reset: int = field(default_factory=lambda: int(time.time()) + WINDOW)

    def renew(self) -> None:
        """Begin the next hour when this one is over."""
        if time.time() >= self.reset:
            self.remaining = self.limit
            self.reset = int(time.time()) + WINDOW


@dataclass
class App:
    """A GitHub App with its public key."""

    id: int
    slug: str
    owner: User
    key: rsa.RSAPublicKey
    created_at: str = field(default_factory=now)

    @property
    def client_id(self) -> str:
        """What may stand for the id."""
        return f"Iv1.{self.id:016x}"


@dataclass
class Installation:
    """Where an App is installed."""

    id: int
    app: App
    account: User
    quota: Quota = field(default_factory=Quota)


@dataclass
class Credential:
    """A token, who it is, and until when."""

    token: str
    user: User
    quota: Quota
    installation: Installation | None = None
    expires: float | None = None
    revoked: bool = False
    writes: bool = True

    @property
    def valid(self) -> bool:
        return not self.revoked and (self.expires is None or time.time() < self.expires)


class Identities:
    """Tokens and Apps."""

    def __init__(self) -> None:
        self.credentials: dict[str, Credential] = {}
        self.apps: list[App] = []
        self.installations: list[Installation] = []
        self.nobody = Quota(60, 60)
        self.token_life = 3600.0
        self._ids = itertools.count(500)

    def token(self, user: User, *, writes: bool = True) -> str:
        """A personal token of somebody."""
        token = f"ghp_{secrets.token_hex(18)}"
        self.credentials[token] = Credential(token, user, Quota(), writes=writes)
        return token

    def app(self, slug: str, owner: User) -> tuple[App, str]:
        """Register an App; it, and its private key (PEM)."""
        key = _key(len(self.apps))
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        made = App(next(self._ids), slug, owner, key.public_key())
        self.apps.append(made)
        return made, pem.decode()

    def install(self, app: App, account: User) -> Installation:
        made = Installation(next(self._ids), app, account)
        self.installations.append(made)
        return made

    def installed(self, app: App, account: User) -> Installation | None:
        return next((i for i in self.installations if i.app is app and i.account.id == account.id), None)

    def access_token(self, installation: Installation) -> tuple[str, str]:
        """A token for an installation, and when it expires."""
        token = f"ghs_{secrets.token_hex(18)}"
        expires = time.time() + self.token_life
        bot = User(installation.app.id, f"{installation.app.slug}[bot]", "Bot")
        self.credentials[token] = Credential(token, bot, installation.quota, installation, expires)
        return token, datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def by_jwt(self, text: str) -> App | None:
        """The App that signed this, as long as it is valid; nobody's library is trusted with that."""
        try:
            signed, _, signature = text.rpartition(".")
            header, payload = (json.loads(_decoded(part)) for part in signed.split("."))
            app = next(a for a in self.apps if str(payload["iss"]) in (str(a.id), a.client_id))
            app.key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, KeyError, StopIteration, InvalidSignature):
            return None
        at = time.time()
        fresh = payload["iat"] <= at < payload["exp"] <= payload["iat"] + 660
        return app if fresh and header.get("alg") == "RS256" else None


@cache
def _key(number: int) -> rsa.RSAPrivateKey:
    """A key of its own for each App of a stand-in. Making one takes long; the next stand-in has the same."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
