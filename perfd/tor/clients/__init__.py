"""Clients in the place of a tor that have a SOCKS port and no control port."""
