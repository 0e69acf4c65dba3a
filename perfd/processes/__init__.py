"""The programs that Perfd starts, and what is known of the processes of this machine."""
