"""What is done once a day: the archive is published, the database trimmed; by a child process."""
