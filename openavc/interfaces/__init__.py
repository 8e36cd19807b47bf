"""The interfaces of other packages, on openavc's models; one folder each."""
