"""Addresses that a repository's author makes us follow: submodules."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.adapters.git import Access, GitCommand, mirror
from orchestrator.adapters.git.location import REMOTE, Location
from orchestrator.adapters.git.process import GitFailed
from orchestrator.adapters.git.process import run_git as run_git_there
from orchestrator.adapters.git.submodules import Submodule, locate
from orchestrator.domain.errors import RevisionTooLarge, SourceRefused, SourceUnavailable
from orchestrator.domain.pipeline import SourceSpec
from tests.support.git import GitRepository, run_git
from tests.support.gitserver import Answer, Asked, git_server, make_authority

WEB = "https://git.example.org/acme/wine.git"
SSH = "git@git.example.org:acme/wine.git"
ACCESS = Access("ada", "s3cr3t-token", identity_file="/keys/deploy", known_hosts="/keys/known")


def found(parent: str, url: str) -> Location:
    return locate(Location.parse(parent, ACCESS, "wine"), Submodule("lib", "1" * 40, url))


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        (WEB, "../lib.git", "https://git.example.org/acme/lib.git"),
        (WEB, "../../other/lib", "https://git.example.org/other/lib"),
        (WEB, "./lib", "https://git.example.org/acme/wine.git/lib"),
        (WEB, "https://git.example.org/x/y", "https://git.example.org/x/y"),
        (WEB, "git@git.example.org:x/y.git", "https://git.example.org/x/y.git"),
        (WEB, "ssh://git@git.example.org:2222/x/y.git", "https://git.example.org/x/y.git"),
        (SSH, "../lib.git", "git@git.example.org:acme/lib.git"),
        (SSH, "git@git.example.org:x/y", "git@git.example.org:x/y"),
        ("ssh://git@h:22/a/b.git", "../c.git", "ssh://git@h:22/a/c.git"),
    ],
)
def test_a_submodule_of_the_same_server_gets_the_login_of_its_source(
    parent: str, url: str, expected: str
) -> None:
    location = found(parent, url)
    assert location.url == expected
    if location.ssh is None:
        assert (location.user, location.password) == ("ada", "s3cr3t-token")
    else:
        assert (location.ssh.identity_file, location.ssh.known_hosts) == ("/keys/deploy", "/keys/known")
        assert location.password == ""


@pytest.mark.parametrize(
    "url",
    ["ssh://root@git.example.org/acme/lib.git", "root@git.example.org:acme/lib", "git.example.org:acme/lib"],
)
def test_a_submodule_of_another_user_of_the_same_machine_is_not_logged_in_to(url: str) -> None:
    with pytest.raises(SourceRefused):
        found(SSH, url)


def test_a_submodule_that_a_stranger_names_gets_no_login() -> None:
    """A pull request from a fork could have any private repository read that the source's token may read."""
    parent = Location.parse(WEB, ACCESS, "wine")
    for url in ("../private.git", "git@git.example.org:acme/private.git"):
        location = locate(parent, Submodule("lib", "1" * 40, url), strangers=True)
        assert location.url == "https://git.example.org/acme/private.git"
        assert (location.user, location.password, location.anonymous) == ("", "", True)
    with pytest.raises(SourceRefused):
        locate(
            Location.parse(SSH, ACCESS, "wine"), Submodule("lib", "1" * 40, "../private.git"), strangers=True
        )


