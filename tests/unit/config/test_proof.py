"""How a server's activation and proof may be written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orchestrator.config.models.proof import Proof
from orchestrator.config.yaml_loader import Plain
from orchestrator.domain.activation import Command, Health, HttpRequest, Smoke, TcpConnect

HEALTH = "http://localhost:9000/health"


def test_the_short_forms_mean_what_the_long_ones_do() -> None:
    short = Proof.model_validate(
        {"activate": ["systemctl", "restart", "wine"], "health": "http://localhost:9000/health"}
    )
    long = Proof.model_validate(
        {
            "activate": [{"run": ["systemctl", "restart", "wine"], "timeout": "1m"}],
            "health": [
                {"url": "http://localhost:9000/health", "tries": 10, "interval": "2s", "timeout": "5s"}
            ],
        }
    )
    assert short.activation() == long.activation()
    assert short.activation().commands == (Command(("systemctl", "restart", "wine"), 60.0),)
    assert short.activation().health == (Health(HttpRequest("http://localhost:9000/health")),)


def test_several_commands_and_looks_keep_their_order() -> None:
    found = Proof.model_validate(
        {
            "before": [["a", 1], {"run": ["b", "x y"], "timeout": "5s"}],
            "health": ["tcp://localhost:9000", {"run": ["./check"], "contains": "fine", "tries": 2}],
            "smoke": {"url": "http://localhost/p", "send": {"x": 1}, "expect": [0.5], "tolerance": 0.1},
            "bake": "5m",
        }
    ).activation()
    assert found.before == (Command(("a", "1"), 60.0), Command(("b", "x y"), 5.0))
    assert found.health == (
        Health(TcpConnect("localhost", 9000)),
        Health(Command(("./check",), 5.0), "fine", 2),
    )
    assert found.smoke == (Smoke(HttpRequest("http://localhost/p", '{"x": 1}'), "[0.5]", 0.1),)
    assert found.bake == 300.0


def test_an_argument_list_for_health_is_one_command() -> None:
    (health,) = Proof.model_validate({"health": ["./check", "--quick"]}).activation().health
    assert health.probe == Command(("./check", "--quick"), 5.0)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"activate": "systemctl restart wine"}, "is shell text, and no shell reads it"),
        ({"activate": [["A=1", "run"]]}, "is no name of a program"),
        ({"before": [[["deep"]]]}, "a list is no argument"),
        ({"health": "ftp://localhost"}, "is no address that can be asked"),
        ({"health": "http://me:secret@localhost/"}, "is no address that can be asked"),
        ({"health": "http://localhost/\r\nX: 1"}, "is no address that can be asked"),
        ({"health": {"url": "http://a", "run": ["b"]}}, "it is unclear what to ask"),
        ({"health": {"url": "http://a", "headers": {"X": "1\r\nY: 2"}}}, '"X" is no header'),
        ({"health": {"run": ["a"], "status": [200]}}, "headers and status belong to HTTP"),
        ({"smoke": {"url": "tcp://a:1", "expect": 1}}, "a TCP connection gives no prediction"),
        ({"smoke": {"url": "http://a", "send": 1}}, "Field required"),
        ({"bake": 5}, ""),
    ],
)
def test_what_cannot_be_meant_is_refused(written: dict[str, Plain], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Proof.model_validate(written)
    assert told in str(refused.value)
