"""The one warning of OpenL3's interface."""


class OpenL3Warning(Warning):
    """Input that is embedded all the same: silence, black pictures, less than a second, a video without sound."""
