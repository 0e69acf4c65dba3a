"""The private Tor network: its relays, its consensus, and the service that keeps it up."""
