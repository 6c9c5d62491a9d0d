"""What the words of git, ssh and forges mean."""

import pytest

from orchestrator.adapters.git.location import Access, Location
from orchestrator.adapters.git.trouble import fit_to_show, trouble_of
from orchestrator.domain.errors import SourceRefused, SourceUnavailable

UNVERIFIED = "Host key verification failed.\nfatal: Could not read from remote repository."
WEB = Location.parse("https://git.example.org/acme/wine.git", source="wine")
WITH_TOKEN = Location.parse(WEB.url, Access(password="s3cr3t-token"), "wine")
SSH = Location.parse("git@git.example.org:acme/wine.git", Access(identity_file="/keys/deploy"), "wine")
LOCAL = Location.parse("/srv/wine.git", source="wine")
NO_ACCESS = "fatal: unable to access 'https://x/':"
UNREADABLE = "fatal: Could not read from remote repository.\n\nPlease make sure you have the access rights"


@pytest.mark.parametrize(
    ("location", "said", "told"),
    [
        (
            WEB,
            "fatal: could not read Username for 'https://git.example.org': terminal prompts disabled",
            "wants a login",
        ),
        (
            WITH_TOKEN,
            "remote: Invalid username or token.\nfatal: Authentication failed for 'https://x/'",
            "not accepted",
        ),
        (WITH_TOKEN, f"{NO_ACCESS} The requested URL returned error: 401", "not accepted"),
        (WITH_TOKEN, f"{NO_ACCESS} The requested URL returned error: 403", "forbids it"),
        (
            WEB,
            "remote: Repository not found.\nfatal: repository 'https://x/' not found",
            "no such repository",
        ),
        (WEB, f"{NO_ACCESS} The requested URL returned error: 404", "no such repository"),
        (SSH, f"ERROR: Repository not found.\n{UNREADABLE}", "no such repository"),
        (
            SSH,
            "remote: ERROR: The project you were looking for could not be found, or you may not read it.",
            "no such repository",
        ),
        (SSH, f"Gitea: Repository not found\n{UNREADABLE}", "no such repository"),
        (
            SSH,
            f"fatal: '/srv/wine.git' does not appear to be a git repository\n{UNREADABLE}",
            "no such repository",
        ),
        (
            LOCAL,
            f"fatal: '/srv/wine.git' does not appear to be a git repository\n{UNREADABLE}",
            "no such repository",
        ),
        (LOCAL, "fatal: detected dubious ownership in repository at '/srv/wine.git'", "another user"),
        (
            WEB,
            f"{NO_ACCESS} server certificate verification failed. CAfile: none CRLfile: none",
            "certificate is not trusted",
        ),
        (WEB, f"{NO_ACCESS} SSL certificate problem: self-signed certificate", "certificate is not trusted"),
        (
            WEB,
            f"{NO_ACCESS} SSL: no alternative certificate subject name matches target host name 'x'",
            "certificate is not trusted",
        ),
        (
            SSH,
            f"No ED25519 host key is known for x and you have requested strict checking.\n{UNVERIFIED}",
            "not known yet",
        ),
        (
            SSH,
            f"git@git.example.org: Permission denied (publickey).\n{UNREADABLE}",
            "is not let in with /keys/deploy",
        ),
        (WEB, "fatal: transport 'http' not allowed", "not allowed"),
    ],
)
def test_what_a_person_has_to_put_right_is_refused(location: Location, said: str, told: str) -> None:
    trouble = trouble_of(said, location)
    assert trouble is not None
    assert told in trouble.told
    assert trouble.remedy
    assert type(trouble.error(location)) is SourceRefused


@pytest.mark.parametrize(
    ("location", "said", "told"),
    [
        (WEB, f"{NO_ACCESS} The requested URL returned error: 500", "out of order (500)"),
        (WEB, f"{NO_ACCESS} The requested URL returned error: 429", "asked too often"),
        (WEB, f"{NO_ACCESS} Could not resolve host: git.example.org", "Could not resolve host"),
        (WEB, f"{NO_ACCESS} Operation too slow. Less than 1 bytes/sec", "too slow"),
        (
            WEB,
            f"{NO_ACCESS} gnutls_handshake() failed: The TLS connection was non-properly terminated.",
            "gnutls_handshake",
        ),
        (WEB, "error: RPC failed; curl 18 transfer closed\nfatal: early EOF", "early EOF"),
        (
            SSH,
            f"ssh: connect to host git.example.org port 22: Connection refused\n{UNREADABLE}",
            "refuses connections",
        ),
        (
            SSH,
            f"ssh: Could not resolve hostname git.example.org: Name or service not known\n{UNREADABLE}",
            "no machine of that name",
        ),
        (SSH, f"Connection to git.example.org closed by remote host.\n{UNREADABLE}", "broke"),
    ],
)
def test_what_may_pass_by_itself_is_unavailable(location: Location, said: str, told: str) -> None:
    trouble = trouble_of(said, location)
    assert trouble is not None
    assert told in trouble.told
    assert type(trouble.error(location)) is SourceUnavailable


@pytest.mark.parametrize(
    "said",
    [
        "fatal: couldn't find remote ref refs/heads/gone",
        f"fatal: remote error: upload-pack: not our ref {'1' * 40}",
        f"error: Server does not allow request for unadvertised object {'1' * 40}",
        "fatal: bad object HEAD",
    ],
)
def test_a_missing_ref_or_commit_is_no_trouble_of_the_remote(said: str) -> None:
    assert trouble_of(said, WEB) is None
    assert trouble_of(said, LOCAL) is None


def test_a_changed_host_key_is_told_with_the_trusted_one() -> None:
    said = (
        "The fingerprint for the ED25519 key sent by the remote host is\nSHA256:" + "b" * 43 + ".\n"
        "Host key for git.example.org has changed and you have requested strict checking.\n"
        f"Host key verification failed.\n{UNREADABLE}"
    )
    trouble = trouble_of(said, SSH, lambda name: (f"SHA256:{'a' * 43} of {name}",))
    assert trouble is not None
    assert f"SHA256:{'b' * 43}" in trouble.told
    assert f"SHA256:{'a' * 43} of git.example.org" in trouble.told
    assert "orchestrator sources trust wine" in trouble.remedy


def test_no_words_show_a_password_or_command_a_terminal() -> None:
    said = "fatal: unable to access 'https://ada:hunter22@x/': s3cr3t-token \x1b[2Jerror"
    trouble = trouble_of(said, WITH_TOKEN)
    assert trouble is not None
    for word in ("hunter22", "s3cr3t-token", "\x1b"):
        assert word not in str(trouble.error(WITH_TOKEN))
    assert fit_to_show("hint: try\nfatal: x", None) == "fatal: x"


def test_a_login_of_the_configuration_takes_the_place_of_one_in_the_address() -> None:
    location = Location.parse("https://old@git.example.org/x", Access(password="new-password"))
    assert (location.url, location.user, location.password) == (
        "https://git.example.org/x",
        "old",
        "new-password",
    )
    assert "new-password" not in repr(location)
    assert Location.parse("https://git.example.org/x", Access(password="a-token")).user == "x-access-token"
    assert Location.parse("/srv/x", Access("ada", "a-token")).settings == [
        ("remote.mlci-remote.url", "/srv/x")
    ]
    assert "http" not in WEB.allowed
