"""The database of measurements, circuits, streams and events.

``writer.StoreSink`` is the only writer of the running daemon, ``reader.StoreReader`` reads, also in other processes
and while the daemon runs. Everything that only SQLite has is in ``database.py``; the tables are in
``schema/*.sql``, written so that PostgreSQL can follow.
"""
