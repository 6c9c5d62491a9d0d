"""Which login a watched repository gets, as the configuration says."""

from pathlib import Path

import pytest

from orchestrator.adapters.git import Access
from orchestrator.bootstrap.access import SourceAccess
from orchestrator.config.interpolation import Text
from orchestrator.config.models.source import Source, SourceSsh
from orchestrator.domain.errors import SecretMissing
from orchestrator.domain.pipeline import SourceSpec

URL = "https://git.example.org/acme/wine.git"


def value(text: Text) -> str:
    if text.references:
        raise SecretMissing("the environment variable TOKEN is not set")
    return "".join(str(part) for part in text.parts)


def source(**keys: str) -> Source:
    return Source.model_validate(keys)


def access(*sources: Source, spec: SourceSpec | None = None, forge: str = "") -> Access:
    asked = SourceAccess([(one.address(), one) for one in sources], value, lambda _: forge)
    return asked(spec or SourceSpec("wine", URL))


def test_a_source_gets_its_own_login_and_others_none() -> None:
    assert access(source(git=URL, token="abcdef\n")) == Access(password="abcdef", login="Text(***)")
    named = source(git=URL, username="ada", password="secret ")
    assert access(named) == Access("ada", "secret ", login="Text(***)")
    assert access(named, spec=SourceSpec("wine", "https://git.example.org/acme/other.git")) == Access()
    assert access(source(git=URL)) == Access()


def test_of_two_sources_with_one_address_the_name_decides() -> None:
    one = source(git=URL, name="one", token="first!")
    two = source(git=URL, name="two", token="second")
    assert access(one, two, spec=SourceSpec("two", URL)).password == "second"
    assert access(one, two, spec=SourceSpec("renamed", URL)).password == "first!"


def test_a_key_and_the_hosts_known_by_it_are_paths() -> None:
    url = "git@git.example.org:acme/wine.git"
    ssh = SourceSsh.model_construct(identity_file=Path("/keys/deploy"), known_hosts=Path("/keys/known"))
    made = Source.model_construct(git=url, ssh=ssh, name="wine", token=None, password=None)
    found = access(made, spec=SourceSpec("wine", url))
    assert (found.identity_file, found.known_hosts) == ("/keys/deploy", "/keys/known")


def test_a_token_of_the_forge_is_for_sources_of_the_forge_alone() -> None:
    spec = SourceSpec("wine", "https://github.com/acme/wine.git", github="acme/wine")
    assert access(spec=spec, forge="of-the-app") == Access(password="of-the-app")
    own = source(github="acme/wine", token="its-own")
    assert access(own, spec=spec, forge="of-the-app") == Access(password="its-own", login="Text(***)")
    assert access(spec=SourceSpec("wine", URL), forge="of-the-app") == Access()


def test_a_login_that_cannot_be_read_is_said() -> None:
    with pytest.raises(SecretMissing, match="TOKEN"):
        access(source(git=URL, token="${{ env.TOKEN }}"))
