"""Videos copied with their sound moved: packets stay as they are, and only the sound's times change."""

import av
import numpy as np
import pytest
from flashes import RATE, bursts, events, write_flashes
from videos import write_video

from openavc.media.audio import read_audio
from openavc.media.remux import CONTAINERS, shift_sound


def packets(path, kind):
    """Return the packets of the first stream of a kind: (times, bytes)."""
    with av.open(str(path)) as file:
        stream = next(stream for stream in file.streams if stream.type == kind)
        found = [(float(p.pts * p.time_base), bytes(p)) for p in file.demux(stream) if p.size]
    times, contents = zip(*found, strict=True)
    return np.array(times), contents


@pytest.mark.parametrize("seconds", [0.4, -0.4])
def test_the_sound_moves_and_the_pictures_stay(tmp_path, seconds):
    flashing = events(4)
    source, target = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing)), tmp_path / "moved.mkv"
    shift_sound(source, target, seconds, "matroska")
    pictures, copied = packets(source, "video"), packets(target, "video")
    assert copied[1] == pictures[1]
    moved = (copied[0] - pictures[0])[0]  # Matroska has no times below 0, so all may move by the same
    np.testing.assert_allclose(copied[0] - pictures[0], moved, atol=2e-3)
    heard, kept = packets(source, "audio"), packets(target, "audio")
    assert kept[1] == heard[1]  # one packet, of which some is left
    np.testing.assert_allclose(kept[0] - heard[0], moved - seconds, atol=2e-3)


@pytest.mark.parametrize(
    "name",
    ["h264_aac_plain.mp4", "mkv_h264_vorbis.mkv", "prores_pcm24.mov", "rabbit320.webm", "hls_60fps_start100s.ts"],
)
def test_containers_and_codecs_of_all_kinds_are_copied(shared, tmp_path, name):
    source = shared / "data/clips" / name
    target = tmp_path / name
    shift_sound(source, target, 0.24, CONTAINERS[source.suffix])
    before, after = packets(source, "video"), packets(target, "video")
    assert len(after[1]) == len(before[1])
    sound = packets(source, "audio")[0], packets(target, "audio")[0]
    apart = (sound[0][-1] - before[0][-1]) - (sound[1][-1] - after[0][-1])
    assert apart == pytest.approx(0.24, abs=0.003)


def test_what_cant_be_copied_is_an_error(tmp_path):
    flashing = events(2)
    source = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing))
    with pytest.raises(OSError, match=r"can't be copied into .*: .*try an ending such as \.mkv"):
        shift_sound(source, tmp_path / "out.webm", 0.1, "webm")  # which holds neither FFV1 nor PCM
    with pytest.raises(FileNotFoundError):
        shift_sound(tmp_path / "none.mkv", tmp_path / "out.mkv", 0.1, "matroska")
    mute = write_video(tmp_path / "mute.mkv", [0, 0.04])
    with pytest.raises(OSError, match="holds no sound"):
        shift_sound(mute, tmp_path / "out.mkv", 0.1, "matroska")


def test_sound_that_plays_later_is_still_all_there(tmp_path):
    flashing = events(2)
    source, target = write_flashes(tmp_path / "clip.mkv", flashing, bursts(flashing)), tmp_path / "moved.mkv"
    shift_sound(source, target, -0.5, "matroska")
    (before, _), (after, _) = read_audio(source), read_audio(target)
    np.testing.assert_array_equal(after[: RATE // 2], 0)
    np.testing.assert_array_equal(after[RATE // 2 :], before)
