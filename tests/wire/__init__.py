"""Tests of perfd/wire/."""
