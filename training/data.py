"""Shards of clips to batches of pairs: sampling, negatives and augmentation.

Everything is a function of (seed, position): the n-th pair of a run is the same whatever the number of workers,
and after a restart. Pairs carry a label, 1 if picture and sound belong together.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from openavc.audio import resample
from openavc.image import fit, height_and_width, shrink_to
from openavc.motion import frames_of, joining

from .scenes import projectile_areas


@dataclass(frozen=True)
class Clip:
    """Where one clip's parts lie in its shard, and when its frames were seen."""

    key: str
    shard: int
    members: dict[str, tuple[int, int]]  # extension -> offset and size in the tar, bytes
    sample_rate: int
    samples: int
    frame_times: np.ndarray  # seconds
    frame_offsets: np.ndarray  # bytes, one more than frames
    level: str
    source: str  # the video it was cut from
    labels: tuple[str, ...] = ()  # what a list or the renderer says is in it
    group: int | None = None  # clips that differ in what sounds alone, see `simulate`
    projectiles: np.ndarray | None = None  # (frames,) share of the picture that the largest takes up

    @property
    def sound(self) -> tuple[int, int]:
        """Offset and size of the sound."""
        return self.members["wav"] if "wav" in self.members else self.members["flac"]

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate


def encode_clip(
    key: str,
    waveform: np.ndarray,
    sample_rate: int,
    frames: list[bytes],
    frame_times: list[float],
    about: dict,
    sound_format: str = "wav",
) -> dict:
    """A clip as a WebDataset sample, which `Shards` reads.

    Parameters
    ----------
    key : str
        Unique in the corpus, without dots.
    waveform : ndarray, shape (n_samples,)
        Mono, in [-1, 1]; kept in 16 bits.
    frames : list of bytes
        JPEG files.
    frame_times : list of float
        Seconds from the first sample, one for each frame.
    about : dict
        Whatever else is known: level, labels, boxes, source.
    sound_format : {"wav", "flac"}
        flac is half the size, but a window of it takes longer to read.
    """
    import soundfile

    sound = io.BytesIO()
    soundfile.write(sound, waveform, sample_rate, format=sound_format.upper(), subtype="PCM_16")
    about = about | {
        "sample_rate": sample_rate,
        "samples": len(waveform),
        "frame_times": frame_times,
        "frame_offsets": np.cumsum([0] + [len(frame) for frame in frames]).tolist(),
    }
    described = json.dumps(about, separators=(",", ":")).encode()
    return {"__key__": key, sound_format: sound.getvalue(), "mjpeg": b"".join(frames), "json": described}


class _Member(io.FileIO):
    """A member of a tar as a file."""

    def __init__(self, path: Path, place: tuple[int, int]):
        super().__init__(path)
        self.first, self.size = place
        super().seek(self.first)

    def tell(self) -> int:
        return super().tell() - self.first

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}[whence]
        return super().seek(self.first + start + offset) - self.first

    def readinto(self, buffer) -> int:
        return super().readinto(memoryview(buffer)[: max(0, self.size - self.tell())])


