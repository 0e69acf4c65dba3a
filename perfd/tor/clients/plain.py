"""What ``network = socks`` measures through when no client is named."""

from __future__ import annotations

from twisted.application.service import IServiceCollection

from perfd.config.values import SOCKSAddress
from perfd.interfaces import Tor
from perfd.reactor import Reactor
from perfd.tor.embedded import EmbeddedSocks, OutsideSocks


def plain_socks(reactor: Reactor, proxy: SOCKSAddress | None, services: IServiceCollection) -> Tor:
    """The outside ``proxy``; without one the embedded one, which is added to ``services``."""
    if proxy is not None:
        where = proxy.address
        return OutsideSocks(reactor, "default", where.host, where.port, proxy.version, proxy.login)
    embedded = EmbeddedSocks(reactor, "default")
    embedded.setServiceParent(services)
    return embedded
