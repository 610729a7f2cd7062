"""Shares of the connections: at most so many for one key, or for one address that sends no key."""

from __future__ import annotations

import ipaddress
from collections import Counter

IPV6_PREFIX = 64  # bits: one customer of a provider has at least all addresses of such a network


class Shares:
    """The number of open connections by client: an address, or a key. Used on the event loop only."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # for one client
        self._num: Counter[str] = Counter()

    def open(self, address: str) -> Share:
        """Count a new connection for its address."""
        client = _network(address)
        self._num[client] += 1
        return Share(self, client)

    def num(self, client: str) -> int:
        """The open connections of a client."""
        return self._num[client]

    def move(self, client: str | None, to: str | None) -> None:
        """Count a connection for another client; None is no client."""
        if to is not None:
            self._num[to] += 1
        if client is not None:
            self._num[client] -= 1
            if not self._num[client]:
                del self._num[client]


class Share:
    """One connection's part in its client's share: of its address, until it sends a key, and then of the key."""

    def __init__(self, shares: Shares, address: str) -> None:
        self._shares = shares
        self._client: str | None = address
        self.excess = max(0, shares.num(address) - shares.limit)  # connections over the limit, when this one opened

    @property
    def limit(self) -> int:
        """Connections of one client."""
        return self._shares.limit

    def claim(self, key: str) -> bool:
        """Count the connection for a key from now on. False, without a change, if the key has its share already."""
        if key != self._client:
            if self._shares.num(key) >= self._shares.limit:
                return False
            self._shares.move(self._client, key)
            self._client = key
        self.excess = 0
        return True

    def close(self) -> None:
        """The connection is lost."""
        self._shares.move(self._client, None)
        self._client = None


def _network(address: str) -> str:
    """The address itself; of IPv6 the network."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
