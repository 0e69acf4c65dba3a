"""What Perfd does over a connection: fetch a document, send one, send pings to and fro."""
