"""Tests of perfd/tor/events/."""
