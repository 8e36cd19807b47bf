"""Where in a picture is what sounds? Maps of pictures and of the frames of videos, and pictures that show them.

A map is the model's probability that each place of the picture sounds, from a network with `localize` such as
AVOL-Net. The network sees the whole picture, at the scale it was trained on, whatever its shape.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from .audio import open_audio, resample_blocks
from .correspondence import represent_windows
from .image import read_image, resize, to_images, whole
from .inference import (
    audio_windows,
    check_frame_rate,
    get_model,
    pair_rates,
    prepared_images,
    run_batches,
    video_windows,
    waveform_dtype,
)
from .video import read_frames

DEFAULT_MODEL = "avol-small"
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".npy")  # that `write_picture` takes
_BATCH = 8  # frames that are held at once
_OPACITY = 0.75  # of the colours where the probability is 1
_MARGIN = 32  # grey level of what is beside the picture
_LEAST_ROWS, _MOST_COLUMNS = 480, 1920  # pixels: smaller pictures are shown enlarged, to a width of no more than this
_CLOCK = 90_000  # ticks a second, of the times of frames
_SOUND_RATE = 48_000  # Hz, which AAC takes


# ------------------------------------------------------------------------------------------------------------ maps


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
        In [0, 1], at the picture's own size, enlarged bilinearly from the network's coarser one. The maximum of the
        network's own map is the probability that sound and picture belong together, so it stays dark where they don't.
        (`correspondence_score` may differ a little: it sees the middle of the picture, as in training.)

    Raises
    ------
    ValueError
        If the model can't localise, or there is more than one picture or recording.
    """
    model = localizing_model(model, device)
    picture = _one_picture(image)
    recordings, rates = pair_rates(audio, sr)
    if len(recordings) != 1:
        raise ValueError(f"one recording is localised at a time, got {len(recordings)}: call localize_sound for each")
    windows = audio_windows(recordings[0], rates[0], model, hop_size=model.window_seconds / 2, center=False)
    seen = represent_whole(model, [picture])[0]
    total, count = 0.0, 0
    for _, sound in represent_windows(model, windows):
        total, count = total + heatmaps(model, seen, sound[None])[0], count + 1
    return enlarge(total / count, *picture.shape[:2])


def localize_video(path, model=None, *, audio=None, frame_rate=None, device=None):
    """Map of where the sound comes from in each frame of a video, in constant memory.

    Each frame is worked on by itself, with the window of sound centred on its true time, and nothing is smoothed.

    Parameters
    ----------
    path : str or path
    model : str, path, model or None
        As in `localize_sound`.
    audio : str or path, optional
        Another recording to localise instead of the video's own sound, from the start of the video: the paper's
        mismatched pairs. Where it has ended there is silence, and where the video has ended it is cut off.
    frame_rate : float, optional
        Frames a second to localise; all frames by default.

    Returns
    -------
    iterator of (timestamp, frame, heatmap)
        Presentation time in seconds, the frame, uint8 (H, W, 3), and its map, float32 (H, W) in [0, 1].

    Raises
    ------
    ValueError
        If the model can't localise, or the frame rate makes no sense.
    FileNotFoundError, OSError
        If a file is missing, can't be decoded, or lacks pictures or sound.
    """
    for name, file in {"path": path, "audio": path if audio is None else audio}.items():
        if not isinstance(file, str | os.PathLike):
            raise TypeError(f"{name} must be a str or path, got {type(file).__name__}")
    model = localizing_model(model, device)
    if frame_rate is not None:
        check_frame_rate(frame_rate)
    frames = read_frames(path, frame_rate)
    first = next(frames)  # a file without pictures fails here, not at the first use
    blocks, rate = _open_sound(path, audio, waveform_dtype(model))
    windows_of = functools.partial(video_windows, blocks, rate, audio or path, model=model)
    return _maps(model, itertools.chain([first], frames), windows_of)


def _open_sound(path, audio, dtype: str = "float32") -> tuple[Iterator[np.ndarray], int]:
    """Blocks and rate of the sound to localise; whoever has a video without is told of `audio`."""
    if audio is not None:
        return open_audio(audio, dtype)
    try:
        return open_audio(path, dtype)
    except OSError as error:
        raise OSError(f"{error}; give another to localise: audio=, on the command line --mismatch") from error


def _maps(model, frames: Iterator[tuple[float, np.ndarray]], windows_of):
    """(time, frame, map) of (time, frame) pairs; `windows_of` gives the windows of sound around some times."""
    frames, ahead = itertools.tee(frames)  # the sound is one batch ahead
    sounds = represent_windows(model, windows_of(time for time, _ in ahead), _BATCH)
    for (time, frame), (_, sound) in zip(frames, sounds, strict=True):
        seen = represent_whole(model, [to_images(frame)[0]])[0]
        yield time, frame, enlarge(heatmaps(model, seen, sound[None])[0], *frame.shape[:2])


