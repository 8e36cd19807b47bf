"""The one warning of OpenL3's interface."""


class OpenL3Warning(Warning):
    """Issued for silence, black pictures, sound shorter than a second and videos without any, all embedded even so."""
