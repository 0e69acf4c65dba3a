"""Tests of perfd/client/."""
