"""TLS of the measuring client: which servers are trusted, and what became of a session.

A session is not resumed: every run has the whole handshake.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import attrs
from OpenSSL import SSL
from service_identity import VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, platformTrust
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

TLS_ERRORS: tuple[type[Exception], ...] = (SSL.Error, VerificationError)
"""What goes wrong in a handshake: there is no agreement, or the certificate is not accepted."""


class Trust:
    """Whom the client believes: what this machine's authorities have signed, or (``insecure``) everybody."""

    def __init__(self, *, insecure: bool = False) -> None:
        self.insecure = insecure
        self._context: SSL.Context | None = None

    def load(self) -> None:
        """Read this machine's authorities, which takes some hundredths of a second."""
        self._context = self.context

    @property
    def context(self) -> SSL.Context:
        """For all connections; made once, since it holds all of the machine's authorities."""
        if self._context is None:
            trust = None if self.insecure else platformTrust()
            options = CertificateOptions(trustRoot=trust, acceptableProtocols=[b"http/1.1"])
            self._context = options.getContext()
        return self._context


@implementer(IOpenSSLClientConnectionCreator)
@attrs.frozen
class TLSServer:
    """The server ``host`` (a name, as A-labels, or an IP address) as TLS is to find it."""

    host: str
    trust: Trust

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A session that has yet to begin. Addresses are not sent as the server's name (RFC 6066, 3)."""
        connection = SSL.Connection(self.trust.context, None)
        if not self._is_address:
            connection.set_tlsext_host_name(self.host.encode("ascii"))
        return connection

    def completed(self, session: Session, connection: SSL.Connection, done: float) -> Session:
        """The session with what was agreed on.

        Raises VerificationError if the certificate is for somebody else; its chain was looked at before.
        """
        self._verify(connection)
        certificate = connection.get_peer_certificate(as_cryptography=True)
        return attrs.evolve(
            session,
            done=done,
            version=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name(),
            certificate_end=None if certificate is None else certificate.not_valid_after_utc.timestamp(),
        )

    def _verify(self, connection: SSL.Connection) -> None:
        if self.trust.insecure:
            return
        (verify_ip_address if self._is_address else verify_hostname)(connection, self.host)

    @property
    def _is_address(self) -> bool:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


@attrs.frozen(kw_only=True)
class Session:
    """A TLS session. ``begun`` and ``done`` are monotonic stamps; the rest is None unless it was done."""

    begun: float  # the handshake began
    done: float | None = None  # it was over, and the certificate accepted
    version: str | None = None  # as OpenSSL names it: TLSv1.3
    cipher: str | None = None
    certificate_end: float | None = None  # after this the server's certificate is not valid; since the epoch


def under_tls(transport: Any) -> Any:
    """The transport that carries ``transport``, which is itself if that does not speak TLS."""
    return transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else transport


def words(error: BaseException) -> str:
    """What went wrong, from OpenSSL's list of errors or from what the certificate is not for."""
    if isinstance(error, SSL.Error):
        found = error.args[0] if error.args and isinstance(error.args[0], list) else []
        return ", ".join(dict.fromkeys(str(each[-1]) for each in found if each)) or "TLS ended unexpectedly"
    return f"the certificate is not the server's: {error}"
