"""Tests of perfd/browser/files/."""
