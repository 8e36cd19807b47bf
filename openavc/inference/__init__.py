"""Inference in batches, on the network's device: embeddings, scores and maps."""
