"""Tests of perfd/proxy/."""
