"""Tests of perfd/logfile/."""
