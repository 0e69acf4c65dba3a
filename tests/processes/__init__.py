"""Tests of perfd.processes."""
