"""The experiments: one module for each type. Each run of one gives a ``Measurement``."""
