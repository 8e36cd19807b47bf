"""Batches through a network on its device: embeddings, scores, maps."""
