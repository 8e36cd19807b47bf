"""The papers' evaluations, each beside chance and the same network untrained: `python -m training.evaluate --help`."""
