"""The interfaces of other projects, on openavc's models; one file or folder each."""
