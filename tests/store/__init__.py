"""Tests of perfd/store/."""
