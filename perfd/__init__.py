"""Perfd measures the performance of Tor, continuously, as one Twisted daemon."""

__version__ = "0.1.0"
