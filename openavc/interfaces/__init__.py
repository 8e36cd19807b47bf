"""Interfaces of other packages to openavc's models, one folder each."""
