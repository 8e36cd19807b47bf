"""Figures of merit: how embeddings, scores and maps are measured, whatever they were measured on."""
