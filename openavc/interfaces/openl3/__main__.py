"""Run OpenL3's command line: `python -m openavc.interfaces.openl3`."""

from .cli import main

main()
