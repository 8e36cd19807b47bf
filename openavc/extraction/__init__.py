"""From files to results: what is computed from one file, and how the results of many files are stored."""
