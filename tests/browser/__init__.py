"""Tests of perfd/browser/."""
