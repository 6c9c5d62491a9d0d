"""The address of the database: passwords in it, and what references become."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from orchestrator.config.database import holds_password, mistake, passwords, resolved
from orchestrator.config.interpolation import parse
from orchestrator.domain.errors import SecretMissing
from tests.support.configuration import ConfigFolder

ODD = "p'w$x\"y@h/d?#%:[é"


def read(path: str) -> str:
    return {"/run/secrets/pg": ODD}[path]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://orchestrator:${{ file:/run/secrets/pg }}@db:5432/name",
        "postgresql+psycopg://orchestrator:${{ env.PASSWORD }}@db:5432/name",
    ],
)
def test_a_password_by_reference_may_hold_any_character(address: str) -> None:
    url = make_url(resolved(parse(address), {"PASSWORD": ODD}, read))
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "orchestrator",
        ODD,
        "db",
        5432,
        "name",
    )
    assert ODD in passwords(url.render_as_string(hide_password=False))


def test_a_whole_address_by_reference_is_taken_as_it_is() -> None:
    whole = "postgresql://u:p%40ss@db/name"
    assert resolved(parse("${{ env.DATABASE }}"), {"DATABASE": whole}, read) == whole
    assert passwords(whole) == ("p%40ss", "p@ss")


def test_a_password_of_the_query_is_seen_too() -> None:
    address = parse("postgresql:///name?host=/run/postgresql&password=${{ env.P }}")
    url = resolved(address, {"P": "a&b c"}, read)
    assert make_url(url).query["password"] == "a&b c"
    assert "a&b c" in passwords(url)
    assert passwords("sqlite:////var/lib/x.db") == ()


@pytest.mark.parametrize("password", ["pa/ssword", "pa?ssword", "pa:ss[wo]rd", "p%2Fssword"])
@pytest.mark.parametrize("user", ["u", "ann@example.org", ""])
def test_whatever_the_database_takes_for_the_password_is_known(user: str, password: str) -> None:
    address = f"postgresql://{user}:{password}@h:5432/name?options=a"
    assert make_url(address).password in passwords(address)
    assert holds_password(parse(address))


def test_all_of_a_password_is_known_although_it_reads_as_a_host() -> None:
    assert passwords("postgresql://u:p@ssw@rd@h/name?x=a@b") == ("p@ssw@rd",)


def test_a_reference_that_leads_nowhere_is_said() -> None:
    with pytest.raises(SecretMissing, match="PASSWORD is not set"):
        resolved(parse("postgresql://u:${{ env.PASSWORD }}@h/d"), {}, read)


@pytest.mark.parametrize(
    ("address", "literal"),
    [
        ("postgresql://u:s3cret@h/d", True),
        ("postgresql:///d?host=/run/postgresql&password=s3cret", True),
        ("postgresql://u:${{ env.P }}@h/d", False),
        ("postgresql://u:${{ env.P }}@h/d?password=${{ env.P }}", False),
        ("${{ env.DATABASE }}", False),
        ("postgresql://u@h:5432/d", False),
        ("postgresql:///d?host=/run/postgresql", False),
        ("sqlite:////var/lib/x.db", False),
    ],
)
def test_only_a_password_itself_counts_as_written(address: str, literal: bool) -> None:
    assert mistake(address) == ""
    assert holds_password(parse(address)) is literal


def test_validation_warns_of_a_password_that_is_written_and_repeats_it_nowhere(folder: ConfigFolder) -> None:
    folder.write("orchestrator.yaml", "storage: {database: 'postgresql://u:s3cret-word@h/d'}\n")
    result = folder.load()
    (warning,) = [str(p) for p in result.warnings if "password" in p.message]
    assert "orchestrator.yaml:1:21: " in warning
    assert "${{ env.DATABASE_URL }}" in warning
    assert "s3cret-word" not in repr(result.configuration) + repr(result)
