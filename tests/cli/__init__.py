"""Tests of perfd/cli/."""
