"""Multisensory fine-tuned to tell what happens in a clip (Owens & Efros, ECCV 2018, section 5).

The pretrained layers up to conv5_2, and a new one for the classes in the place of the one for the pretext task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .contract import Classifies
from .multisensory import MultisensoryTrunk, Norms, draw_weights, make_logits


class MultisensoryClassifier(MultisensoryTrunk, Classifies):
    """Tells the class of a clip from the mean of conv5_2 over all places and times, by a softmax.

    It takes the weights of `Multisensory` by their names; only `logit`, which has an output for each class, is another.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, in the order of the logits.
    widths, image_size, frame_rate, sample_rate, spatial_stride, norm_decay, frontend, moving
        As of `Multisensory`.
    frames : int
        Frames of a clip; 77 are the paper's 2.56 s.
    norm_scale : bool
        Whether BatchNorm learns a scale; the paper's does, from ones on, once it is fine-tuned.
    muted : bool
        Whether zeros take the place of the sound: the paper's ablation that sees only.

    Raises
    ------
    ValueError
        If there are fewer than two classes, or two of one name.
    """

    def __init__(
        self,
        classes: Sequence[str],
        widths: Sequence[int] = (64, 128, 256, 512),
        image_size: int | Sequence[int] = 224,
        frames: int = 77,
        frame_rate: float = 29.97,
        sample_rate: int = 21_000,
        spatial_stride: int = 2,
        norm_decay: float = 0.9997,
        norm_scale: bool = True,
        frontend: str | None = None,
        moving: bool = False,
        muted: bool = False,
    ):
        norms = Norms(norm_decay, norm_scale)
        super().__init__(widths, image_size, frames, frame_rate, sample_rate, spatial_stride, frontend, moving, norms)
        self.classes = check_classes(classes)
        self.muted = muted
        self.logit = make_logits(widths[-1], len(classes))
        draw_weights(self)

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Turn samples (B, n, 2) into what `Multisensory` makes of them, or into zeros for a network that is muted."""
        sound = super().prepare_audio(samples)
        return torch.zeros_like(sound) if self.muted else sound

    def classify(self, frames: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the logits of the classes, from the outputs of `prepare_*`: (B, classes)."""
        return self.logit(self.embed_fused(frames, spectrogram)[..., None, None, None]).flatten(1)


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes; raise ValueError unless they are at least two, and all different."""
    listed = isinstance(classes, list | tuple) and all(isinstance(name, str) and name for name in classes)
    if not listed or len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes must be a list of at least two names, all different, got {str(classes)[:200]}")
    return tuple(classes)
