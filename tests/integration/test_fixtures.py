"""The real servers that other tests stand on do what those tests take for granted."""

import smtplib
from collections.abc import Callable
from email.message import EmailMessage

import docker
import paramiko
import pytest

from tests.support.git import GitRepository, run_git
from tests.support.smtp import SmtpServer
from tests.support.sshd import SshServer


def connect(server: SshServer, known_hosts: str) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.load_host_keys(known_hosts)
    client.connect(
        server.host,
        port=server.port,
        username=server.user,
        key_filename=str(server.key_path),
        look_for_keys=False,
        allow_agent=False,
    )
    return client


def test_the_base_image_runs_python_and_git_as_a_user_without_rights(
    docker_engine: docker.DockerClient, base_image: str
) -> None:
    seen = docker_engine.containers.run(
        base_image,
        [
            "sh",
            "-c",
            "id -u; echo $HOME; python -c 'import getpass; print(getpass.getuser())'; git --version; pip -V",
        ],
        cap_drop=["ALL"],
        network_mode="none",
        remove=True,
    )
    uid, home, user, git, pip = seen.decode().splitlines()
    assert (uid, home, user) == ("1000", "/home/mlci", "mlci")
    assert git.startswith("git version 2.")
    assert "/opt/venv/" in pip


def test_the_production_server_lets_its_key_in_and_offers_a_writable_folder(
    sshd_server: Callable[[], SshServer],
) -> None:
    server = sshd_server()
    with (
        connect(server, str(server.known_hosts_path)) as client,
        client.open_sftp() as files,
        files.open("/srv/models/hello", "w") as hello,
    ):
        hello.write("hello")
    assert server.run("cat", "/srv/models/hello") == "hello"


def test_a_restarted_production_server_keeps_its_address_and_its_host_key(
    sshd_server: Callable[[], SshServer],
) -> None:
    server = sshd_server()
    server.container.kill()
    server.container.start()
    server.wait_until_it_answers()
    with connect(server, str(server.known_hosts_path)) as client:
        transport = client.get_transport()
        assert transport is not None
        assert transport.is_authenticated()


def test_two_production_servers_do_not_share_a_host_key(sshd_server: Callable[[], SshServer]) -> None:
    first, second = sshd_server(), sshd_server()
    second.known_hosts_path.write_text(
        second.host_key_line.split()[0] + " " + first.host_key_line.split(" ", 1)[1]
    )
    with pytest.raises(paramiko.BadHostKeyException):
        connect(second, str(second.known_hosts_path))


def send(server: SmtpServer) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "ci@example.org", "team@example.org", "grüße"
    mail.set_content("plain")
    mail.add_alternative("<p>rich</p>", subtype="html")
    with smtplib.SMTP(server.host, server.port, timeout=5) as connection:
        connection.send_message(mail)


def test_the_smtp_server_keeps_envelope_and_bodies(smtp_server: SmtpServer) -> None:
    send(smtp_server)
    (mail,) = smtp_server.wait_for(1)
    assert (mail.sender, mail.recipients, mail.subject) == ("ci@example.org", ("team@example.org",), "grüße")
    assert (mail.body("plain").strip(), mail.body().strip()) == ("plain", "<p>rich</p>")


def test_the_smtp_server_can_refuse_and_can_be_away(smtp_server: SmtpServer) -> None:
    smtp_server.refuse_with("451 try again later")
    with pytest.raises(smtplib.SMTPDataError):
        send(smtp_server)
    smtp_server.stop()
    with pytest.raises(ConnectionRefusedError):
        send(smtp_server)
    smtp_server.start()
    smtp_server.refuse_with(None)
    send(smtp_server)
    assert len(smtp_server.wait_for(1)) == 1


def test_the_git_remote_shows_commits_branches_and_rewritten_history(git_repository: GitRepository) -> None:
    first = git_repository.commit({"train.py": "print(1)\n"}, "Train")
    git_repository.switch("release/1")
    second = git_repository.commit({"train.py": None, "data/note.txt": b"\x00"})
    third = git_repository.rewrite()
    listed = run_git(git_repository.work, "ls-remote", git_repository.url)
    assert listed.split() == [first, "HEAD", first, "refs/heads/main", third, "refs/heads/release/1"]
    assert len({first, second, third}) == 3
