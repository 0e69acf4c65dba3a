"""Tests of perfd/tor/bootstrap/."""
