"""Tests of perfd/tor/guards/."""
