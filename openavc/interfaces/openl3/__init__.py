"""OpenL3's interface to openavc's models; users write `from openavc.compat import openl3` for `import openl3`.

Signatures, names, defaults, file names and .npz keys are OpenL3 0.4's; its defects are fixed. Where a fix changes a
number, `strict_openl3=True` gives OpenL3's own. docs/migration.md lists the differences.
"""

from . import models
from .core import get_audio_embedding, get_image_embedding, preprocess_audio
from .files import process_audio_file, process_image_file, process_video_file
from .openl3_exceptions import OpenL3Error
from .openl3_warnings import OpenL3Warning
from .results import get_output_path

__version__ = "0.4.2"  # of the OpenL3 whose interface this is
__all__ = [
    "OpenL3Error",
    "OpenL3Warning",
    "__version__",
    "get_audio_embedding",
    "get_image_embedding",
    "get_output_path",
    "models",
    "preprocess_audio",
    "process_audio_file",
    "process_image_file",
    "process_video_file",
]
