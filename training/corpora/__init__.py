"""Corpora: shards of clips, their loud moments, published lists of videos, and what the renderer's player does."""
