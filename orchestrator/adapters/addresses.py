"""The one judge of network addresses that other people's text leads to: of data, and of submodules."""

from __future__ import annotations

import ipaddress
from typing import Final

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
    )
)
"""Where clouds give their machines' credentials away."""
_NEVER: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "::/96",  # an IPv4 address, as nobody writes it any more
        "::ffff:0:0:0/96",  # one that a translator (SIIT) makes of it
        "64:ff9b:1::/48",  # one of a translator of our own network (NAT64)
        "fd00:ec2::/32",  # services of Amazon's machines, its credentials among them
        "fec0::/10",  # private addresses as they were once
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def may_be_asked(address: str, *, allow_private: bool) -> bool:
    """Whether an address may be asked: public ones, private ones if allowed, those of metadata never."""
    try:
        found = _plain(ipaddress.ip_address(address.partition("%")[0]))
    except ValueError:
        return False
    if found in _METADATA or found.is_link_local or found.is_multicast or found.is_unspecified:
        return False
    if not found.is_loopback and any(found in network for network in _NEVER):
        return False
    private = found.is_private or found.is_loopback
    return found.is_global or (private and allow_private)


def _plain(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, address))[1]
    return address
