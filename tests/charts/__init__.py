"""Tests of perfd.analysis; scipy is the oracle."""
