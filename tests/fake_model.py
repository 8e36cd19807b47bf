"""The test double of all rooms: a network that fulfils the contract and does what a test tells it to."""

import torch
from torch import nn

from openavc.models.contract import EmbedsFrames, FramesInput, HasSimilarity, HasTowers, Localizes, Slices, SoundInput


def as_it_is(batch):
    """Flatten (B, ...) to (B, D), each value in its place."""
    return batch.flatten(1).float()


class FakeModel(Slices, EmbedsFrames, Localizes, HasSimilarity, HasTowers):
    """Can do all that a network of two towers can; by default embeds sound and frames as they are.

    Parameters
    ----------
    sound, frames : SoundInput, FramesInput
        By default 1 s at 100 Hz, and pictures of 16 x 16 pixels.
    hears, sees : callable
        Map samples (B, n, channels), and frames (B, T, H, W, 3) in [0, 1], to vectors (B, D), or maps (B, D, h, w).
    slice_samples : int, optional
        Windows that are multiples of so many samples apart share a pass.

    Attributes
    ----------
    heard : list of Tensor
        Arguments of `prepare_audio`, batch by batch: (B, n, channels).
    """

    map_stride = 8

    def __init__(
        self,
        sound=SoundInput(100, 1.0),  # noqa: B008
        frames=FramesInput(16, 16),  # noqa: B008
        hears=as_it_is,
        sees=as_it_is,
        slice_samples=None,
        name="fake",
    ):
        sizes = {"features": 0, "joint": 0}
        super().__init__(sound, frames, {"audio": sizes} | ({"image": sizes} if frames else {}))
        self.unused = nn.Parameter(torch.zeros(1))
        self.hears, self.sees, self.slice_samples, self.name = hears, sees, slice_samples, name
        self.image_tower, self.audio_tower = nn.Identity(), nn.Identity()
        self.heard = []

    @property
    def passes(self):
        """Number of samples in each pass through the network."""
        return [samples.numel() for samples in self.heard]

    def prepare_audio(self, samples):
        self.heard.append(samples)
        return samples

    def prepare_frames(self, frames):
        return frames if frames.is_floating_point() else frames / 255

    def embed_audio(self, spectrogram, embedding="features"):
        return self.hears(spectrogram)

    def embed_frames(self, frames, embedding="features"):
        return self.sees(frames)

    def embed_slices(self, spectrogram, embedding, hop_samples):
        windows = spectrogram.unfold(1, self.sound.samples, hop_samples).transpose(2, 3)  # (B, T, n, channels)
        return torch.stack([self.hears(part) for part in windows.unbind(1)], dim=1)

    def represent_audio(self, spectrogram):
        return self.hears(spectrogram)

    def represent_frames(self, frames):
        return self.sees(frames)

    def compare(self, frames, audio):
        likeness = (frames * audio).flatten(1).sum(dim=1)
        return torch.stack([-likeness, likeness], dim=1)

    def similarity(self, frames, audio):
        return frames @ audio.T

    def localize(self, frames, audio):
        return torch.einsum("bdhw,bd->bhw", frames, audio)
