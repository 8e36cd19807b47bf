"""Training and evaluation of audio-visual correspondence models; imports `openavc`, never the reverse."""
