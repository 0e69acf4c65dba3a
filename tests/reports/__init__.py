"""Tests of perfd/reports/."""
