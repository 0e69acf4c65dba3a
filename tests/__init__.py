"""Perfd's tests: unit tests without I/O, and tests with a real tor on the private network (mark ``tor``)."""
