"""Tests of perfd/formats/."""
