"""What is evaluated on: labelled sounds, pictures and videos, encounters, and boxes of what sounds."""