class Shards:
    """Random access to the clips in folders of WebDataset tars.

    Parameters
    ----------
    *folders : path
        Hold `*.tar`, whose clips have members `wav` or `flac`, `mjpeg` (JPEG files one after the other) and `json`.

    Raises
    ------
    FileNotFoundError
        If there is no tar in one of them.
    """

    def __init__(self, *folders: str | Path):
        self.paths = []
        for folder in folders:
            found = sorted(Path(folder).glob("*.tar"))
            if not found:
                raise FileNotFoundError(f"there are no shards (*.tar) in {folder}; make some with training.simulate")
            self.paths += found
        self.clips = [clip for number, path in enumerate(self.paths) for clip in self._index(number, path)]
        self.classes = sorted({label for clip in self.clips for label in clip.labels[:1]})

    def _index(self, number: int, path: Path) -> list[Clip]:
        members: dict[str, dict[str, tuple[int, int]]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                members.setdefault(key, {})[extension] = (member.offset_data, member.size)
        return [self._clip(key, number, parts) for key, parts in members.items()]

    def _clip(self, key: str, shard: int, parts: dict) -> Clip:
        about = json.loads(self._bytes(shard, parts["json"]))
        times, offsets = np.array(about["frame_times"]), np.array(about["frame_offsets"])
        return Clip(
            key,
            shard,
            parts,
            about["sample_rate"],
            about["samples"],
            times,
            offsets,
            about.get("level", ""),
            about.get("source", key),
            tuple(about.get("labels", ())),
            about.get("group"),
            projectile_areas(about["objects"]) if "objects" in about else None,
        )

    def objects(self, clip: Clip) -> list[list[list]]:
        """[name, category, x, y, width, height] of each object in each frame, as fractions of the picture.

        ValueError if nobody knows them: they come from `simulate`.
        """
        about = json.loads(self._bytes(clip.shard, clip.members["json"]))
        if "objects" not in about:
            raise ValueError(f"{self.paths[clip.shard]}: {clip.key} has no boxes of objects, as rendered episodes do")
        return about["objects"]

    def _open(self, shard: int, place: tuple[int, int]) -> io.BufferedReader:
        """A member as a file. Opened anew each time: a corpus may have more shards than a process may hold open."""
        return io.BufferedReader(_Member(self.paths[shard], place))

    def _bytes(self, shard: int, place: tuple[int, int]) -> bytes:
        with self._open(shard, place) as file:
            return file.read(place[1])

    def frame(self, clip: Clip, index: int) -> np.ndarray:
        """Frame `index` as (H, W, 3) float32 RGB in [0, 1]."""
        (frame,) = self.run(clip, index, 1)
        return frame

    def run(self, clip: Clip, index: int, length: int) -> list[np.ndarray]:
        """An odd number of consecutive frames, with `index` in the middle, each as `frame` gives it."""
        import cv2

        offsets = clip.frame_offsets[index - length // 2 : index + length // 2 + 2]
        place = clip.members["mjpeg"][0] + int(offsets[0]), int(offsets[-1] - offsets[0])
        encoded = np.split(np.frombuffer(self._bytes(clip.shard, place), np.uint8), (offsets - offsets[0])[1:-1])
        return [cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255 for jpeg in encoded]

    def waveform(self, clip: Clip, middle: float, seconds: float, sample_rate: int) -> np.ndarray:
        """`seconds` of sound around the time `middle`, zeros beyond the clip: (seconds * sample_rate,) float32."""
        import soundfile

        samples = round(seconds * clip.sample_rate)
        start = round(middle * clip.sample_rate) - samples // 2
        first, last = max(0, start), min(clip.samples, start + samples)
        found = np.zeros(samples, dtype=np.float32)
        if last > first:
            with self._open(clip.shard, clip.sound) as member, soundfile.SoundFile(member) as file:
                file.seek(first)
                found[first - start : last - start] = file.read(last - first, dtype="float32")
        wanted = round(seconds * sample_rate)
        return found if clip.sample_rate == sample_rate else resample(found, clip.sample_rate, sample_rate)[:wanted]


@dataclass(frozen=True)
class Sampling:
    """How pairs are drawn and augmented; times in seconds.

    `negatives` is the share of pairs whose sound is from another clip; 0 where the objective makes its own from the
    batch. Sound windows lie at a frame of their own clip, in positive and negative pairs alike, so the position on
    the grid of frames gives nothing away (Objects that Sound, section 3.3). All windows lie inside their clip, and
    those of one item don't overlap as long as the clip has a frame left for it.
    """

    windows_per_clip: int = 1
    negatives: float = 0.5
    misalignment: float = 0.0  # largest distance of the frame from the middle of its sound
    grid: float = 0.0  # middles of sounds are rounded to multiples of this; 0.04 in Objects that Sound
    quietest: float = -120.0  # dBFS; up to 8 windows are tried for a louder one
    grouped: bool = False  # whether the clips of a group, which differ in what sounds alone, stay neighbours
    largest_projectile: float = 1.0  # share of the picture; frames of rendered clips with a larger one are left out
    gain: tuple[float, float] = (0.9, 1.1)  # one factor a window, L3 paper
    brightness: float = 32 / 255  # largest shift
    saturation: tuple[float, float] = (0.5, 1.5)
    flip: bool = True


class Pairs(Dataset):
    """Item `position` is `windows_per_clip` pairs from one clip; each pass visits every clip once in a new order.

    Clips shorter than a window are left out, and with `grouped` whole groups of which one clip is missing.

    Items are dicts of `image` (n, height, width, 3) in [0, 1], `waveform` (n, window_samples), `label` (n,), `target`
    (n,), the number of the first label of the picture's clip among all the corpus has, or -1, and `group` (n,), the
    number of the clip's group, 0 without groups.

    For a model that takes several frames, an image is what it makes of the run of frames around the chosen one
    (`openavc.motion`). Runs lie inside their clip, and their frames are as far apart as the clip's: 1 / 25 s in Objects
    that Sound, which `training.prepare --frame-rate 25` gives.

    Raises
    ------
    ValueError
        If there are no two videos with a clip as long as a window, or with as many frames as the model takes, or clips
        have no groups to keep together.
    """

    def __init__(self, shards: Shards, model, sampling: Sampling, seed: int):
        self.shards, self.sampling, self.seed = shards, sampling, seed
        self.size, self.rate, self.seconds = model.image_size, model.sample_rate, model.window_seconds
        self.frames, self.join_frames = frames_of(model), joining(model)  # not the model: workers get a copy of this
        self.reach = max(sampling.misalignment, sampling.grid / 2)  # seconds from a frame to the middle of its sound
        self.clips = [clip for clip in shards.clips if self._inside(clip).any()]
        self.group_size = 1
        if sampling.grouped:
            self.clips, self.group_size = whole_groups(shards, self.clips)
        if len({clip.source for clip in self.clips}) < 2:
            raise ValueError(
                f"for negatives, clips of at least two videos are needed that are {self.seconds:.2f} s long"
                f"{f' and have {self.frames} frames around one of their moments' * (self.frames > 1)}; "
                f"there are {len(self.clips)} such clips"
            )
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, position])
        number = self._number(position)
        clip = self.clips[number]
        target = self.shards.classes.index(clip.labels[0]) if clip.labels else -1
        taken: list[float] = []
        pairs = [self._pair(clip, taken, rng) for _ in range(self.sampling.windows_per_clip)]
        images, waveforms, labels = zip(*pairs, strict=True)
        return {
            "image": torch.from_numpy(np.stack(images)),
            "waveform": torch.from_numpy(np.stack(waveforms)),
            "label": torch.tensor(labels),
            "target": torch.full((len(labels),), target),
            "group": torch.full((len(labels),), number // self.group_size if self.sampling.grouped else 0),
        }

    def _number(self, position: int) -> int:
        """Of the clip that is visited."""
        epoch, place = divmod(position, len(self.clips))
        if self._order[0] != epoch:
            groups = np.arange(len(self.clips)).reshape(-1, self.group_size)
            self._order = (epoch, np.random.default_rng([self.seed, epoch, 1]).permutation(groups).ravel())
        return int(self._order[1][place])

    def _pair(self, clip: Clip, taken: list[float], rng: np.random.Generator):
        positive = rng.random() >= self.sampling.negatives
        index, waveform = self._moment(clip, taken, rng)
        if not positive:  # its picture, too, is of a moment that is loud enough: no shortcut there
            _, waveform = self._moment(self._other(clip, rng), [], rng)
        frames = self._augment(self.shards.run(clip, index, self.frames), rng)
        return (
            self.join_frames(np.stack(frames)),
            waveform * np.float32(rng.uniform(*self.sampling.gain)),
            int(positive),
        )

    def _moment(self, clip: Clip, taken: list[float], rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """A frame of the clip and the sound around it, `seconds` long.

        Up to 8 are tried for one that is loud enough. Its middle is added to those `taken`.
        """
        for _ in range(8):
            index, middle = self._place(clip, taken, rng)
            waveform = self.shards.waveform(clip, middle, self.seconds, self.rate)
            if level(waveform) >= self.sampling.quietest:
                break
        taken.append(middle)
        return index, waveform

    def _place(self, clip: Clip, taken: list[float], rng: np.random.Generator) -> tuple[int, float]:
        """A frame, and the middle of a sound inside the clip, near the frame and, if there is room, beside `taken`."""
        inside, times = self._inside(clip), clip.frame_times
        beside = inside & np.all([np.abs(times - other) >= self.seconds + self.reach for other in taken], axis=0)
        index = int(rng.choice(np.flatnonzero(beside if beside.any() else inside)))
        first, last = self._middles(clip)
        low, high = np.clip(
            [times[index] - self.sampling.misalignment, times[index] + self.sampling.misalignment], first, last
        )
        middle = rng.uniform(low, high)
        if self.sampling.grid:
            middle = np.clip(round(middle / self.sampling.grid) * self.sampling.grid, first, last)
        return index, float(middle)

    def _inside(self, clip: Clip) -> np.ndarray:
        """Which frames can have a sound that lies inside the clip: (frames,) bool."""
        first, last = self._middles(clip)
        times = clip.frame_times
        inside = (first <= last) & (times >= first - self.reach) & (times <= last + self.reach)
        inside &= has_run(clip, self.frames)
        return inside if clip.projectiles is None else inside & (clip.projectiles <= self.sampling.largest_projectile)

    def _middles(self, clip: Clip) -> tuple[float, float]:
        """The first and the last middle, on the grid, of sounds that lie inside the clip."""
        first, last, grid = self.seconds / 2, clip.seconds - self.seconds / 2, self.sampling.grid
        if grid:  # a billionth of it is rounding
            first, last = math.ceil(first / grid - 1e-9) * grid, math.floor(last / grid + 1e-9) * grid
        return first, last

    def _other(self, clip: Clip, rng: np.random.Generator) -> Clip:
        """A clip of another video."""
        while (other := self.clips[rng.integers(len(self.clips))]).source == clip.source:
            pass
        return other

    def _augment(self, frames: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        """Random crop, flip, brightness and saturation (L3 paper), the same for all frames of a run."""
        frames, (height, width) = [shrink_to(frame, self.size) for frame in frames], height_and_width(self.size)
        rows, columns = frames[0].shape[:2]
        top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
        step = -1 if self.sampling.flip and rng.random() < 0.5 else 1
        saturation = np.float32(rng.uniform(*self.sampling.saturation))
        brightness = np.float32(rng.uniform(-1, 1) * self.sampling.brightness)
        cropped = (frame[top : top + height, left : left + width][:, ::step] for frame in frames)
        return [_recoloured(frame, saturation, brightness) for frame in cropped]


def _recoloured(image: np.ndarray, saturation: np.float32, brightness: np.float32) -> np.ndarray:
    """Distances from grey times `saturation`, and everything plus `brightness`."""
    grey = image.mean(axis=2, keepdims=True)
    return np.clip(grey + (image - grey) * saturation + brightness, 0, 1)


def has_run(clip: Clip, length: int) -> np.ndarray:
    """Which frames are the middle of so many of the clip's: (frames,) bool."""
    numbers, half = np.arange(len(clip.frame_times)), length // 2
    return (numbers >= half) & (numbers < len(numbers) - half)


def whole_groups(shards: Shards, clips: list[Clip]) -> tuple[list[Clip], int]:
    """The clips of complete groups, those of a group side by side, and how many a group has.

    ValueError if some have none.
    """
    if any(clip.group is None for clip in clips):
        raise ValueError("grouped = true needs clips in groups, as training.simulate makes in the scenes solo and duo")
    groups: dict[tuple, list[Clip]] = {}
    for clip in clips:  # each folder counts its groups anew
        groups.setdefault((shards.paths[clip.shard].parent, clip.group), []).append(clip)
    size = max(map(len, groups.values()))
    found = [group for group in groups.values() if len(group) == size]
    return [clip for group in found for clip in group], size


def level(waveform: np.ndarray) -> float:
    """Root mean square in dBFS; silence is -200."""
    return 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)) + 1e-20)


