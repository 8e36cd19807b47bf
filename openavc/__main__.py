"""`python -m openavc` is `openavc`."""

from .cli import main

main()
