"""The ways into Tor: a tor launched or attached to, the private network, and SOCKS proxies without any tor."""
