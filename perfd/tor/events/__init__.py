"""What tor says on its control port: the events, folded into circuits and streams, joined to measurements."""