def test_neither_logins_nor_mirrors_open_a_submodule_that_a_stranger_names(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_repository.commit({"a": "1"})
    private = git_repository.remote.with_name("private.git")
    run_git(tmp_path, "clone", "--quiet", "--bare", git_repository.url, str(private))
    git_repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    modules = '[submodule "sub"]\n\tpath = sub\n\turl = ../private.git\n'
    (git_repository.work / ".gitmodules").write_text(modules)
    git_repository.git("add", ".gitmodules")
    git_repository.git("commit", "--quiet", "--message", "Add a submodule")
    git_repository.push()
    commit = git_repository.head()
    home = tmp_path / "home"
    home.mkdir()
    with git_server(git_repository.remote.parent) as server:
        server.logins = {"ada": "her-own-password"}
        (home / ".netrc").write_text("machine 127.0.0.1 login ada password her-own-password\n")
        (home / ".gitconfig").write_text(
            f'[http "{server.url}"]\n\textraHeader = Authorization: Basic YWRhOmhlci1vd24tcGFzc3dvcmQ=\n'
            "[credential]\n\thelper = !echo username=ada; echo password=her-own-password; :\n"
        )
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
        git = GitCommand(tmp_path / "mirrors")
        source = SourceSpec("wine", f"{server.url}/remote.git", submodules=True)
        git.checkout(source, commit, tmp_path / "trusted")
        assert (tmp_path / "trusted/sub/a").exists()
        server.asked.clear()
        with pytest.raises(SourceRefused, match="wants a login"):
            git.checkout(replace(source, strangers=True), commit, tmp_path / "into")
        asked = [asked for asked in server.asked if asked.path.startswith("/private.git")]
        assert asked
        assert all(one.login is None for one in asked)


def test_no_setting_of_the_users_reaches_a_submodule_that_a_stranger_names(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever builds private Go modules has an ``insteadOf`` with a token in it, for all of a server."""
    commit = git_repository.commit({"a": "1"})
    parent = git_repository.remote.parent
    run_git(tmp_path, "clone", "--quiet", "--bare", git_repository.url, str(parent / "private.git"))
    git_repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    modules = '[submodule "sub"]\n\tpath = sub\n\turl = ../private.git\n'
    (git_repository.work / ".gitmodules").write_text(modules)
    git_repository.git("add", ".gitmodules")
    git_repository.git("commit", "--quiet", "--message", "Add a submodule")
    git_repository.push()
    home = tmp_path / "home"
    home.mkdir()
    cookies = home / "cookies"
    cookies.write_text("127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tadas\n")
    with git_server(parent) as server:
        server.logins = {"ada": "her-own-password"}
        opened = server.url.replace("://", "://ada:her-own-password@")
        (home / ".gitconfig").write_text(
            f'[url "{opened}/"]\n\tinsteadOf = {server.url}/\n'
            f"[http]\n\tcookieFile = {cookies}\n\tuserAgent = adas\n"
            f'[http "{server.url}/private.git"]\n\textraHeader = X-Token: adas\n'
        )
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
        git = GitCommand(tmp_path / "mirrors")
        source = SourceSpec("wine", f"{server.url}/remote.git", submodules=True, strangers=True)
        with pytest.raises(SourceRefused, match="wants a login"):
            git.checkout(source, git_repository.head(), tmp_path / "into")
        asked = [asked for asked in server.asked if asked.path.startswith("/private.git")]
        assert asked
        assert all(one.login is None for one in asked)
        assert not any("adas" in value for one in asked for value in one.headers.values())


def test_the_users_way_out_leads_to_public_submodules_as_well(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_repository.commit({"a": "1"})
    authority = make_authority(tmp_path / "authority")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/ca.pem").write_bytes(authority.certificate.read_bytes())
    (tmp_path / "home/.gitconfig").write_text("[http]\n\tsslCAInfo = ~/ca.pem\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GIT_CONFIG_GLOBAL", "GIT_SSL_CAINFO"):
        monkeypatch.delenv(name, raising=False)
    with git_server(git_repository.remote.parent, authority.server) as server:
        location = Location.parse(f"{server.url}/remote.git", Access(anonymous=True))
        listed = run_git_there(["ls-remote", "--heads", "--", REMOTE], timeout=20, location=location)
        assert listed == f"{commit}\trefs/heads/main\n"


def test_a_submodule_that_a_stranger_names_is_bounded(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_repository.commit({"a": os.urandom(3 << 20)})
    parent = git_repository.remote.parent
    run_git(tmp_path, "clone", "--quiet", "--bare", git_repository.url, str(parent / "large.git"))
    git_repository.git("rm", "--quiet", "a")
    git_repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    modules = '[submodule "sub"]\n\tpath = sub\n\turl = ../large.git\n'
    (git_repository.work / ".gitmodules").write_text(modules)
    git_repository.git("add", ".gitmodules")
    git_repository.git("commit", "--quiet", "--message", "Add a submodule")
    git_repository.push()
    monkeypatch.setattr(mirror, "LARGEST_PROPOSAL", 1 << 20)
    with git_server(parent) as server:
        git = GitCommand(tmp_path / "mirrors")
        source = SourceSpec("wine", f"{server.url}/remote.git", submodules=True)
        git.checkout(source, git_repository.head(), tmp_path / "trusted")
        assert (tmp_path / "trusted/sub/a").stat().st_size == 3 << 20
        with pytest.raises(RevisionTooLarge, match=r"the submodule .*large\.git is more than 1\.0 MiB"):
            git.checkout(replace(source, strangers=True), git_repository.head(), tmp_path / "into")


def test_a_submodule_is_not_got_from_what_another_login_has_fetched(
    git_repository: GitRepository, tmp_path: Path
) -> None:
    """Its commit is told on pages and in mails; only the server knows whether this login may read it."""
    commit = git_repository.commit({"secret": "1"})
    run_git(tmp_path, "clone", "--quiet", "--bare", git_repository.url, str(tmp_path / "secret.git"))
    git_repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    modules = '[submodule "sub"]\n\tpath = sub\n\turl = ../secret.git\n'
    (git_repository.work / ".gitmodules").write_text(modules)
    git_repository.git("add", ".gitmodules")
    git_repository.git("commit", "--quiet", "--message", "Add a submodule")
    git_repository.push()
    run_git(tmp_path, "clone", "--quiet", "--bare", git_repository.url, str(tmp_path / "wine.git"))
    tokens = {"insider": "insiders-token", "outsider": "outsiders-token", "secret": "insiders-token"}
    accesses = {name: Access(password=token, login=token) for name, token in tokens.items()}
    with git_server(tmp_path) as server:

        def only_insiders(asked: Asked) -> Answer | None:
            login = asked.login[1] if asked.login else ""
            if login in tokens.values() and (login == "insiders-token" or "secret.git" not in asked.path):
                return None
            return Answer(401, [("WWW-Authenticate", "Basic")], b"")

        server.fault = only_insiders
        git = GitCommand(tmp_path / "mirrors", access=lambda source: accesses[source.name])
        git.fetch(SourceSpec("secret", f"{server.url}/secret.git"), commit, "main")
        wine, head = f"{server.url}/wine.git", git_repository.head()
        git.checkout(SourceSpec("insider", wine, submodules=True), head, tmp_path / "into-insider")
        assert (tmp_path / "into-insider/sub/secret").exists()
        with pytest.raises(SourceRefused, match=r"secret\.git"):
            git.checkout(SourceSpec("outsider", wine, submodules=True), head, tmp_path / "into-outsider")
        assert list((tmp_path / "into-outsider").iterdir()) == []


@pytest.mark.parametrize("parent", [WEB, SSH, "/srv/git/wine.git", "file:///srv/git/wine.git"])
@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/proof",
        "--upload-pack=touch /tmp/proof",
        "-u",
        "/etc",
        "file:///srv/git/private.git",
        "../../../private.git",
        "../../../../../../etc",
        "git://git.example.org/x",
        "http://git.example.org/x",
        "git@elsewhere.example.org:x/y.git",
        "",
    ],
)
def test_a_submodule_elsewhere_is_refused(parent: str, url: str) -> None:
    with pytest.raises(SourceRefused):
        found(parent, url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "224.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "fec0::1",
    ],
)
def test_a_submodule_at_a_private_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def resolved(*_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        public = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))
        return [public, (family, socket.SOCK_STREAM, 6, "", (address, 443))]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    with pytest.raises(SourceRefused, match="public addresses"):
        found(WEB, "https://elsewhere.example.org/x")


def test_a_public_submodule_elsewhere_is_asked_without_a_login_at_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    location = found(WEB, "https://ada:stolen@elsewhere.example.org/x")
    assert location.url == "https://elsewhere.example.org/x"
    assert (location.user, location.password, location.anonymous) == ("", "", True)
    settings = dict(location.settings)
    assert settings["http.curloptResolve"] == "elsewhere.example.org:443:93.184.216.34"
    assert settings["http.followRedirects"] == "false"
    assert list(location.allowed) == ["https"]


def test_git_asks_the_address_that_was_checked_whatever_the_name_means_by_then(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git_repository.commit({"a": "1"})
    authority = make_authority(tmp_path / "authority")
    monkeypatch.setenv("GIT_SSL_CAINFO", str(authority.certificate))
    with git_server(git_repository.remote.parent, authority.server) as server:
        port = server.url.rpartition(":")[2]
        location = Location.parse(f"https://git.example.org:{port}/remote.git", Access(anonymous=True))
        pinned = replace(location, pinned=f"git.example.org:{port}:127.0.0.1")
        listed = run_git_there(["ls-remote", "--heads", "--", REMOTE], timeout=20, location=pinned)
        assert listed == f"{commit}\trefs/heads/main\n"
        server.fault = lambda asked: Answer(302, [("Location", f"{server.url}/remote.git/info/refs")], b"")
        with pytest.raises(GitFailed):
            run_git_there(["ls-remote", "--heads", "--", REMOTE], timeout=20, location=pinned)


def test_a_submodule_cannot_read_another_repository_of_this_machine(
    git_repository: GitRepository, tmp_path: Path
) -> None:
    private = tmp_path / "private.git"
    run_git(tmp_path, "clone", "--quiet", "--bare", git_repository.url, str(private))
    (git_repository.remote.parent / "link").symlink_to(tmp_path)
    commit = git_repository.commit({"a": "1"})
    git = GitCommand(tmp_path / "mirrors")
    for url in (str(private), f"file://{private}", "../../private.git", "../link/private.git"):
        git_repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
        modules = f'[submodule "sub"]\n\tpath = sub\n\turl = {url}\n'
        (git_repository.work / ".gitmodules").write_text(modules)
        git_repository.git("add", ".gitmodules")
        git_repository.git("commit", "--quiet", "--allow-empty", "--message", url)
        git_repository.push()
        source = SourceSpec("wine", git_repository.url, submodules=True)
        with pytest.raises(SourceRefused, match="not followed"):
            git.checkout(source, git_repository.head(), tmp_path / "into")
        assert list((tmp_path / "into").iterdir()) == []


def test_a_redirection_to_another_server_gets_no_password(
    git_repository: GitRepository, tmp_path: Path
) -> None:
    git_repository.commit({"a": "1"})
    with git_server(tmp_path) as server, git_server(git_repository.remote.parent) as elsewhere:
        elsewhere.logins = {"x-access-token": "s3cr3t-token"}
        server.fault = lambda asked: Answer(
            302, [("Location", f"{elsewhere.url}/remote.git/info/refs?{asked.query}")], b""
        )
        git = GitCommand(tmp_path / "mirrors", access=lambda _: Access(password="s3cr3t-token"))
        with pytest.raises(SourceRefused, match="wants a login"):
            git.refs(SourceSpec("wine", f"{server.url}/remote.git"))
        assert elsewhere.asked
        assert all(asked.login is None for asked in elsewhere.asked)


def test_https_is_never_left_for_http(
    git_repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git_repository.commit({"a": "1"})
    authority = make_authority(tmp_path / "authority")
    monkeypatch.setenv("GIT_SSL_CAINFO", str(authority.certificate))
    with (
        git_server(tmp_path, authority.server) as server,
        git_server(git_repository.remote.parent) as clear,
    ):
        server.fault = lambda asked: Answer(
            302, [("Location", f"{clear.url}/remote.git/info/refs?{asked.query}")], b""
        )
        with pytest.raises(SourceUnavailable):
            GitCommand(tmp_path / "mirrors").refs(SourceSpec("wine", f"{server.url}/remote.git"))
        assert server.asked
        assert clear.asked == []
