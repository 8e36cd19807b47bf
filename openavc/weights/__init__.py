"""Models by name or by file, loaded ready for inference.

`manifest` lists the models, `sources` provides their files, and `loading` builds `networks` from these. Files are
safetensors, which `tensors` reads and checks, or OpenL3's and EdgeL3's HDF5, which `keras` reads; nothing is ever
unpickled.
"""

from .digests import sha256_of
from .loading import choose_device, load_model, locate, modalities_of, to_dtype
from .manifest import list_models, model_info, own_folder, read_manifest, read_own, read_shipped
from .networks import build_model
from .sources import PRETRAINED, fetch, fetch_entry, verify_local

__all__ = [
    "PRETRAINED",
    "build_model",
    "choose_device",
    "fetch",
    "fetch_entry",
    "list_models",
    "load_model",
    "locate",
    "modalities_of",
    "model_info",
    "own_folder",
    "read_manifest",
    "read_own",
    "read_shipped",
    "sha256_of",
    "to_dtype",
    "verify_local",
]
