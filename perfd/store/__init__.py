"""The database of measurements, circuits, streams and events.

``writer.StoreSink`` writes the running daemon's records; retention and ``perfd import`` write beside it, each in a
process of its own. ``reader.StoreReader`` reads, also in other processes and while the daemon runs. How SQLite is
opened and copied, and what its errors mean, is in ``database.py``; the tables are in ``schema/*.sql``.
"""
