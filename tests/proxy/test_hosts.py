"""Which hosts are the same, however they are written."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from perfd.proxy.hosts import is_same_host


class Hosts(SynchronousTestCase):
    """Which hosts are the same."""

    def test_same(self) -> None:
        """Addresses in all ways in which a URL can have them; names in upper case, or not in ASCII."""
        for asked, host in (
            ("127.0.0.1", "127.1"),
            ("127.0.0.1", "0x7f000001"),
            ("::1", "[0:0::1]"),
            ("site.example", "SITE.example"),
            ("xn--bcher-kva.example", "b\xfccher.example"),
            ("xn--strae-oqa.example", "stra\xdfe.example"),
        ):
            self.assertTrue(is_same_host(asked, host), host)
        for asked, host in (
            ("127.0.0.1", "127.2"),
            ("a.example", "b\xfccher.example"),
            ("", "a"),
            ("1.2.3.4", "a"),
        ):
            self.assertFalse(is_same_host(asked, host), host)
