"""Comparisons of two arms: how they are designed, what their records say, and how that is told."""
