"""Endpoints on TCP that do nothing besides connecting."""

from __future__ import annotations

import ipaddress

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint


def tcp_endpoint(reactor: IReactorTime, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
    """The endpoint for ``host``, a name or an IP address; ``timeout`` is in seconds.

    ``HostnameEndpoint`` would resolve even an address in a thread first, and connect later than asked to.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return HostnameEndpoint(reactor, host, port, timeout=timeout)
    endpoint = TCP4ClientEndpoint if address.version == 4 else TCP6ClientEndpoint
    return endpoint(reactor, host, port, timeout=timeout)
