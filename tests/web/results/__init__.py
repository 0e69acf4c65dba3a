"""Tests of perfd/web/results/."""
