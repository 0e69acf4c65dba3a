"""What is measured: random bytes, uploads, echo and the canonical page."""
