"""Shards: stored clips in WebDataset tars, and random access to their frames and their sound.

Times are in seconds from a clip's first sample.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openavc.media.audio import to_channels
from openavc.media.clips import SLOWEST, FramesInput, cut, frames_around, window_around
from openavc.media.image import fit
from openavc.media.resample import resample
from openavc.media.video import ROUNDING

from .tars import Members, read_tar, warn_of_gaps


def wav_header(sample_rate: int, channels: int, samples: int) -> bytes:
    """Return what stands before the samples of a WAV file of 16 bits that holds nothing else."""
    width, size = 2 * channels, 2 * channels * samples
    form = (1, channels, sample_rate, sample_rate * width, width, 16)  # PCM
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, *form, b"data", size)


@dataclass(frozen=True)
class StoredClip:
    """A stored clip: the position of its parts in a shard, the times of its frames, and what is known about it."""

    key: str
    shard: int
    members: Members
    sample_rate: int  # Hz
    samples: int
    frame_times: np.ndarray  # seconds
    frame_offsets: np.ndarray  # bytes, one more than there are frames
    level: str  # of the game
    source: str  # the video that it was cut from
    labels: tuple[str, ...] = ()  # contents, according to a list or the renderer
    group: int | None = None  # of clips that differ only in the source of sound, see `training.simulate`
    channels: int = 1
    masks: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (frames,) bool, whether a frame may be used

    @property
    def sound(self) -> tuple[int, int]:
        """Offset and size of the sound in the tar, in bytes."""
        return self.members["wav"] if "wav" in self.members else self.members["flac"]

    @property
    def seconds(self) -> float:
        """Length of the sound, in seconds."""
        return self.samples / self.sample_rate

    @property
    def place(self) -> str:
        """Where its pictures are from, which makes them alike: the level of a game, or else the video."""
        return self.level or self.source


def encode_clip(
    key: str,
    samples: np.ndarray,
    sample_rate: int,
    frames: list[bytes],
    frame_times: list[float],
    about: dict,
    sound_format: str = "wav",
) -> dict:
    """Encode a clip as a WebDataset sample, which `Shards` reads.

    Parameters
    ----------
    key : str
        Unique in the corpus, without dots.
    samples : ndarray, shape (n,) or (n, channels)
        In [-1, 1]; kept in 16 bits.
    sample_rate : int
        Sample rate of `samples`, in Hz.
    frames : list of bytes
        JPEG files.
    frame_times : list of float
        Seconds from the first sample, one for each frame.
    about : dict
        Everything else that is known: level, labels, boxes, masks, source.
    sound_format : {"wav", "flac"}
        flac is half the size, but reading a window of it takes longer.

    Returns
    -------
    sample : dict
        `__key__`, the sound, `mjpeg` (the frames one after the other) and `json`.
    """
    import soundfile

    sound = io.BytesIO()
    soundfile.write(sound, samples, sample_rate, format=sound_format.upper(), subtype="PCM_16")
    about = about | {
        "sample_rate": sample_rate,
        "samples": len(samples),
        "channels": 1 if samples.ndim == 1 else samples.shape[1],
        "frame_times": frame_times,
        "frame_offsets": np.cumsum([0] + [len(frame) for frame in frames]).tolist(),
    }
    described = json.dumps(about, separators=(",", ":")).encode()
    return {"__key__": key, sound_format: sound.getvalue(), "mjpeg": b"".join(frames), "json": described}


class _Member(io.FileIO):
    """A member of a tar, read as a file."""

    def __init__(self, path: Path, extent: tuple[int, int]):
        super().__init__(path)
        self.first, self.size = extent
        super().seek(self.first)

    def tell(self) -> int:
        return super().tell() - self.first

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}[whence]
        return super().seek(self.first + start + offset) - self.first

    def readinto(self, buffer) -> int:
        return super().readinto(memoryview(buffer)[: max(0, self.size - self.tell())])


class Shards:
    """Random access to the clips in folders of WebDataset tars; warns of shards that are missing.

    Parameters
    ----------
    *folders : path
        Folders of `*.tar`, whose clips have `wav` or `flac`, `mjpeg` (JPEG files one after the other) and `json`.

    Raises
    ------
    FileNotFoundError
        If there is no tar in one of the folders.
    OSError
        If a shard isn't whole.
    """

    def __init__(self, *folders: str | Path):
        self.paths: list[Path] = []
        self.clips: list[StoredClip] = []
        for folder in folders:
            tars = sorted(Path(folder).glob("*.tar"))
            if not tars:
                raise FileNotFoundError(f"there are no shards (*.tar) in {folder}; make some with training.simulate")
            warn_of_gaps(Path(folder), tars, [self._add(path) for path in tars])
        self.classes = sorted({label for clip in self.clips for label in clip.labels[:1]})

    def _add(self, path: Path) -> int | None:
        """Add the clips of a shard, and return of how many shards it says that it is one."""
        clips, shards = read_tar(path)
        self.paths.append(path)
        self.clips += [self._clip(key, len(self.paths) - 1, members) for key, members in clips.items()]
        return shards

    def _clip(self, key: str, shard: int, members: Members) -> StoredClip:
        try:
            about = json.loads(self._bytes(shard, members["json"]))
            clip = StoredClip(
                key,
                shard,
                members,
                about["sample_rate"],
                about["samples"],
                np.array(about["frame_times"]),
                np.array(about["frame_offsets"]),
                about.get("level", ""),
                about.get("source", key),
                tuple(about.get("labels", ())),
                about.get("group"),
                about.get("channels", 1),
                {name: np.array(kept, dtype=bool) for name, kept in about.get("masks", {}).items()},
            )
            complete = clip.frame_offsets[-1] == members["mjpeg"][1]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise self._damage(shard, f"the description of its clip {key} can't be read") from error
        if not complete:
            raise self._damage(shard, f"the frames of its clip {key} aren't all there")
        return clip

    def _damage(self, shard: int, what: str) -> OSError:
        return OSError(f"{self.paths[shard]} is damaged: {what}")

    def describe(self) -> list[list]:
        """List the shards with their sizes in bytes: [name, size] of each."""
        return [[path.name, path.stat().st_size] for path in self.paths]

    def about(self, clip: StoredClip) -> dict:
        """Read everything that is known about a clip, as `encode_clip` was given it and more."""
        return json.loads(self._bytes(clip.shard, clip.members["json"]))

    def objects(self, clip: StoredClip) -> list[list[list]]:
        """Read the boxes of the objects in each frame of a rendered clip.

        Returns
        -------
        objects : list of list
            For each frame, [name, category, x, y, width, height] of each object, as fractions of the picture.

        Raises
        ------
        ValueError
            If the clip has no boxes, which only `training.simulate` writes.
        """
        about = self.about(clip)
        if "objects" not in about:
            raise ValueError(f"{self.paths[clip.shard]}: {clip.key} has no boxes of objects, as rendered episodes do")
        return about["objects"]

    def _open(self, shard: int, extent: tuple[int, int]) -> io.BufferedReader:
        """Open a member, anew each time, as a corpus may have more shards than a process may hold open."""
        return io.BufferedReader(_Member(self.paths[shard], extent))

    def _bytes(self, shard: int, extent: tuple[int, int]) -> bytes:
        with self._open(shard, extent) as file:
            return file.read(extent[1])

    def frame(self, clip: StoredClip, index: int) -> np.ndarray:
        """Decode one frame as (H, W, 3) float32 RGB in [0, 1]."""
        return self.frames(clip, [index])[0]

    def frames(self, clip: StoredClip, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decode frames of a clip; all bytes from the first to the last of them are read at once.

        Parameters
        ----------
        clip : StoredClip
        indices : sequence of int
            Repeated indices are decoded once.

        Returns
        -------
        frames : ndarray, shape (T, H, W, 3), float32 RGB in [0, 1]
        """
        import cv2

        indices = np.asarray(indices)
        first, last = int(indices.min()), int(indices.max())
        offsets = clip.frame_offsets[first : last + 2] - clip.frame_offsets[first]
        start = clip.members["mjpeg"][0] + int(clip.frame_offsets[first])
        encoded = np.frombuffer(self._bytes(clip.shard, (start, int(offsets[-1]))), np.uint8)
        decoded = {
            index: cv2.imdecode(encoded[offsets[index - first] : offsets[index - first + 1]], cv2.IMREAD_COLOR)
            for index in map(int, np.unique(indices))
        }
        for index, picture in decoded.items():
            if picture is None:
                raise self._damage(clip.shard, f"frame {index} of its clip {clip.key} can't be decoded")
        return np.stack([decoded[int(index)][..., ::-1].astype(np.float32) / 255 for index in indices])

    def sound(self, clip: StoredClip, time: float, seconds: float, sample_rate: int, channels: int = 1) -> np.ndarray:
        """Read the sound around a time, with zeros beyond the clip.

        Parameters
        ----------
        clip : StoredClip
        time : float
            Middle, in seconds.
        seconds : float
            Length, in seconds.
        sample_rate : int
            Rate to resample to, in Hz.
        channels : int
            Number of channels to mix to, as `openavc.media.audio.to_channels` does.

        Returns
        -------
        samples : ndarray, shape (seconds * sample_rate, channels), float32
        """
        start, end = window_around(time, seconds, clip.sample_rate)
        first, last = max(0, start), min(clip.samples, end)
        recorded = np.zeros((0, clip.channels), dtype=np.float32)
        if last > first:
            recorded = self._recorded(clip, first, last)
        window = to_channels(cut(recorded, start - first, end - first), channels)
        if clip.sample_rate == sample_rate:
            return window
        return resample(window, clip.sample_rate, sample_rate)[: round(seconds * sample_rate)]

    def _recorded(self, clip: StoredClip, first: int, last: int) -> np.ndarray:
        """Read samples `first` to `last` of a clip's sound: (n, channels) float32."""
        import soundfile

        header = wav_header(clip.sample_rate, clip.channels, clip.samples)
        width = 2 * clip.channels  # bytes of a time
        with self._open(clip.shard, clip.sound) as member:
            if member.read(len(header)) == header:  # as `encode_clip` writes it, which libsndfile reads more slowly
                member.seek(len(header) + first * width)
                samples = np.frombuffer(member.read((last - first) * width), "<i2")
                return samples.reshape(-1, clip.channels).astype(np.float32) / 32768
            member.seek(0)
            try:
                with soundfile.SoundFile(member) as file:
                    file.seek(first)
                    return file.read(last - first, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise self._damage(clip.shard, f"the sound of its clip {clip.key} can't be decoded") from error

    def frames_at(self, clip: StoredClip, index: int, frames: FramesInput) -> np.ndarray:
        """Decode the clip of frames that a network takes, around a frame: (T, height, width, 3) float32."""
        seen = self.frames(clip, clip_frames(clip, index, frames))
        return np.stack([fit(frame, frames.height, frames.width) for frame in seen])


def clip_frames(clip: StoredClip, index: int, frames: FramesInput) -> np.ndarray:
    """Return the indices of the frames of the network's clip around a frame: (count,) int."""
    if frames.count == 1:
        return np.array([index])
    return frames_around(clip.frame_times, float(clip.frame_times[index]), frames.count, frames.rate)


def clip_middles(clip: StoredClip, frames: FramesInput) -> np.ndarray:
    """Select the frames that can be the middle of a network's clip inside the stored one: (frames,) bool."""
    times = clip.frame_times
    if frames.count == 1:
        return np.ones(len(times), dtype=bool)
    if too_slow(clip, frames):
        return np.zeros(len(times), dtype=bool)
    return (times - frames.before >= times[0] - ROUNDING) & (times + frames.after <= times[-1] + ROUNDING)


def frames_with_room(clip: StoredClip, seconds: float, *frames: FramesInput) -> np.ndarray:
    """Select the frames around which that much sound, and clips of such frames, lie inside the clip: (frames,) bool."""
    times = clip.frame_times
    inside = (times >= seconds / 2) & (times <= clip.seconds - seconds / 2)
    return np.logical_and.reduce([inside, *(clip_middles(clip, each) for each in frames)])


def too_slow(clip: StoredClip, frames: FramesInput) -> bool:
    """Whether the frames of a stored clip are too far apart for a network that sees several at its own rate."""
    if frames.count == 1:
        return False
    intervals = np.diff(clip.frame_times)
    return len(intervals) == 0 or float(np.median(intervals)) > SLOWEST / frames.rate + ROUNDING
