"""Tests of perfd.charts."""
