"""Tests with a real tor on the private network, or a real Firefox."""
