"""Whether ``perfd compare`` finds in the lab what it promises to find, and nothing where there is nothing."""
