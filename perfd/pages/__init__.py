"""Pages for people: HTML of what the database and the daemon know, without script and without SVG."""
