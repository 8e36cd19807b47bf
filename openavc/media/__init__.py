"""Files and arrays read as samples (n, channels) and frames (T, H, W, 3), with true times."""
