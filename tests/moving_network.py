"""A network unknown elsewhere: it takes 25 frames at 25 per second and a second of stereo sound, in one space."""

import torch.nn.functional as F
from torch import nn

from openavc.models.contract import EmbedsAudio, EmbedsFrames, FramesInput, HasSimilarity, SoundInput, check_embedding


class MovingNet(EmbedsAudio, EmbedsFrames, HasSimilarity):
    """Two towers, one of 3-D convolutions, one of 1-D convolutions on both channels' waveforms."""

    def __init__(self, width=8, joint_size=4):
        sizes = {"features": width, "joint": joint_size}
        sound, frames = SoundInput(16_000, 1.0, channels=2), FramesInput(32, 32, count=25, rate=25.0)
        super().__init__(sound, frames, {"audio": sizes, "image": sizes})
        self.picture = nn.Sequential(nn.Conv3d(3, width, 5, stride=4), nn.BatchNorm3d(width), nn.ReLU())
        self.hearing = nn.Sequential(nn.Conv1d(2, width, 400, stride=160), nn.BatchNorm1d(width), nn.ReLU())
        self.heads = nn.ModuleDict({kind: nn.Linear(width, joint_size) for kind in ("picture", "hearing")})
        self.decision = nn.Linear(1, 2)

    def prepare_audio(self, samples):
        return samples.transpose(1, 2).float()  # (B, 2, 16000)

    def prepare_frames(self, frames):
        scaled = frames.float() / (1 if frames.is_floating_point() else 255)
        return 2 * scaled.movedim(-1, 1) - 1  # (B, 3, 25, 32, 32)

    def embed_audio(self, spectrogram, embedding="features"):
        check_embedding(self, "audio", embedding)
        return self._embed("hearing", self.hearing(spectrogram).mean(dim=2), embedding)

    def embed_frames(self, frames, embedding="features"):
        check_embedding(self, "image", embedding)
        return self._embed("picture", self.picture(frames).mean(dim=(2, 3, 4)), embedding)

    def _embed(self, kind, features, embedding):
        return features if embedding == "features" else F.normalize(self.heads[kind](features), dim=-1)

    def represent_audio(self, spectrogram):
        return self.embed_audio(spectrogram, "joint")

    def represent_frames(self, frames):
        return self.embed_frames(frames, "joint")

    def compare(self, frames, audio):
        return self.decision((frames * audio).sum(dim=1, keepdim=True))

    def similarity(self, frames, audio):
        return frames @ audio.T
