"""Circuits over relays that are chosen: which relays, building them, and streams on them."""
