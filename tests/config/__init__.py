"""Tests of perfd/config/."""
