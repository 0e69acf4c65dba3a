"""Tests of perfd/tor/circuits/."""
