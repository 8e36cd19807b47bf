"""Run the command line: `python -m openavc` is the same as `openavc`."""

from .cli import main

main()
