"""Other packages' interfaces, so that what was written for them goes on."""
