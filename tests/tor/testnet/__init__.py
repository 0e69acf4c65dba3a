"""Tests of perfd/tor/testnet/."""
