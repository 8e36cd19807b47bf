"""The one warning of OpenL3's interface."""


class OpenL3Warning(Warning):
    """Issued for silence, black pictures, sound under a second and videos without sound; all are still embedded."""
