"""Networks that are measured: what they must be able to do, and the same ones untrained."""
