"""Run OpenL3's command line: `python -m openavc.compat.openl3`."""

from ...interfaces.openl3.cli import main

main()
