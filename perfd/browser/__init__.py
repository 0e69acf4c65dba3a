"""Page loads in a real browser: what drives it, and what it tells."""
