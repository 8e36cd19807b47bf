"""Weights files in Keras' layouts, as OpenL3 published them: with any arrays, or with zeros that take no space."""

import gzip
from pathlib import Path

import h5py

AUDIO, IMAGE = "openl3_audio_mel256_music-v0_4_0.h5", "openl3_image_mel256_music-v0_4_0.h5"
SPECTROGRAMS = {  # shapes of the arrays of a spectrogram as a layer
    "linear": [(512, 1, 1, 257)] * 2,
    "mel128": [(2048, 1, 1, 1025)] * 2 + [(1025, 128)],
    "mel256": [(2048, 1, 1, 1025)] * 2 + [(1025, 256)],
}
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def openl3_shapes(channels: int) -> list[tuple[str, list[tuple]]]:
    """Return (name, shapes) of OpenL3's layers, by hand; the numbers in names pass from 9 to 10."""
    shapes, inside, norm, conv = [("batch_normalization_8", [(channels,)] * 4)], channels, 9, 4
    for width in (64, 128, 256, 512):
        for _ in range(2):
            shapes.append((f"conv2d_{conv}", [(3, 3, inside, width), (width,)]))
            shapes.append((f"batch_normalization_{norm}", [(width,)] * 4))
            inside, norm, conv = width, norm + 1, conv + 1
    shapes.pop()
    return [*shapes[:-1], ("audio_embedding_layer" if channels == 1 else "vision_embedding_layer", shapes[-1][1])]


def write_h5(path: Path, layers: list[tuple[str, list]], nested: bool = False, dtype: str = "f4") -> Path:
    """Write layers of arrays, or of shapes for zeros, with some layers without weights in between."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if nested else file
        if nested:
            file.create_group("top_level_model_weights")
        names = ["input_1"]
        group.create_group("input_1").attrs["weight_names"] = []
        for number, (name, arrays) in enumerate(layers):
            kinds = BATCH_NORM if len(arrays) == 4 else ("kernel", "bias") if len(arrays) == 2 else "rif"
            weight_names = [f"{name}/{kind}:0" for kind in kinds[: len(arrays)]]
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [weight.encode() for weight in weight_names]
            for weight, array in zip(weight_names, arrays, strict=True):
                options = {"shape": array, "dtype": dtype} if isinstance(array, tuple) else {"data": array}
                layer.create_dataset(weight, **options)
            group.create_group(f"activation_{number}").attrs["weight_names"] = []
            names += [name, f"activation_{number}"]
        group.attrs["layer_names"] = names if nested else [name.encode() for name in names]
    return path


def write_zeros(path: Path, channels: int = 1, **options) -> Path:
    """Write OpenL3's tower of sound (1 channel) or of pictures (3), all zeros."""
    return write_h5(path, openl3_shapes(channels), **options)


def packed(path: Path) -> Path:
    """Write a copy of a file, packed by gzip, beside it."""
    target = path.with_name(f"{path.name}.gz")
    target.write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
    return target
