"""PE-AV: sound, video and text in one space, learned from natural video (Vyas et al., 2025), by transformers.

arXiv 2512.19687. Weights, and what prepares their inputs, are a folder in transformers' layout. Sound and video have
joint vectors that compare with each other; text has one vector to compare with sound, and another one with video.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .contract import EmbedsAudio, EmbedsFrames, EmbedsText, FramesInput, HasSimilarity, SoundInput, check_embedding

SECONDS = 2.0  # of a window; ours, as PE-AV takes sound and video of any length
FRAMES = 16  # of a window; ours where the network takes any number
_NEEDED = 'PE-AV needs transformers, timm and torchvision: pip install "openavc[pe-av]"'
# Operators that importing torchvision describes, though its file of operators isn't loaded.
_OPERATORS = ("torchvision::nms", "torchvision::qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class PEAV(EmbedsAudio, EmbedsFrames, EmbedsText, HasSimilarity):
    """Perception Encoder Audio-Visual: a window of sound, a clip of frames or a text becomes a vector.

    Features are what the encoders of sound and video give; joint vectors are their projections into the shared space,
    not scaled to length 1. Their product with the network's own scale and bias is the logit of correspondence.

    Parameters
    ----------
    network : transformers.PeAudioVideoModel
    processor : transformers.PeAudioVideoProcessor
    seconds : float
        Of a window of sound, and of a clip; the hop is half of it.
    frames : int, optional
        Of a clip; those that the network takes if it takes a fixed number, otherwise 16.

    Raises
    ------
    ValueError
        If the network can't take such windows or clips.
    """

    compared_with = ("audio", "image")
    network: Any
    processor: Any

    def __init__(self, network: Any, processor: Any, seconds: float = SECONDS, frames: int | None = None):
        extractor, video = processor.feature_extractor, processor.video_processor
        fixed = video.num_frames if video.do_sample_frames else None
        count = _clip_length(frames, fixed)
        if isinstance(seconds, bool) or not (isinstance(seconds, numbers.Real) and 0 < seconds <= 3600):
            raise ValueError(f"seconds must be the length of a window, above 0, at most 3600, got {seconds!r}")
        seconds, (height, width) = float(seconds), _picture_size(video)
        config = network.config.audio_video_config
        joint = network.config.text_config.hidden_size
        sizes = {
            "audio": {"features": config.audio_config.hidden_size, "joint": joint},
            "image": {"features": config.video_config.hidden_size, "joint": joint},
            "text": {"joint": joint},
        }
        rate = count / seconds if count > 1 else None
        super().__init__(
            SoundInput(extractor.sampling_rate, seconds, hop=seconds / 2),
            FramesInput(height, width, count, rate, hop=seconds / 2, single=True),
            sizes,
        )
        self.network, self.processor = network, processor
        self.fixed_frames: int | None = fixed

    @classmethod
    def from_folder(cls, folder: Path, **options: Any) -> PEAV:
        """Build the network of a folder in transformers' layout; options are those of the class.

        Raises
        ------
        ImportError
            If transformers, or what it needs for PE-AV, isn't installed.
        ValueError
            If the folder's tensors aren't those of the network that its config.json names, or an option is wrong.
        OSError
            If a file is missing or can't be read.
        """
        model, processor = _classes()
        with _quiet():
            prepares = processor.from_pretrained(folder, local_files_only=True)
            network, found = model.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
            if found[kind]:
                name, number = min(map(str, found[kind])), len(found[kind])
                raise ValueError(
                    f"{folder} doesn't fit {cls.__name__}: {kind.split('_')[0]} tensor {name}, {number} in all"
                )
        return cls(network, prepares, **options)

    # ----------------------------------------------------------------------------------------------------- inputs

    def prepare_audio(self, samples: Tensor) -> Tensor:
        """Turn samples (B, n, 1) into waveforms (B, 1, m), reflected at their end to a multiple of the codec's hop."""
        waveform = samples.transpose(1, 2)
        missing = -waveform.shape[2] % self.processor.feature_extractor.hop_length
        return F.pad(waveform, (0, missing), mode="reflect") if missing else waveform

    def fit_frame(self, frame: np.ndarray) -> np.ndarray:
        """Bring a picture (H, W, 3), floats in [0, 1], to the network's size, uint8, as its own processor does."""
        pixels = torch.from_numpy((frame * 255).round().astype(np.uint8)).permute(2, 0, 1)[None]
        resized = self._process([pixels], do_rescale=False, do_normalize=False)[0, 0]  # (3, h, w)
        return resized.permute(1, 2, 0).contiguous().numpy()

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Scale frames (B, T, H, W, 3), uint8 or floats in [0, 1], as the network's own processor does.

        Where the network takes a fixed number of frames, those of another clip are spread evenly over as many: a
        picture is repeated.
        """
        if frames.is_floating_point():
            frames = (frames * 255).round().to(torch.uint8)
        if self.fixed_frames:
            last, steps = frames.shape[1] - 1, max(1, self.fixed_frames - 1)
            frames = frames[:, [k * last // steps for k in range(self.fixed_frames)]]
        return self._process(list(frames.permute(0, 1, 4, 2, 3)), do_resize=False, do_center_crop=False)

    def _process(self, videos: list[Tensor], **steps: bool) -> Tensor:
        """Run some of the steps of the network's own processor over videos (T, 3, H, W) of one length: (B, T, ...)."""
        processed = self.processor.video_processor(
            videos, do_sample_frames=False, input_data_format="channels_first", return_tensors="pt", **steps
        )
        return processed["pixel_values_videos"]

    # ------------------------------------------------------------------------------------------------- embeddings

    def embed_audio(self, spectrogram: Tensor, embedding: str = "features") -> Tensor:
        """Embed waveforms (B, 1, m): (B, D)."""
        check_embedding(self, "audio", embedding)
        features = self.network.audio_model.audio_encoder(spectrogram).pooler_output
        return features if embedding == "features" else self.network.audio_model.audio_head(features)

    def embed_frames(self, frames: Tensor, embedding: str = "features") -> Tensor:
        """Embed clips (B, T, 3, H, W): (B, D)."""
        check_embedding(self, "image", embedding)
        features = self.network.video_model.video_encoder(frames).pooler_output
        return features if embedding == "features" else self.network.video_model.video_head(features)

    def embed_text(self, texts: list[str], modality: str) -> Tensor:
        """Embed texts to compare them with joint embeddings of "audio" or of "image": (B, D)."""
        tokens = self.processor.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
        said = self.network.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], output_hidden_states=True
        ).hidden_states[-1][:, 0]
        heads = {
            "audio": self.network.audio_model.text_audio_head,
            "image": self.network.video_model.text_video_head,
        }
        return heads[modality](said)

    # -------------------------------------------------------------------------------------------- correspondence

    def represent_audio(self, spectrogram: Tensor) -> Tensor:
        """Return the joint vectors of waveforms: (B, D)."""
        return self.embed_audio(spectrogram, "joint")

    def represent_frames(self, frames: Tensor) -> Tensor:
        """Return the joint vectors of clips: (B, D)."""
        return self.embed_frames(frames, "joint")

    def similarity(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return the logits of correspondence of N clips with M sounds: (N, M)."""
        return self._logits(frames @ audio.T)

    def compare(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Return logits of (no correspondence, correspondence), the first 0, so that softmax is the sigmoid: (B, 2)."""
        logits = self._logits((frames * audio).sum(dim=1))
        return torch.stack([torch.zeros_like(logits), logits], dim=1)

    def _logits(self, products: Tensor) -> Tensor:
        return products * self.network.audio_video_logit_scale + self.network.audio_video_logit_bias


def _clip_length(frames: int | None, fixed: int | None) -> int:
    """Return the number of frames of a clip, from an option and the number that the network is fixed to."""
    if frames is None:
        return fixed or FRAMES
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        raise ValueError(f"frames must be a whole number of at least 1, got {frames!r}")
    if fixed not in (None, frames):
        raise ValueError(f"the network takes {fixed} frames, not {frames}: leave frames out")
    return frames


def _picture_size(video: Any) -> tuple[int, int]:
    """Return the height and width that a video processor brings frames to."""
    size = video.crop_size if video.do_center_crop else video.size
    height, width = (size["height"], size["width"]) if size else (None, None)
    if not video.do_resize or not height or not width:
        raise ValueError(f"PE-AV's video processor must bring frames to a fixed height and width, got {size}")
    return height, width


def _classes() -> tuple[Any, Any]:
    """Return transformers' classes of the network and of its processor; raise ImportError with advice."""
    try:
        _import_torchvision()
        import timm  # noqa: F401
        from transformers import PeAudioVideoModel, PeAudioVideoProcessor
    except ImportError as error:
        raise ImportError(f"{_NEEDED} ({error})") from error
    return PeAudioVideoModel, PeAudioVideoProcessor


def _import_torchvision() -> None:
    """Import torchvision, even if it was built for another PyTorch than the one at hand.

    Its own operators then can't be loaded, and importing it fails at the first that it describes. PE-AV needs none of
    them, only what torchvision does by PyTorch's.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if _OPERATORS[0] not in str(error):
            raise ImportError(f"torchvision can't be imported: {error}") from error
        for operator in _OPERATORS:
            torch.library.define(operator, _SCHEMA)
        import torchvision  # noqa: F401


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from showing progress, and from telling about its own documentation."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
