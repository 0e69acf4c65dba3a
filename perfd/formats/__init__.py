"""Other people's formats: pure readers and writers between their text and Perfd's records."""
