"""The measuring proxy: a SOCKS server between programs on this machine and a tor; it records each connection."""

from perfd.proxy.port import MeasuringProxy, OpenPort
from perfd.proxy.records import ProxyConnection

__all__ = ["MeasuringProxy", "OpenPort", "ProxyConnection"]
