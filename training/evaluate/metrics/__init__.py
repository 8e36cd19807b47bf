"""Figures of merit of embeddings, scores and maps."""
