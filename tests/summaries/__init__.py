"""Hourly summaries."""
