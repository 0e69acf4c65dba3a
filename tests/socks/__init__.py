"""Tests of perfd/socks/."""
