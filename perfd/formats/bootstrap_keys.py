"""The keys of bootstraps: those that each phase of control-spec 5.5 has."""

from __future__ import annotations

TAGS = (
    *("conn_pt", "conn_done_pt", "conn_proxy", "conn_done_proxy", "conn", "conn_done", "handshake"),
    *("handshake_done", "onehop_create", "requesting_status", "loading_status", "loading_keys"),
    *("requesting_descriptors", "loading_descriptors", "enough_dirinfo", "ap_conn_pt", "ap_conn_done_pt"),
    *("ap_conn_proxy", "ap_conn_done_proxy", "ap_conn", "ap_conn_done", "ap_handshake", "ap_handshake_done"),
    *("circuit_create", "done"),
)
"""Its tags in the order of their progress, but ``starting``, which is before anything is done."""


def key_of(tag: str) -> str:
    """A tag as it stands in keys, which have letters and digits alone: ``conn_done`` is CONNDONE."""
    return "".join(letter for letter in tag.upper() if letter.isascii() and letter.isalnum())


def lines() -> str:
    """The lines of the data dictionary for all of them."""
    found = [f"BOOTSTRAP{key_of(tag)} time - tor said that it had come to the phase {tag}" for tag in TAGS]
    for what, word in (("READ", "read"), ("WRITTEN", "written")):
        found += [f"TOR{what}{key_of(tag)} int B tor had {word} so much when it came to {tag}" for tag in TAGS]
    return "\n".join(found)
