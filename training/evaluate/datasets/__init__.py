"""Data for evaluations: labelled sounds, pictures and videos, encounters, and boxes of sound sources."""
