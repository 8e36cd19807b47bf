"""Export to ONNX: a model's tower and what comes before it, the spectrogram included, as a file for onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..atomic import write_bytes
from ..inference.arguments import get_model
from ..models.contract import AudioVisualModel, EmbedsAudio, EmbedsFrames, check_embedding, unchanged

_LEAST_TORCH = (2, 8)  # whose exporter takes these arguments and knows these operators


class _Tower(nn.Module):
    """A model from what it is given, samples or frames, to embeddings (B, D)."""

    def __init__(self, model: AudioVisualModel, prepare: Callable, embed: Callable, embedding: str):
        super().__init__()
        self.model = model  # whose weights these are
        self.prepare, self.embed, self.embedding = prepare, embed, embedding

    def forward(self, given: Tensor) -> Tensor:
        return self.embed(self.prepare(given), self.embedding)


def export_onnx(
    output: str | os.PathLike, model: Any = None, *, embedding: str = "features"
) -> dict[str, tuple[Path, dict[str, str]]]:
    """Write a model as ONNX files, one for each modality that it embeds by itself.

    `NAME-audio.onnx` takes `samples` (B, n, channels), float32, a window each, at the rate that its metadata says;
    `NAME-image.onnx` takes `frames` (B, T, H, W, 3), uint8, of the size that it says. Both give `embedding` (B, D),
    float32, for any B. To decode, resample, crop and cut windows is left to the caller.

    Parameters
    ----------
    output : str or Path
        Folder of the files; it is created, and files of these names are replaced.
    model : optional
        As in `openavc.get_audio_embedding`.
    embedding : str
        "features" or "joint".

    Returns
    -------
    files : dict
        Modality -> path, and the metadata of the file.

    Raises
    ------
    ValueError
        If the model embeds neither sound nor pictures by themselves, lacks the embedding, or computes optical flow.
    ImportError
        If PyTorch is older than 2.8, or what exports is missing.
    OSError
        If a file can't be written.
    """
    _check_exporter()
    network = get_model(model, "cpu")
    written = {}
    for modality, part, example in _parts(network, embedding):
        about = _about(network, modality, embedding)
        path = Path(output, f"{network.name}-{modality}.onnx")
        write_bytes(path, _converted(part, *example, about))
        written[modality] = path, about
    return written


def _check_exporter() -> None:
    """Raise ImportError unless models can be exported here."""
    found = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if found < _LEAST_TORCH:
        raise ImportError(f"export to ONNX needs PyTorch 2.8 or newer, this is {torch.__version__}")
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ImportError('export to ONNX needs onnxscript: pip install "openavc[onnx]"') from None


def _parts(model: AudioVisualModel, embedding: str) -> Iterator[tuple[str, nn.Module, tuple[str, Tensor]]]:
    """Yield modality, network, and the name and an example of its input."""
    alone = [name for name in ("audio", "image") if name in model.embedding_sizes]
    if not alone:
        raise ValueError(f"{model.name} embeds neither sound nor pictures by themselves, and can't be exported")
    for modality in alone:
        check_embedding(model, modality, embedding)
    if "audio" in alone and isinstance(model, EmbedsAudio):
        samples = torch.zeros(2, model.sound.samples, model.sound.channels)
        yield "audio", _Tower(model, model.prepare_audio, model.embed_audio, embedding), ("samples", samples)
    if "image" in alone and isinstance(model, EmbedsFrames):
        if model.precompute_frames is not unchanged:
            raise ValueError(f"{model.name} computes the optical flow of its frames, which ONNX can't")
        wanted = model.frames
        frames = torch.zeros(2, wanted.count, wanted.height, wanted.width, 3, dtype=torch.uint8)
        yield "image", _Tower(model, model.prepare_frames, model.embed_frames, embedding), ("frames", frames)


def _about(model: AudioVisualModel, modality: str, embedding: str) -> dict[str, str]:
    """Describe a file: model, weights, and the input that it takes."""
    about = {"model": model.name, "weights_sha256": model.sha256, "embedding": embedding}
    if modality == "audio" and model.sound:
        about |= {"sample_rate": str(model.sound.sample_rate), "seconds": str(model.sound.seconds)}
    elif model.frames:
        about |= {"height": str(model.frames.height), "width": str(model.frames.width)}
        about |= {"frame_rate": str(model.frames.rate)} if model.frames.rate else {}
    return about


def _converted(network: nn.Module, name: str, example: Tensor, about: dict[str, str]) -> bytes:
    """Convert a network to the bytes of an ONNX file."""
    batch = torch.export.Dim("batch", min=1)
    with _silenced():
        program: Any = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=[name],
            output_names=["embedding"],
            verbose=False,
        )
    program.model.metadata_props.update(about)
    return program.model_proto.SerializeToString()


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep the exporter's own chatter from the user."""
    exporting = logging.getLogger("torch.onnx")
    before = exporting.level
    exporting.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporting.setLevel(before)
