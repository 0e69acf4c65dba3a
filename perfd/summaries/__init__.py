"""Hourly summaries of measurements, kept in the database, always equal to what the measurements say."""
