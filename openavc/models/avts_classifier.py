"""AVTS fine-tuned to tell what happens in a clip (Korbar et al., NeurIPS 2018).

The network of frames alone, with a layer for the classes on top, as the paper's tables of UCF-101 and HMDB-51 have it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .avts import FRAMES, MixedTower, check_time_parts, mean_parts, prepare_clips
from .contract import Classifies, FramesInput, SoundInput
from .layers import square_or_sides
from .multisensory_classifier import check_classes


class AVTSClassifier(Classifies):
    """Tells the class of a clip from its frames, by a softmax; sound is taken and isn't heard.

    It takes the weights of `AVTSNet`'s `image_tower` by their names; `logit` is its own.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, in the order of the logits.
    widths, first_flat, image_size, frames, frame_rate, time_parts, moving
        As of `AVTSNet`.
    sample_rate : int
        Hz of the sound that comes with the frames.

    Raises
    ------
    ValueError
        If a value is out of range, there are fewer than two classes, or two of one name.
    """

    def __init__(
        self,
        classes: Sequence[str],
        widths: Sequence[int] = (64, 128, 256, 512),
        first_flat: int = 3,
        image_size: int | Sequence[int] = 224,
        frames: int = FRAMES,
        frame_rate: float = 25.0,
        time_parts: int = 1,
        moving: bool = False,
        sample_rate: int = 16_000,
    ):
        clip = FramesInput(*square_or_sides(image_size), frames, frame_rate)
        check_time_parts(time_parts, clip)
        super().__init__(SoundInput(sample_rate, clip.count / frame_rate), clip, {})
        self.classes = check_classes(classes)
        self.time_parts, self.moving = time_parts, moving
        self.image_tower = MixedTower(widths, first_flat)
        self.logit = nn.Linear(widths[-1] * time_parts, len(classes))

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Return samples (B, n, 1) as they are."""
        return samples

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Turn clips (B, T, H, W, 3), uint8 or floats in [0, 1], into (B, 3, T, H, W), as `AVTSNet` does."""
        return prepare_clips(self, frames, self.moving)

    def classify(self, frames: Tensor, spectrogram: Tensor) -> Tensor:
        """Return the logits of the classes, from the output of `prepare_frames`: (B, classes)."""
        return self.logit(mean_parts(self.image_tower(frames), self.time_parts))
