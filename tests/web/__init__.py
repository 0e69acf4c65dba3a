"""Tests of perfd/web/."""
