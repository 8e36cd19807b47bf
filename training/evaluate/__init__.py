"""The papers' evaluations, each beside chance and an untrained network: `python -m training.evaluate --help`."""
