"""Perfd's web server: random bytes to measure with, and the results."""
