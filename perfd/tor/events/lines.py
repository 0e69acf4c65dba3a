"""What tor's asynchronous events say: pure parsers of their text (control-spec, section 4.1).

The text is what follows the event's name, as txtorcon's ``add_event_listener`` gives it; the lines of
``GETINFO circuit-status`` and ``stream-status`` have the same form. Words that control-spec does not know are kept;
a text that does not have the form of its event raises ``UnparsedError``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import attrs

MAX_LINE = 64 * 1024
"""Characters of one event; tor itself stays far below."""

MAX_WORD = 128
"""Characters of a status, a purpose, a reason: what tor sends has at most 32."""

MAX_USER = 1024
"""Characters of a SOCKS user name: 255 bytes, each of which tor may escape."""

MAX_HOPS = 16
"""Relays in a path; tor builds at most 8."""

_WORDS = re.compile(r'(?:[^\s"=]+=)?"(?:[^"\\]|\\.)*"|\S+')
_KEYWORD = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
_HOP = re.compile(r"\$?([0-9A-Fa-f]{40})(?:[~=]([A-Za-z0-9]{1,19}))?", re.ASCII)
_POW = re.compile(r"v1,([0-9]{1,10})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)  # fits into 64 bits
_FLOAT = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?", re.ASCII)


class UnparsedError(ValueError):
    """The text has not the form that control-spec gives its event."""


@attrs.frozen
class Words:
    """The words of an event: those in their place first, then ``KEY=value``."""

    places: tuple[str, ...]
    keywords: Mapping[str, str]

    def word(self, key: str) -> str | None:
        """The value of ``key``, None if it is missing or empty. Raises ``UnparsedError`` if it is no word."""
        value = self.keywords.get(key)
        return _word(value) if value else None

    def number(self, key: str) -> int | None:
        value = self.keywords.get(key)
        return None if value is None else _number(value)

    def decimal(self, key: str) -> float | None:
        """The value of ``key``, None if it is missing or C's nan or inf. Raises ``UnparsedError``."""
        value = self.keywords.get(key)
        if value is None or value.lstrip("-") in ("nan", "inf"):
            return None
        if not _FLOAT.fullmatch(value):
            raise UnparsedError(f"{key} is not a number")
        return float(value)


def split_words(text: str, places: int) -> Words:
    """Split an event into its words.

    The first ``places`` words are taken as they are, because a target may contain anything. After them, a word
    without ``KEY=`` is one more in its place. Quoted values lose their quotes. Raises ``UnparsedError``.
    """
    if len(text) > MAX_LINE:
        raise UnparsedError("longer than any event")
    words = _WORDS.findall(text) if '"' in text else text.split()
    if len(words) < places:
        raise UnparsedError("words are missing")
    placed, keywords = words[:places], {}
    for word in words[places:]:
        key, equals, value = word.partition("=")
        if not equals or not _KEYWORD.fullmatch(key):
            placed.append(word)
        else:
            keywords[key] = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return Words(tuple(placed), keywords)


def status_lines(text: str, key: str) -> list[str]:
    """The lines of a GETINFO answer: after ``key=`` if there is one, on lines of their own if there are several."""
    return [line for line in text.removeprefix(f"{key}=").splitlines() if line.strip() and line.strip() != "OK"]


def _word(text: str) -> str:
    if len(text) > MAX_WORD or not text.isprintable():
        raise UnparsedError("a word is too long or not printable")
    return text


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise UnparsedError("not a number")
    return int(text)


def _user(words: Words) -> str | None:
    """The SOCKS user name, for comparison: as tor quotes it."""
    user = words.keywords.get("SOCKS_USERNAME")
    return None if user is None else user[:MAX_USER]


def _effort(text: str | None) -> int | None:
    """The effort of HS_POW (``v1,NUMBER``); None without one, or with one of a kind that is not known."""
    match = _POW.fullmatch(text or "")
    return None if match is None else int(match[1])


def epoch_of(text: str | None) -> float | None:
    """Seconds since the epoch of an ISOTime2Frac (``2026-11-23T12:21:14.087624``); None if it is none."""
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None


@attrs.frozen
class Relay:
    """A relay in tor's words: ``fingerprint`` with the ``$`` before it, and the nickname if tor knew it."""

    fingerprint: str
    nickname: str | None = None

    @classmethod
    def parse(cls, name: str) -> Relay:
        """Read a LongName or ServerID. Raises ``UnparsedError``."""
        match = _HOP.fullmatch(name)
        if match is None:
            raise UnparsedError("not a relay")
        return cls("$" + match.group(1).upper(), match.group(2))


