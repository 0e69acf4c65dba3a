"""What is read: results, circuits, streams, events, the archive, and the description of it all."""
