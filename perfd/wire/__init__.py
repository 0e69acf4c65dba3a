"""Stamps and bytes at the socket, one set for the client, the server and the proxy."""
