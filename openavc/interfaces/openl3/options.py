"""The options of OpenL3's functions and their values; errors for other values list those that would work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...inference.arguments import check_batch_size, check_hop
from ...media.clips import FramesInput, SoundInput
from ...models.contract import EmbedsAudio, EmbedsFrames
from ...models.frontends import OPENL3_FRONTENDS, VARIANTS
from .openl3_exceptions import OpenL3Error, as_openl3_error

INPUT_REPRS = tuple(OPENL3_FRONTENDS)
CONTENT_TYPES = ("music", "env")
AUDIO_SIZES, IMAGE_SIZES = (6144, 512), (8192, 512)
FRONTENDS = {"kapre": "kapre-0.3.5"} | {name: name for name in VARIANTS}  # OpenL3's names and ours -> ours
PICTURE = FramesInput(224, 224)  # the pictures that all of OpenL3's networks take
FRAMING = SoundInput(48_000, 1.0, dtype="float64")  # the windows that all of OpenL3's networks take


def check_choice(name: str, value: Any, choices: Iterable) -> None:
    """Raise OpenL3Error unless the value of an option is one of its choices."""
    choices = tuple(choices)
    if value not in choices:
        raise OpenL3Error(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_common(content_type: Any, batch_size: Any, verbose: Any) -> None:
    """Raise OpenL3Error for invalid values of the options that all functions share."""
    check_choice("content_type", content_type, CONTENT_TYPES)
    check_choice("verbose", verbose, (True, False))
    with as_openl3_error():
        check_batch_size(batch_size)


def check_framing(hop_size: Any, center: Any) -> None:
    """Raise OpenL3Error unless the hop is at least one sample and `center` a Boolean."""
    check_choice("center", center, (True, False))
    with as_openl3_error():
        check_hop(hop_size, FRAMING)


def check_audio(model: Any, input_repr: Any, content_type: Any, embedding_size: Any, frontend: Any) -> tuple[str, str]:
    """Check the options of a network for sound and fill in missing ones.

    Returns
    -------
    input_repr : str
        "mel256" unless one is given.
    frontend : str
        The frontend's name in openavc.

    Raises
    ------
    OpenL3Error
        For unknown values, or values that contradict a given model.
    """
    check_choice("frontend", frontend, FRONTENDS)
    if input_repr is None and FRONTENDS[frontend].startswith("librosa"):
        raise OpenL3Error(f"frontend {frontend!r} needs an input_repr: choose one of {', '.join(INPUT_REPRS)}")
    input_repr = "mel256" if input_repr is None else input_repr
    check_choice("input_repr", input_repr, INPUT_REPRS)
    check_choice("content_type", content_type, CONTENT_TYPES)
    check_choice("embedding_size", embedding_size, AUDIO_SIZES)
    if model is not None:
        check_loaded(model, frontend=None if frontend == "kapre" else frontend)  # the default needn't be a choice
    return input_repr, FRONTENDS[frontend]


def check_loaded(model: Any, **options: str | None) -> None:
    """Raise OpenL3Error unless the model embeds sound and was loaded with these options; None fits any."""
    loaded = audio_model(model).architecture
    for name, value in options.items():
        if value is not None and name in loaded and loaded[name] != FRONTENDS.get(value, value):
            raise OpenL3Error(f"the model was loaded with {name} {loaded[name]!r}, not {value!r}: leave {name} out")


def check_image(model: Any, input_repr: Any, content_type: Any, embedding_size: Any) -> None:
    """Raise OpenL3Error for invalid options of a network for pictures."""
    check_choice("input_repr", input_repr, INPUT_REPRS)
    check_choice("content_type", content_type, CONTENT_TYPES)
    check_choice("embedding_size", embedding_size, IMAGE_SIZES)
    if model is not None:
        image_model(model)


def audio_model(model: Any) -> EmbedsAudio:
    """Return the model; raise OpenL3Error unless it is a network that embeds sound."""
    if not isinstance(model, EmbedsAudio) or "audio" not in model.embedding_sizes or model.sound != FRAMING:
        raise _not_a_model(model, "audio")
    return model


def image_model(model: Any) -> EmbedsFrames:
    """Return the model; raise OpenL3Error unless it is a network that embeds pictures."""
    if not isinstance(model, EmbedsFrames) or "image" not in model.embedding_sizes or model.frames != PICTURE:
        raise _not_a_model(model, "image")
    return model


def _not_a_model(model: Any, modality: str) -> OpenL3Error:
    return OpenL3Error(
        f"model must be what openl3.models.load_{modality}_embedding_model returned, got {type(model).__name__}"
    )
