"""MP4 files: pictures and sound at their true times."""

import numpy as np
import pytest
from videos import greys, numbers_of, tone

from openavc.media.audio import read_audio
from openavc.media.mp4 import SOUND_RATE, write_mp4
from openavc.media.video import read_frames


def sound(seconds):
    """Yield blocks of a tone."""
    return iter(np.array_split(tone(440, seconds, SOUND_RATE)[:, None], 7))


def test_frames_that_share_a_time_can_be_written(tmp_path):
    times = [0, 0.5, 0.5, 0.5, 1.0]
    write_mp4(tmp_path / "out.mp4", zip(times, greys(5), strict=True), sound(2))
    found, frames = zip(*read_frames(tmp_path / "out.mp4"), strict=True)
    np.testing.assert_allclose(found, times, atol=1e-3)
    assert numbers_of([frame.mean() / 255 for frame in frames]).tolist() == [0, 1, 2, 3, 4]


def test_a_video_that_changes_its_size_is_written_at_its_first(tmp_path):
    pictures = [(k / 4, np.zeros((side, 2 * side, 3), np.uint8)) for k, side in enumerate((500, 600, 40))]
    write_mp4(tmp_path / "out.mp4", pictures, sound(2))
    assert [frame.shape for _, frame in read_frames(tmp_path / "out.mp4")] == [(500, 1000, 3)] * 3


@pytest.mark.parametrize(("cut_sound", "seconds"), [(False, 3.0), (True, 1.5)])
def test_sound_goes_on_after_the_pictures_unless_it_is_cut(cut_sound, seconds, tmp_path):
    write_mp4(tmp_path / "out.mp4", zip([0, 0.5, 1.0], greys(3), strict=True), sound(3), cut_sound)
    samples, rate = read_audio(tmp_path / "out.mp4")
    assert rate == SOUND_RATE
    assert len(samples) / rate == pytest.approx(seconds, abs=0.15)  # sound is encoded in tenths of a second


@pytest.mark.parametrize("name", ["12:30.out", "100%d.mp4", "-a", "é.tmp"])
def test_a_video_may_have_any_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mp4(name, zip([0, 0.5], greys(2), strict=True), sound(1))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(list(read_frames(name))) == 2
