"""The computation for one file, from its path to arrays: a frozen object that can be pickled.

PyTorch is imported only when a model is needed, since the process that plans the work needn't be the one that does it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..media import image, video
from ..media.audio import SOUND_EXTENSIONS
from .growing import joined

EXTENSIONS = {  # of the files that a folder is searched for
    "audio": SOUND_EXTENSIONS | video.EXTENSIONS,
    "image": image.EXTENSIONS,
    "video": video.EXTENSIONS,
}
UNREAD_VIDEOS = set(
    ".swf .braw .r3d .crm .mlv .insv .lrv .dav .bik .smk .roq .ivf .y4m .yuv .m1v .m2v .mpv .h264 .264 .h265 "
    ".265 .hevc .obu .mjpeg .mjpg .mj2 .dvr-ms".split()
)
UNREAD = {  # endings of media that folders aren't searched for, counted so that none is passed over without a word
    "audio": UNREAD_VIDEOS.union(
        ".mid .midi .kar .mod .xm .s3m .it .sid .m4p .aa .aax .ofr .la .rka .dss .ds2 .vox .pcm .sd2 .ac4 .vqf".split()
    ),
    "image": set(
        ".heic .heif .hif .jxl .jxr .wdp .jls .svg .svgz .ai .eps .emf .wmf .psd .psb .xcf .dng .cr2 .cr3 "
        ".crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .x3f .cur .icns .tga .pcx .sgi "
        ".dds .exr .hdr .pfm .djvu .dcm .fits .xbm .xpm .insp".split()
    ),
    "video": UNREAD_VIDEOS,
}


@dataclass(frozen=True)
class Extraction:
    """Embeds files one by one with the same model and options.

    Parameters
    ----------
    modality : {"audio", "image", "video"}
    model : str, path, AudioVisualModel or None
        As in `get_audio_embedding`; a name or a path is loaded on first use, once per process.
    embedding : {"features", "joint"}
    hop_size, center
        As in `get_audio_embedding`; only for "audio".
    frame_rate : float, optional
        As in `get_video_embedding`; only for "video".
    batch_size : int
    device, dtype : optional
        As in `load_model`.
    """

    modality: str
    model: Any = None
    embedding: str = "features"
    hop_size: float | None = None
    center: bool = True
    frame_rate: float | None = None
    batch_size: int = 32
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.modality not in EXTENSIONS:
            raise ValueError(f"modality must be one of {', '.join(map(repr, EXTENSIONS))}, got {self.modality!r}")
        if not isinstance(self.model, str | os.PathLike | None):  # moved to its device only once, not for each file
            object.__setattr__(self, "model", self.load())

    def __call__(self, path: str | os.PathLike) -> dict[str, np.ndarray]:
        """Embed a file.

        Returns
        -------
        arrays : dict
            `embedding` and `timestamps`; for "video" `audio`, `image` (or `joint`) and `timestamps`.

        Raises
        ------
        FileNotFoundError, OSError
            If the file is missing or can't be decoded.
        """
        arrays = joined(self.blocks(path))
        arrays.pop("loudness", None)
        return arrays

    def blocks(self, path: str | os.PathLike) -> Iterator[dict[str, np.ndarray]]:
        """Embed a file as calling does, in constant memory; yield blocks of the rows of its arrays.

        Joint embeddings of sound come with their `loudness`, in dBFS: a library needs it to leave out windows that are
        too quiet to be searched for.
        """
        from ..inference.embedding import audio_blocks, get_image_embedding, video_blocks

        model, joint = self.load(), self.embedding == "joint"
        shared: dict[str, Any] = {"embedding": self.embedding, "batch_size": self.batch_size}
        if self.modality == "audio":
            shared |= {"hop_size": self.hop_size, "center": self.center}
            yield from audio_blocks(path, model, **shared, measures=joint)
        elif self.modality == "video":
            yield from video_blocks(path, model, frame_rate=self.frame_rate, **shared, measures=joint)
        else:
            yield {"embedding": get_image_embedding(path, model, **shared), "timestamps": np.zeros(1)}

    @property
    def parameters(self) -> dict[str, Any]:
        """Options, the model's own where none is given, that a result depends on besides source and model.

        Another run with the same ones may skip it.
        """
        options: dict[str, Any] = {"modality": self.modality, "embedding": self.embedding}
        if self.modality == "audio":
            hop_size = self.load().sound.hop if self.hop_size is None else self.hop_size
            options |= {"hop_size": hop_size, "center": self.center}
        if self.modality == "video":
            hop = self.load().frames.hop if self.frame_rate is None else None
            options |= {"frame_rate": 1 / hop if hop else self.frame_rate}
        if self.dtype is not None:
            options |= {"dtype": str(self.dtype)}
        return options

    @property
    def extensions(self) -> set[str]:
        """Extensions of the files that a folder is searched for."""
        return EXTENSIONS[self.modality]

    @property
    def unread(self) -> set[str]:
        """Extensions of media of this modality that a folder isn't searched for."""
        return UNREAD[self.modality] - self.extensions

    def load(self) -> Any:
        """Load the model, once per process; raise errors as `load_model` does."""
        from ..inference.arguments import get_model

        return get_model(self.model, self.device, self.dtype)

    def check(self) -> None:
        """Raise ValueError if the model doesn't support the options."""
        from ..inference.arguments import check_embedding, check_hop
        from ..inference.embedding import check_video_embedding

        model = self.load()
        if self.modality == "video":
            check_video_embedding(model, self.embedding)
        else:
            check_embedding(model, self.modality, self.embedding)
        if self.modality == "image" and not model.frames.takes_pictures:
            raise ValueError(f"{model.name} takes clips of {model.frames.count} frames, not pictures: embed videos")
        if self.modality == "audio":
            check_hop(self.hop_size, model.sound)

    def computes_on_cpu(self) -> bool:
        """Whether the model is on the CPU, and not on a GPU that several processes would have to share."""
        return self.load().device.type == "cpu"

    def record(self) -> dict[str, Any]:
        """Return what is stored about the model and the options beside each result."""
        model = self.load()
        about = {"model": model.name, "weights_sha256": model.sha256, "parameters": self.parameters}
        about |= {"model_revision": model.revision} if model.revision else {}
        return about | ({"model_options": model.options} if model.options else {})
