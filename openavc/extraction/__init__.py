"""Files to results: what is computed of a file, and how many of them are kept."""