@attrs.frozen(kw_only=True)
class CircuitLine:
    """CIRC (4.1.1), CIRC_MINOR (4.1.19), or a line of circuit-status. ``word`` is the CircStatus or CircEvent."""

    circ_id: int
    word: str
    path: tuple[Relay, ...]
    purpose: str | None
    old_purpose: str | None
    build_flags: tuple[str, ...]
    hs_state: str | None
    rend_query: str | None
    user: str | None  # the SOCKS user name that it is for
    time_created: float | None  # seconds since the epoch, by tor's clock
    reason: str | None
    remote_reason: str | None
    conflux_id: str | None
    conflux_rtt: float | None  # seconds
    hs_pow_effort: int | None = None  # of HS_POW=v1,EFFORT

    @classmethod
    def parse(cls, text: str) -> CircuitLine:
        """Raises ``UnparsedError``."""
        words = split_words(text, 2)
        circ_id, word, *rest = words.places
        path = tuple(map(Relay.parse, rest[0].split(",", MAX_HOPS + 1))) if rest else ()
        if len(rest) > 1 or len(path) > MAX_HOPS:
            raise UnparsedError("more than a path")
        flags = words.word("BUILD_FLAGS")
        rtt = words.number("CONFLUX_RTT")
        return cls(
            circ_id=_number(circ_id),
            word=_word(word),
            path=path,
            purpose=words.word("PURPOSE"),
            old_purpose=words.word("OLD_PURPOSE"),
            build_flags=tuple(flags.split(",")) if flags else (),
            hs_state=words.word("HS_STATE"),
            rend_query=words.word("REND_QUERY"),
            user=_user(words),
            time_created=epoch_of(words.keywords.get("TIME_CREATED")),
            reason=words.word("REASON"),
            remote_reason=words.word("REMOTE_REASON"),
            conflux_id=words.word("CONFLUX_ID"),
            conflux_rtt=rtt / 1e6 if rtt else None,  # tor gives 0 before the first round trip
            hs_pow_effort=_effort(words.keywords.get("HS_POW")),
        )


@attrs.frozen(kw_only=True)
class StreamLine:
    """STREAM (4.1.2), or a line of stream-status. ``circ_id`` None: not attached."""

    stream_id: int
    status: str
    circ_id: int | None
    target: str
    purpose: str | None
    reason: str | None
    remote_reason: str | None
    source_addr: str | None
    user: str | None  # the SOCKS user name

    @classmethod
    def parse(cls, text: str) -> StreamLine:
        """Raises ``UnparsedError``."""
        words = split_words(text, 4)
        if len(words.places) > 4:
            raise UnparsedError("too many words")
        stream_id, status, circ_id, target = words.places
        source_addr = words.keywords.get("SOURCE_ADDR")
        return cls(
            stream_id=_number(stream_id),
            status=_word(status),
            circ_id=_number(circ_id) or None,
            target=target[:512],
            purpose=words.word("PURPOSE"),
            reason=words.word("REASON"),
            remote_reason=words.word("REMOTE_REASON"),
            source_addr=None if source_addr is None else source_addr[:128],
            user=_user(words),
        )


@attrs.frozen(kw_only=True)
class DescriptorLine:
    """HS_DESC (4.1.25): what became of the descriptor of an onion service; ``address`` is without ``.onion``."""

    action: str
    address: str
    reason: str | None

    @classmethod
    def parse(cls, text: str) -> DescriptorLine:
        """Raises ``UnparsedError``."""
        words = split_words(text, 4)
        action, address = words.places[:2]
        return cls(action=_word(action), address=_word(address), reason=words.word("REASON"))


@attrs.frozen(kw_only=True)
class Congestion:
    """The congestion control of a circuit, of our sending direction, as CIRC_BW (4.1.22) tells it.

    All None if the circuit has none. Tor gives round-trip times in whole milliseconds, and 0 as long as it has
    measured none.
    """

    slow_start: bool | None
    cwnd: int | None  # cells
    rtt: float | None  # seconds
    min_rtt: float | None  # seconds

    @classmethod
    def parse(cls, text: str) -> Congestion:
        """Raises ``UnparsedError``."""
        words = split_words(text, 0)
        slow_start, rtt, min_rtt = words.number("SS"), words.number("RTT"), words.number("MIN_RTT")
        return cls(
            slow_start=None if slow_start is None else slow_start != 0,
            cwnd=words.number("CWND"),
            rtt=rtt / 1e3 if rtt else None,
            min_rtt=min_rtt / 1e3 if min_rtt else None,
        )


NO_CONGESTION = Congestion(slow_start=None, cwnd=None, rtt=None, min_rtt=None)


@attrs.frozen(kw_only=True)
class BuildTimeout:
    """BUILDTIMEOUT_SET (4.1.16): the circuit build timeout from ``at`` (monotonic) on, and what it is made of."""

    at: float
    type: str  # COMPUTED: learnt; RESET: to be learnt again
    total_times: int | None
    timeout_ms: int | None
    xm: int | None  # ms
    alpha: float | None
    cutoff_quantile: float | None
    timeout_rate: float | None
    close_ms: int | None
    close_rate: float | None

    @classmethod
    def parse(cls, at: float, text: str) -> BuildTimeout:
        """Raises ``UnparsedError``."""
        words = split_words(text, 1)
        return cls(
            at=at,
            type=_word(words.places[0]),
            total_times=words.number("TOTAL_TIMES"),
            timeout_ms=words.number("TIMEOUT_MS"),
            xm=words.number("XM"),
            alpha=words.decimal("ALPHA"),
            cutoff_quantile=words.decimal("CUTOFF_QUANTILE"),
            timeout_rate=words.decimal("TIMEOUT_RATE"),
            close_ms=words.number("CLOSE_MS"),
            close_rate=words.decimal("CLOSE_RATE"),
        )


@attrs.frozen
class GuardLine:
    """GUARD (4.1.11): ``status`` is NEW, UP, DOWN, BAD, GOOD or DROPPED, or one of another ``type`` than ENTRY."""

    type: str
    relay: Relay
    status: str

    @classmethod
    def parse(cls, text: str) -> GuardLine:
        """Raises ``UnparsedError``."""
        type_, name, status = split_words(text, 3).places[:3]
        return cls(_word(type_), Relay.parse(name), _word(status))
