"""Tests of perfd/tor/clients/."""
