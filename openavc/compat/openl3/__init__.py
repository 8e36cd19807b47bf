"""OpenL3's interface on today's Python: `from openavc.compat import openl3` in place of `import openl3`.

Everything here, including submodules, comes from `openavc.interfaces.openl3`, under the name that users import.
"""

import sys

from ...interfaces.openl3 import *  # noqa: F403
from ...interfaces.openl3 import __all__ as __all__
from ...interfaces.openl3 import __version__ as __version__
from ...interfaces.openl3 import (
    cli,
    core,
    files,
    models,
    openl3_exceptions,
    openl3_warnings,
    options,
    pictures,
    results,
    sound,
)

for _module in (cli, core, files, models, openl3_exceptions, openl3_warnings, options, pictures, results, sound):
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
