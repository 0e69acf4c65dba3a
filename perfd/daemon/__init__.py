"""What the daemon does besides measuring: the schedule, the sinks of its records, health and metrics."""
