"""What error codes mean, in a sentence. docs/records.md has the table of all."""

from __future__ import annotations

from collections.abc import Mapping

from perfd.record import Error

_MEANINGS: Mapping[str, str] = {
    Error.TIMEOUT: "The deadline passed while data was still coming, or before any came.",
    Error.STALL: "The deadline passed, and nothing had come for a long while before it.",
    Error.CONNECT: "The SOCKS port could not be reached: tor may be down, or listen elsewhere.",
    Error.SOCKS: "What answered at the SOCKS port broke the protocol: it may be no SOCKS proxy.",
    Error.NOSTREAM: "Tor announced no stream for this connection, so it did not go through this tor.",
    Error.CLOSED: "The connection was closed before the whole answer was there.",
    Error.RESET: "The connection was reset.",
    Error.SHORT: "The server sent less than was asked for.",
    Error.LONG: "The server sent more than was asked for.",
    Error.STATUS: "The server answered with an HTTP status that is not right: 200, or what expect-status says, is.",
    Error.HTTP: "What the server sent was no HTTP.",
    Error.STOPPED: "Perfd was stopped while the run went on.",
    Error.NOTREADY: "Nothing was run, because tor was not ready.",
    Error.BUSY: "Nothing was run, because the run before it still went on.",
    Error.NOCBT: "Nothing was run, because tor had not yet learnt its circuit build timeout.",
    Error.BROWSER: "The browser did not start, died, or did not react.",
    Error.CRASH: "The browser's process for the page crashed.",
    Error.PAGE: "The browser showed something else than the page, such as an error.",
    Error.DOWNLOAD: "The address led to a download and not to a page.",
    Error.REDIRECTS: "There were too many redirects.",
    Error.TLS: "The server's certificate was not accepted, or TLS could not be agreed on.",
    Error.DIGEST: "What came is not what was sent, or not what expect-digest says.",
    Error.LATE: "Nothing was run: the process was held up past the time, or the clock jumped over it.",
    Error.DOWN: "Nothing was run, because Perfd did not run.",
    Error.INTERNAL: "A mistake in Perfd itself; its log says more. Please report it.",
    # What tor says of streams and circuits (control-spec, sections 4.1.1 and 4.1.2).
    "TOR/MISC": "Tor gave no reason that it has a name for.",
    "TOR/RESOLVEFAILED": "The exit could not find the address of the server's name.",
    "TOR/CONNECTREFUSED": "The server refused the exit's connection.",
    "TOR/EXITPOLICY": "The exit does not connect to that address or port.",
    "TOR/DESTROY": "The circuit was torn down under the stream.",
    "TOR/DONE": "The other end closed the stream.",
    "TOR/TIMEOUT": "The stream or its circuit took too long for tor.",
    "TOR/NOROUTE": "There was no route from the exit to the server.",
    "TOR/HIBERNATING": "The relay was hibernating.",
    "TOR/INTERNAL": "A relay had an error in itself.",
    "TOR/RESOURCELIMIT": "A relay had no room for the stream.",
    "TOR/CONNRESET": "The connection between exit and server was reset.",
    "TOR/TORPROTOCOL": "A relay broke Tor's protocol.",
    "TOR/NOTDIRECTORY": "The relay is no directory.",
    "TOR/CANT_ATTACH": "Tor found no circuit for the stream.",
    "TOR/NET_UNREACHABLE": "The server's network could not be reached from the exit.",
    "TOR/END": "The other end ended the stream and gave the reason that follows.",
}


def explained(code: str) -> str:
    """What an error code means; empty if it is not known. Of TOR/A/B the last part says most."""
    if code in _MEANINGS:
        return _MEANINGS[code]
    kind, *reasons = code.split("/")
    found = (_MEANINGS.get(f"{kind}/{reason}", "") for reason in reversed(reasons))
    return next(filter(None, found), "")
