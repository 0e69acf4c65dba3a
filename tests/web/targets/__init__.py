"""Tests of perfd/web/targets/."""
