"""Corpora: shards of clips, their loud moments, published lists of videos, and the scenes that are rendered."""
