"""Random bytes to measure with, which nothing on the way can compress."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

PIECE = 128 * 1024
"""The bytes that are made, and written to a connection, at a time: as many as Twisted gives to ``send`` at once."""

REKEY_AFTER = 2**36
"""Bytes after which the key is changed; far below where AES in counter mode could be told from random bytes."""


class Keystream:
    """Random bytes: the keystream of AES in counter mode, under a random key that nobody knows.

    That is many times as fast as `os.urandom`. What is less than a piece comes out of a stock that was made before,
    so a small body is ready when it is asked for.
    """

    def __init__(self) -> None:
        self._zeros = bytes(PIECE)
        self._made = REKEY_AFTER
        self._stock = self._make()
        self._taken = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, at most ``PIECE``. No byte is given twice."""
        if size == PIECE:
            return self._make()
        if len(self._stock) - self._taken < size:
            self._stock = self._stock[self._taken :] + self._make()
            self._taken = 0
        start = self._taken
        self._taken += size
        return self._stock[start : self._taken]

    def _make(self) -> bytes:
        if self._made >= REKEY_AFTER:
            self._encryptor = Cipher(AES(os.urandom(32)), CTR(os.urandom(16))).encryptor()
            self._made = 0
        self._made += PIECE
        return self._encryptor.update(self._zeros)
