"""OpenL3's options and the values they take; everything else is refused with what would work."""

from __future__ import annotations

from ...audio import Frontend
from ...inference import check_batch_size, check_hop
from ...openl3_frontends import OPENL3_FRONTENDS, VARIANTS
from .openl3_exceptions import OpenL3Error, as_openl3_error

INPUT_REPRS = tuple(OPENL3_FRONTENDS)
CONTENT_TYPES = ("music", "env")
AUDIO_SIZES, IMAGE_SIZES = (6144, 512), (8192, 512)
FRONTENDS = {"kapre": "kapre-0.3.5"} | {name: name for name in VARIANTS}  # OpenL3's names and ours -> ours
FRAMING: Frontend = OPENL3_FRONTENDS["mel256"]["librosa"]  # rate and window, which all have in common


def check_choice(name: str, value, choices) -> None:
    if value not in tuple(choices):
        raise OpenL3Error(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_common(content_type, batch_size, verbose) -> None:
    check_choice("content_type", content_type, CONTENT_TYPES)
    check_choice("verbose", verbose, (True, False))
    with as_openl3_error():
        check_batch_size(batch_size)


def check_framing(hop_size, center) -> None:
    check_choice("center", center, (True, False))
    with as_openl3_error():
        check_hop(hop_size, FRAMING)


def check_audio(model, input_repr, content_type, embedding_size, frontend) -> tuple[str, str]:
    """(input_repr, our name of the frontend); OpenL3Error for what can't be, or doesn't go with the model."""
    check_choice("frontend", frontend, FRONTENDS)
    if input_repr is None and FRONTENDS[frontend].startswith("librosa"):
        raise OpenL3Error(f"frontend {frontend!r} needs an input_repr: choose one of {', '.join(INPUT_REPRS)}")
    input_repr = "mel256" if input_repr is None else input_repr
    check_choice("input_repr", input_repr, INPUT_REPRS)
    check_choice("content_type", content_type, CONTENT_TYPES)
    check_choice("embedding_size", embedding_size, AUDIO_SIZES)
    check_model(model, "audio")
    loaded = getattr(model, "architecture", {}).get("frontend")
    if loaded and frontend != "kapre" and FRONTENDS[frontend] != loaded:  # "kapre" may be but the default
        raise OpenL3Error(f"the model was loaded with frontend {loaded!r}, not {frontend!r}: leave frontend out")
    return input_repr, FRONTENDS[frontend]


def check_image(model, input_repr, content_type, embedding_size) -> None:
    check_choice("input_repr", input_repr, INPUT_REPRS)
    check_choice("content_type", content_type, CONTENT_TYPES)
    check_choice("embedding_size", embedding_size, IMAGE_SIZES)
    check_model(model, "image")


def check_model(model, modality: str) -> None:
    if model is None:
        return
    if not hasattr(model, f"embed_{modality}") or modality not in getattr(model, "modalities", (modality,)):
        raise OpenL3Error(
            f"model must be what openl3.models.load_{modality}_embedding_model returned, got {type(model).__name__}"
        )