def localizing_model(model=None, device=None):
    """The model an argument stands for; ValueError if it can't localise."""
    model = get_model(DEFAULT_MODEL if model is None else model, device)
    if not hasattr(model, "localize"):
        raise ValueError(
            f"{model.name} can't localise sound in pictures; {DEFAULT_MODEL} can, which ships with openavc"
        )
    return model


def represent_whole(model, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
    """What `heatmaps` takes of whole pictures of one shape (H, W, 3), float32 in [0, 1]: (D, h, w) each."""
    prepared = (whole(picture, model.image_size, model.map_stride) for picture in pictures)
    network = run_batches(
        enumerate(prepared), 16, model, lambda batch: model.represent_image(prepared_images(model, batch))
    )
    return [seen for _, seen in network]


def heatmaps(model, seen: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """Probability that each place of one picture, (D, h, w), sounds, for each of the sounds (N, D): (N, h, w)."""
    import torch

    return torch.from_numpy(map_logits(model, seen, sounds)).sigmoid().numpy()


def map_logits(model, seen: np.ndarray, sounds: np.ndarray) -> np.ndarray:
    """`heatmaps` before the sigmoid."""
    import torch

    parameter = next(model.parameters())
    image, audio = (torch.from_numpy(array).to(parameter) for array in (seen, sounds))
    with torch.inference_mode():
        return model.localize(image.expand(len(audio), *image.shape), audio).float().cpu().numpy()


def enlarge(heatmap: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map (h, w) at a picture's size (H, W), bilinearly: values of places stand at their middles.

    Where the picture has fewer pixels than the map places, each gets the mean of those in it.
    """
    return resize(heatmap, height, width).clip(0, 1)  # which rounding can leave


def _one_picture(image) -> np.ndarray:
    """(H, W, 3), float32 in [0, 1]."""
    items = image if isinstance(image, list) else [image]
    pictures = [
        picture
        for item in items
        for picture in ([read_image(item)] if isinstance(item, str | os.PathLike) else to_images(item))
    ]
    if len(pictures) != 1:
        raise ValueError(f"one picture is localised at a time, got {len(pictures)}: call localize_sound for each")
    return pictures[0]


# -------------------------------------------------------------------------------------------------------- overlays


def overlay(picture, heatmap) -> np.ndarray:
    """A picture with a map drawn over it, and a colour bar beside it.

    The colours' scale is the probability itself, from 0 to 1, never stretched to what a map happens to hold: a sound
    that doesn't belong to the picture leaves it dark, that is, as it is. The colours grow opaque with the probability,
    and where that is 0 there are none.

    Parameters
    ----------
    picture : array or tensor (H, W, 3), or path
    heatmap : ndarray, shape (h, w)
        In [0, 1]; of the picture's size, or of any other, to which it is enlarged.

    Returns
    -------
    drawn : ndarray, shape (rows, columns, 3), uint8 RGB
        The picture stands in the top left corner: at its own size, or enlarged if it has less than 480 rows, by one
        factor for both sides. Rows and columns are even, as H.264 wants them.

    Raises
    ------
    ValueError
        If the map isn't one of probabilities.
    """
    picture, heatmap = _one_picture(picture), np.asarray(heatmap, dtype=np.float32)
    if heatmap.ndim != 2 or not heatmap.size:
        raise ValueError(f"a map must have shape (height, width), got {heatmap.shape}")
    if not (heatmap.min() >= 0 and heatmap.max() <= 1):  # also catches NaN
        raise ValueError(f"a map must lie in [0, 1], got values from {heatmap.min():g} to {heatmap.max():g}")
    height, width = _shown_size(*picture.shape[:2])
    bar = _colour_bar(max(_even(height), _LEAST_ROWS // 2))  # as high as its numbers need
    drawn = np.full((len(bar), _even(width) + bar.shape[1], 3), _MARGIN, dtype=np.uint8)
    drawn[:height, :width] = _tint(resize(picture, height, width), enlarge(heatmap, height, width))
    drawn[:, _even(width) :] = bar
    return drawn


def _shown_size(height: int, width: int) -> tuple[int, int]:
    scale = max(1, min(_LEAST_ROWS / height, _MOST_COLUMNS / width))
    return round(height * scale), round(width * scale)


def _even(number: int) -> int:
    return number + number % 2


def _tint(picture: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a picture in [0, 1] under the colours of a map of its size."""
    import cv2

    colours = cv2.applyColorMap(np.rint(heatmap * 255).astype(np.uint8), cv2.COLORMAP_PLASMA)[..., ::-1]
    opacity = _OPACITY * heatmap[..., None]
    return np.rint((1 - opacity) * 255 * picture + opacity * colours).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def _colour_bar(rows: int) -> np.ndarray:
    """The colours of 0 (below) to 1 (above), over the margin's grey, with numbers: (rows, columns, 3) uint8."""
    import cv2

    unit = max(1.0, rows / _LEAST_ROWS)
    left, thick, top = (round(length * unit) for length in (12, 20, 16))  # pixels
    bar = np.full((rows, _even(round(80 * unit)), 3), _MARGIN, dtype=np.uint8)
    ramp = np.linspace(1, 0, rows - 2 * top, dtype=np.float32)[:, None].repeat(thick, axis=1)
    bar[top : rows - top, left : left + thick] = _tint(np.full((*ramp.shape, 3), _MARGIN / 255, np.float32), ramp)
    for value in (0, 0.25, 0.5, 0.75, 1):
        line = round(top + (1 - value) * (rows - 2 * top - 1))
        ends = (left + thick, line), (left + thick + round(4 * unit), line)
        cv2.line(bar, *ends, (255, 255, 255), round(unit))
        place = (ends[1][0] + round(4 * unit), line + round(5 * unit))
        cv2.putText(
            bar, f"{value:g}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.45 * unit, (255,) * 3, round(unit), cv2.LINE_AA
        )
    bar.flags.writeable = False  # it is shared by all calls
    return bar


# ----------------------------------------------------------------------------------------------------------- files


def write_picture(target, picture, heatmap, ending: str) -> None:
    """Write the overlay as the kind of picture that `ending` names, or, for .npy, the map itself, float32 (H, W)."""
    import cv2

    if ending == ".npy":
        with open(target, "wb") as file:
            np.save(file, heatmap)
        return
    drawn = overlay(picture, heatmap)
    done, encoded = cv2.imencode(ending, drawn[..., ::-1])
    if not done:
        rows, columns = drawn.shape[:2]
        raise ValueError(f"{columns} x {rows} pixels are too many for {ending}: choose .png, or .npy for the bare map")
    encoded.tofile(target)


def write_video(target, maps: Iterable[tuple], path, audio=None) -> list[tuple[float, float]]:
    """Write a video of overlays, with the sound that was localised.

    Frames keep their true times, and the sound, in mono as the model hears it, stays in step with them.

    Parameters
    ----------
    target : str or path
        An MP4 file, H.264 and AAC, whatever its name.
    maps : iterable of (timestamp, frame, heatmap)
        What `localize_video` gives for `path` and `audio`.
    path, audio : str or path
        As in `localize_video`. The video's own sound is written to its end.

    Returns
    -------
    peaks : list of (float, float)
        Time of each frame and the maximum of its map.
    """
    import av

    peaks = []

    def drawn():
        for time, frame, heatmap in maps:
            peaks.append((time, float(heatmap.max())))
            yield time, overlay(frame, heatmap)

    blocks, rate = _open_sound(path, audio)
    with av.open(f"file:{target}", "w", format="mp4") as file:
        _write_streams(file, drawn(), _sound_frames(resample_blocks(blocks, rate, _SOUND_RATE)), cut=audio is not None)
    return peaks


def _write_streams(file, pictures: Iterator[tuple], sounds: Iterator, cut: bool) -> None:
    """Pictures and the sound of the same times after one another; it ends with them if it is to be `cut`."""
    first = next(pictures)
    video = _video_stream(file, *first[1].shape[:2])
    audio = file.add_stream("aac", rate=_SOUND_RATE, layout="mono")
    sound, ticks, before, end = next(sounds, None), -1, 0.0, 0.0
    for time, picture in itertools.chain([first], pictures):
        while sound is not None and sound.time <= time:
            file.mux(audio.encode(sound))
            sound = next(sounds, None)
        ticks = max(ticks + 1, round(time * _CLOCK))  # a damaged file's frames may share one time
        file.mux(video.encode(_video_frame(picture, ticks, video)))
        before, end = time, 2 * time - before if time > before else time + 1  # lasts as long as the one before
    while sound is not None and not (cut and sound.time >= end):
        file.mux(audio.encode(sound))
        sound = next(sounds, None)
    file.mux([*video.encode(), *audio.encode()])


def _video_stream(file, height: int, width: int):
    # without B-frames, whose delay would make the duration of frames that come at uneven times wrong
    options = {"preset": "veryfast", "crf": "18", "bf": "0"}
    stream = file.add_stream("h264", rate=25, height=height, width=width, pix_fmt="yuv420p", options=options)
    context = stream.codec_context
    context.time_base = Fraction(1, _CLOCK)
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
    context.color_range = 1  # 16 to 235
    return stream


def _video_frame(picture: np.ndarray, ticks: int, stream):
    """Of the stream's size, should the video change its own on the way."""
    import av

    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    frame = frame.reformat(width=stream.width, height=stream.height, format="yuv420p", dst_colorspace="ITU709")
    frame.pts, frame.time_base = ticks, Fraction(1, _CLOCK)
    return frame


def _sound_frames(blocks: Iterator[np.ndarray]) -> Iterator:
    """Blocks of any length at `_SOUND_RATE` as frames of a tenth of a second."""
    import av

    position, length = 0, _SOUND_RATE // 10
    for block in blocks:
        for start in range(0, len(block), length):
            samples = block[None, start : start + length].astype(np.float32)  # (1, n)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = _SOUND_RATE, position, Fraction(1, _SOUND_RATE)
            position += samples.shape[1]
            yield frame
