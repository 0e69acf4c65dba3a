"""What the measurements of a period say: tables and charts of many runs. No input or output, no Twisted."""
