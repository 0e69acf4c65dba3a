"""Tests of perfd/daemon/upkeep/."""
