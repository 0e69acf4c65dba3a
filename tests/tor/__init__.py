"""Tests of perfd/tor/."""
