"""Tests of perfd/experiments/."""
