"""Where in a picture is what sounds? Maps of single pictures.

A map is the model's probability that each place of the picture sounds, from a network with `localize` such as
AVOL-Net. The network sees the whole picture, at the scale it was trained on, whatever its shape.
"""

from __future__ import annotations

import os

import numpy as np

from .correspondence import represent_windows
from .image import read_image, resize, to_images, whole
from .inference import audio_windows, get_model, pair_rates, prepared_images, run_batches

DEFAULT_MODEL = "avol-small"


def localize_sound(image, audio, sr=None, model=None, *, device=None):
    """Map of where in a picture the sound comes from (Objects that Sound, section 4).

    Parameters
    ----------
    image : array or tensor (H, W, 3), or path
    audio : array or tensor (n,) or (n, channels), or path
        A recording longer than the model's window gets the mean of the maps of its windows, half overlapping.
    sr : int or None
        Sample rate in Hz; None for a path.
    model : str, path, model or None
        As in `get_audio_embedding`; None is the localising model that ships in the package.

    Returns
    -------
    heatmap : ndarray, shape (H, W), float32
        In [0, 1], at the picture's own size, enlarged bilinearly from the network's coarser one. Its maximum is the
        probability that sound and picture belong together, so it stays dark where they don't.

    Raises
    ------
    ValueError
        If the model can't localise, or there is more than one picture.
    """
    model = localizing_model(model, device)
    picture = _one_picture(image)
    (recording,), (rate,) = pair_rates(audio, sr)
    windows = audio_windows(recording, rate, model, hop_size=model.window_seconds / 2, center=False)
    sounds = np.stack([vector for _, vector in represent_windows(model, windows)])  # (T, D)
    seen = represent_whole(model, [picture])[0]
    return enlarge(heatmaps(model, seen, sounds).mean(axis=0), *picture.shape[:2])


def localizing_model(model=None, device=None):
    """The model an argument stands for; ValueError if it can't localise."""
    model = get_model(DEFAULT_MODEL if model is None else model, device)
    if not hasattr(model, "localize"):
        raise ValueError(
            f"{model.name} can't localise sound in pictures; {DEFAULT_MODEL} can, which ships with openavc"
        )
    return model


def represent_whole(model, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """What `heatmaps` takes of whole pictures of one shape (H, W, 3), float32 in [0, 1]: (D, h, w) each."""
    prepared = (whole(picture, model.image_size, model.map_stride) for picture in pictures)
    network = run_batches(
        enumerate(prepared), 16, model, lambda batch: model.represent_image(prepared_images(model, batch))
    )
    return [seen for _, seen in network]


def heatmaps(model, seen: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """Probability that each place of one picture, (D, h, w), sounds, for each of the sounds (N, D): (N, h, w)."""
    import torch

    parameter = next(model.parameters())
    image, audio = (torch.from_numpy(array).to(parameter) for array in (seen, sounds))
    with torch.inference_mode():
        places = model.localize(image.expand(len(audio), *image.shape), audio)
        return places.float().sigmoid().cpu().numpy()


def enlarge(heatmap: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map (h, w) at a picture's size (H, W), bilinearly: values of places stand at their middles."""
    return resize(heatmap, height, width)


def _one_picture(image) -> np.ndarray:
    """(H, W, 3), float32 in [0, 1]."""
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    pictures = to_images(image)
    if len(pictures) != 1:
        raise ValueError(f"one picture is localised at a time, got {len(pictures)}: call localize_sound for each")
    return pictures[0]
