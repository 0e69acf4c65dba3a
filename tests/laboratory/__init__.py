"""Tests of perfd/daemon/."""
