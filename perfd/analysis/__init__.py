"""Statistics over measurements. Pure functions of numbers: no input or output, no Twisted, no database."""
