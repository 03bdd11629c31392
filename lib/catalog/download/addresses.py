"""Which addresses may be asked: http(s) only, and no host inside somebody's own network.

A catalogue is written by others. An address in it must not make this machine talk to its own services, its network or
its cloud's metadata server, so every address that a host resolves to is judged, and connections go to nothing else.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import Final

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from lib.catalog.download.failures import FetchError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Judge = Callable[[IPAddress], str | None]
"""Why an IP address must not be asked; None when it may."""
Resolver = Callable[[str, int], list[str]]
"""IP addresses of a host as text; raises `OSError` or `UnicodeError`."""

_USER = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)[^/?#]*@")
TEST_SERVER: Final = ipaddress.IPv4Address("127.0.0.1")

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_INFRASTRUCTURE = (  # global by their registry, or by that of older Pythons, and no place for photos
    ipaddress.IPv4Network("168.63.129.16/32"),  # a cloud's own services
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments, another cloud's metadata among them
    ipaddress.IPv4Network("192.88.99.0/24"),  # relays of 6to4
)


def parse_address(address: str) -> Url:
    """An address in its parts, escaped as it goes into a request.

    Raises:
        FetchError: `bad_address`, `refused_scheme` or `address_with_password`.
    """
    try:
        url = parse_url(address.strip())
    except LocationParseError:
        raise FetchError("bad_address", "it cannot be read as an address") from None
    if url.scheme is None:
        raise FetchError("bad_address", "it does not begin with http:// or https://")
    if url.scheme not in ("http", "https"):
        raise FetchError("refused_scheme", f"only http and https are fetched, not '{url.scheme}'")
    if url.auth is not None:
        raise FetchError("address_with_password", "user and password in an address are not sent; take them out")
    if not url.host:
        raise FetchError("bad_address", "it names no host")
    return url._replace(fragment=None)


def redacted(address: str) -> str:
    """An address to show: without user and password, control characters escaped, 120 characters at most."""
    shown = _USER.sub(r"\1…@", address.strip())
    return repr(shown if len(shown) <= 120 else f"{shown[:119]}…")[1:-1]


def public_only(ip: IPAddress) -> str | None:
    """Refuse what is not on the public internet; see `Judge`.

    IPv4 addresses inside IPv6 ones (mapped, 6to4, NAT64) are judged as what they stand for.

    >>> public_only(ipaddress.ip_address("::ffff:10.0.0.1"))
    'a private address'
    """
    inner = _embedded(ip)
    if inner is not None:
        return public_only(inner)
    for is_so, what in (
        (ip.is_unspecified, "the unspecified address"),
        (ip.is_loopback, "this machine itself"),
        (ip.is_link_local, "a link-local address"),
        (ip.is_multicast, "a multicast address"),
        (ip.is_private or getattr(ip, "is_site_local", False), "a private address"),
        (ip.is_reserved, "a reserved address"),
        (not ip.is_global or any(ip in network for network in _INFRASTRUCTURE), "no public address"),
    ):
        if is_so:
            return what
    return None


def public_or_test_server(ip: IPAddress) -> str | None:
    """Like `public_only`, but 127.0.0.1 may be asked: for tests, whose server is there, and for nothing else."""
    return None if ip == TEST_SERVER else public_only(ip)


def _embedded(ip: IPAddress) -> ipaddress.IPv4Address | None:
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def system_resolver(host: str, port: int) -> list[str]:
    """What the system answers: numbers in any notation, its own host table, DNS."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def judged(host: str, found: list[str], judge: Judge) -> list[IPAddress]:
    """The addresses of a host, every one of which may be asked.

    Raises:
        FetchError: `refused_address` when any of them may not, `unknown_host` when there is none.
    """
    addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in found]
    for address in addresses:
        why = judge(address)
        if why is not None:
            raise FetchError("refused_address", f"{host} is {address}: {why}")
    if not addresses:
        raise FetchError("unknown_host", f"{host} has no address")
    return addresses
