"""Links with delay, jitter, rate and loss between the relays of the private network, in a process of their own."""
