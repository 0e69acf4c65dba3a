"""A campaign: instances with faults at random moments, and what must hold after each."""
