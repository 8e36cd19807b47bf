"""Videos with another sound: the same pictures at the same times, and the sound where it belongs."""

import av
import numpy as np
import pytest
from videos import RATE, tone, write_video

from openavc.media.audio import read_audio
from openavc.media.dubbing import dubbed_ending, write_dubbed
from openavc.media.mp4 import SOUND_RATE
from openavc.media.video import read_frames


def dub(target, path, blocks):
    write_dubbed(target, path, blocks, dubbed_ending(path))
    return target


def packets(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(file.streams.video[0]) if packet.size]


@pytest.mark.parametrize("codec", ["mpeg4", "ffv1"])
def test_pictures_are_copied_and_the_sound_begins_with_the_file(codec, tmp_path):
    """The pictures begin 0.5 s after the sound, and so they do in the copy, whose new sound has a click at 1 s."""
    times = 0.5 + np.array([0, 0.04, 0.2, 0.25, 1.0, 1.48])  # uneven
    path = write_video(tmp_path / "clip.mkv", times, codec=codec, sound=tone(440, 2, RATE))
    click = np.zeros((2 * SOUND_RATE, 1), np.float32)
    click[SOUND_RATE] = 0.9
    assert dubbed_ending(path) == {"mpeg4": ".mp4", "ffv1": ".mkv"}[codec]
    target = dub(tmp_path / "dubbed", path, np.split(click, [30_000]))
    assert packets(target) == packets(path)
    np.testing.assert_allclose([time for time, _ in read_frames(target)], times, atol=2e-3)
    heard, rate = read_audio(target)
    assert abs(int(np.abs(heard[:, 0]).argmax()) / rate - 1) < 0.002


@pytest.mark.parametrize(
    ("name", "ending"), [("clips/av1_aac.mp4", ".mp4"), ("clips/flv.flv", None), ("odd/08_ts_jump_10h.ts", ".mp4")]
)
@pytest.mark.filterwarnings("ignore:.*its times jump")
def test_pictures_of_other_codecs_are_copied(name, ending, shared, tmp_path):
    path = shared / "data" / name
    assert ending in (None, dubbed_ending(path))
    target = dub(tmp_path / "dubbed", path, [np.zeros((SOUND_RATE, 1), np.float32)])
    before, after = ([time for time, _ in read_frames(each, size=(16, 16))] for each in (path, target))
    np.testing.assert_allclose(after, before, atol=2e-3)


def test_what_holds_no_pictures_is_refused(shared, tmp_path):
    with pytest.raises(OSError, match=r"audio_only_15s\.mp4 holds no pictures"):
        dubbed_ending(shared / "data/clips/audio_only_15s.mp4")