def concatenate(items: list[dict]) -> dict[str, torch.Tensor]:
    """Collate items into one batch of pairs; windows of one clip stay neighbours."""
    return {name: torch.cat([item[name] for item in items]) for name in items[0]}


def held_out_pairs(shards: Shards, model, per_clip: int, seed: int, quietest: float = -42.0):
    """Evaluation pairs without augmentation: random moments of each clip, but for its edges and its quiet windows.

    Yields
    ------
    image : ndarray, shape (size, size, 3)
        Or what the model makes of the run of frames around it, as in `Pairs`.
    waveform : ndarray, shape (window_samples,)
    clip : Clip
        That it is from.
    """
    length = frames_of(model)
    for number, clip in enumerate(shards.clips):
        rng = np.random.default_rng([seed, number])
        half = model.window_seconds / 2
        inside = (clip.frame_times >= half) & (clip.frame_times <= clip.seconds - half) & has_run(clip, length)
        kept = 0
        for index in rng.permutation(np.flatnonzero(inside)):
            waveform = shards.waveform(clip, clip.frame_times[index], model.window_seconds, model.sample_rate)
            if level(waveform) >= quietest:
                frames = [fit(frame, model.image_size) for frame in shards.run(clip, index, length)]
                yield joining(model)(np.stack(frames)), waveform, clip
                kept += 1
            if kept == per_clip:
                break
