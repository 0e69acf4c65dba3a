"""Endpoints on TCP that do nothing besides connecting, and the way by them out of a SOCKS server."""

from __future__ import annotations

import ipaddress

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from perfd.socks.local_ports import FromLocalPort, LocalPorts
from perfd.socks.way_out import Direct

CONNECT_TIMEOUT = 30.0
"""Seconds for connecting, to a SOCKS proxy and from one to a destination."""


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


def socks_endpoint(reactor: IReactorTime, host: str, port: int, ports: LocalPorts) -> IStreamClientEndpoint:
    """The endpoint of a tor's SOCKS port, whose connections come from ``ports``.

    Where the port is known by a name the system chooses, since the family of its address is not known before.
    """
    free = tcp_endpoint(reactor, host, port, CONNECT_TIMEOUT)
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return free
    endpoint, address = (TCP4ClientEndpoint, "0.0.0.0") if version == 4 else (TCP6ClientEndpoint, "::")
    return FromLocalPort(ports, lambda bind: endpoint(reactor, host, port, CONNECT_TIMEOUT, bind), free, address)


def direct(reactor: IReactorTime, *, optimistic: bool = False) -> Direct:
    """The way out of a SOCKS server straight to where a client wants to go."""
    return Direct(lambda request: tcp_endpoint(reactor, request.host, request.port, CONNECT_TIMEOUT), optimistic)
