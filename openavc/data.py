"""PyTorch data sets of videos.

>>> from openavc.data import AlignedWindows
>>> windows = AlignedWindows(["clip.mp4", "another.mp4"])  # doctest: +SKIP
"""

from .interfaces.windows import AlignedWindows

__all__ = ["AlignedWindows"]
