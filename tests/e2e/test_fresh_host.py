"""A machine with a sshd and Docker and nothing else, on which runs just work."""

from __future__ import annotations

from contextlib import closing

import docker

from tests.support.hosts import HostNetwork, trust
from tests.support.installation import Installation


def test_a_bare_machine_executes_runs_and_keeps_what_it_was_brought(
    host_network: HostNetwork, installation: Installation, docker_engine: docker.DockerClient
) -> None:
    recipe = installation.folder / "image"
    recipe.mkdir()
    (recipe / "Dockerfile").write_text("FROM mlci/base:1\nCOPY Dockerfile /recipe\n")
    with host_network.host() as bare:
        trust(installation.folder / "var", bare)
        local = {"engine": installation.engine, "slots": 1, "min_free": "0"}
        installation.main = {
            "hosts": {"local": local, "bare": {"ssh": bare.ssh, "slots": 2, "min_free": "0"}}
        }
        installation.runner_image = {"build": str(recipe)}
        installation.runners = {"there": {"hosts": ["bare"]}}
        installation.checks = ("accuracy >= 0.5",)
        installation.write()
        installation.commit(0.8)
        with closing(bare.client()) as inside:
            assert inside.images.list() == []
            installation.orchestrator("run", "there")
            base = docker_engine.images.get("mlci/base:1")
            assert inside.images.get("mlci/base:1").id == base.id, "it was copied, not made anew"
            (built,) = [i for i in inside.images.list() if i.tags and i.tags[0].startswith("mlci/image:")]
            assert not [i for i in docker_engine.images.list() if built.tags[0] in i.tags], (
                "it was built there"
            )
            (data,) = [v for v in inside.volumes.list() if "-data-" in str(v.name)]
            installation.orchestrator("run", "there")
            assert [i.id for i in inside.images.list() if i.tags == built.tags] == [built.id]
            again = inside.volumes.get(data.name)
            assert again.attrs["CreatedAt"] == data.attrs["CreatedAt"]
        runs = [installation.json("runs", "show", number) for number in ("1", "2")]
        assert [[a["host"] for a in run["attempts"]] for run in runs] == [["bare"], ["bare"]]
        assert [run["state"] for run in runs] == ["passed", "passed"]
        assert installation.orchestrator("runs", "logs", "2").splitlines() == [f"line {n}" for n in range(5)]
