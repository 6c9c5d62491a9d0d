"""More networks on one engine than it has ranges of addresses."""

from __future__ import annotations

from contextlib import closing
from ipaddress import IPv4Network
from itertools import combinations

import docker

from orchestrator.adapters.docker.engine import DockerEngine
from tests.support.hosts import Host

NETWORKS = 40


def test_slots_have_networks_of_their_own_where_the_engine_has_fewer_ranges(
    hosts: tuple[Host, Host], base_image: str
) -> None:
    host, _ = hosts
    names = [f"mlci-test-{number}" for number in range(NETWORKS)]
    with closing(DockerEngine(host.url, "mlci-test-many")) as engine, closing(host.client()) as client:
        for name in names:
            engine.ensure_network(name, {})
        made = client.networks.list(filters={"label": "mlci.instance=mlci-test-many"})
        assert sorted(str(network.name) for network in made) == sorted(names)
        ranges = [IPv4Network(network.attrs["IPAM"]["Config"][0]["Subnet"]) for network in made]
        gateways = {network.attrs["IPAM"]["Config"][0]["Gateway"] for network in made}
        assert gateways <= set(engine.network_ranges()), "an address of the host's is not known, so not shut"
        assert not [pair for pair in combinations(ranges, 2) if pair[0].overlaps(pair[1])]
        gateway = client.containers.run(
            base_image, ["sh", "-c", "ip route | cut -d' ' -f3 | head -1"], network=names[-1], remove=True
        )
        assert gateway.decode().strip() == made_gateway(client, names[-1])
        for name in names:
            engine.remove_network(name)
        engine.ensure_network(names[0], {})


def made_gateway(client: docker.DockerClient, name: str) -> str:
    (network,) = client.networks.list(names=[name])
    gateway: str = network.attrs["IPAM"]["Config"][0]["Gateway"]
    return gateway
