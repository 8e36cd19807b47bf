"""Videos: each frame with the sound around it, for networks that see pictures, motion, or both in one stream."""

import copy

import av
import numpy as np
import pytest
import resampy
import soundfile
import torch
from conftest import with_statistics
from fake_model import FakeModel
from torch import nn
from videos import RATE, UNEVEN, moving, noise, numbers_of, write_video

import openavc
from openavc.media.image import fit, to_images
from openavc.media.video import read_frames
from openavc.models import AVENet
from openavc.models.contract import FramesInput, Fuses, SoundInput


def means(frames):
    """Reduce clips (B, T, H, W, 3) to the mean of each frame, (B, T)."""
    return frames.mean(dim=(2, 3, 4))


def half_a_second(count=1, rate=None, **sound):
    """Return a network that embeds half a second of sound as its samples, and frames as their means."""
    return FakeModel(SoundInput(RATE, 0.5, **sound), FramesInput(32, 32, count, rate), sees=means)


def cut(waveform, centre, length):
    """Cut `length` samples around sample `centre`, with zeros where there is no sound."""
    padded = np.concatenate([np.zeros(length), waveform, np.zeros(10 * length)])
    return padded[round(centre) + length - length // 2 :][:length]


# --------------------------------------------------------------------------------------------- sound and picture


@pytest.mark.parametrize("name", ["a.mov", "a.mkv"])
@pytest.mark.parametrize("picture_start, sound_start", [(0, 0), (0.52, 0), (0, 0.52), (3, 3), (4, 3)])
@pytest.mark.parametrize("frame_rate", [None, 4])
def test_each_row_is_the_sound_around_its_frame(name, picture_start, sound_start, frame_rate, tmp_path):
    sound = noise(int(1.3 * RATE))
    times = [picture_start + time for time in UNEVEN]
    path = write_video(tmp_path / name, times, "mpeg4", sound=sound, sound_start=sound_start)
    found = openavc.get_video_embedding(path, half_a_second(), frame_rate=frame_rate, batch_size=4)
    begin = min(picture_start, sound_start)
    expected = [time - begin for time in times if frame_rate is None or time in times_at(frame_rate, times, begin)]
    np.testing.assert_allclose(found.timestamps, expected, atol=1e-6)
    assert found.timestamps.dtype == np.float64
    timeline = np.concatenate([np.zeros(round((sound_start - begin) * RATE)), sound])
    windows = np.stack([cut(timeline, time * RATE, RATE // 2) for time in expected])
    np.testing.assert_allclose(found.audio, windows, atol=1e-6)
    greys = [20 + 8 * times.index(time + begin) for time in expected]
    np.testing.assert_allclose(found.image[:, 0] * 255, greys, atol=3)


def times_at(frame_rate, times, begin):
    """Return the first time at or after each multiple of 1 / frame_rate, counted from `begin`."""
    after = [[t for t in times if t - begin >= k / frame_rate - 1e-6] for k in range(100)]
    return {later[0] for later in after if later}


def test_a_click_at_a_frame_is_in_the_middle_of_its_window(tmp_path):
    sound = np.zeros(2 * RATE)
    sound[RATE] = 0.9
    path = write_video(tmp_path / "a.mov", [k / 25 for k in range(50)], "mpeg4", sound=sound)
    audio, _, timestamps = openavc.get_video_embedding(path, half_a_second())
    row = int(np.argmin(np.abs(timestamps - 1.0)))
    assert timestamps[row] == pytest.approx(1.0)
    assert audio[row].argmax() == RATE // 4  # half of half a second
    assert audio[row + 1].argmax() == RATE // 4 - RATE // 25


def test_frames_in_the_wrong_order_have_ascending_times_and_their_own_sound(tmp_path):
    sound = noise(RATE)
    write_video(tmp_path / "a.mkv", [k / 25 for k in range(8)], sound=sound)
    with av.open(str(tmp_path / "a.mkv")) as source, av.open(str(tmp_path / "b.mkv"), "w") as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                if packet.stream.type == "video":
                    packet.dts -= 40  # ms
                    packet.pts = {80: 120, 120: 80}.get(packet.pts, packet.pts)  # the third and fourth change places
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    audio, _, timestamps = openavc.get_video_embedding(tmp_path / "b.mkv", half_a_second())
    assert (np.diff(timestamps) >= 0).all()
    windows = np.stack([cut(sound, time * RATE, RATE // 2) for time in timestamps])
    np.testing.assert_allclose(audio, windows, atol=1e-6)


def test_rows_are_those_of_the_window_and_the_picture_embedded_alone(model, tmp_path):
    sound, times = noise(44_100 * 2), [k / 10 for k in range(20)]
    path = write_video(tmp_path / "a.mov", times, "mpeg4", sound=sound, rate=44_100, size=(80, 120))
    found = openavc.get_video_embedding(path, model, embedding="joint", batch_size=3)
    resampled = resampy.resample(sound, 44_100, 24_000, filter="kaiser_best")
    windows = [cut(resampled, time * 24_000, 24_000).astype(np.float32) for time in times]
    alone = [openavc.get_audio_embedding(w, 24_000, model, embedding="joint", center=False)[0][0] for w in windows]
    np.testing.assert_allclose(found.audio, np.stack(alone), atol=1e-4)
    pictures = [openavc.get_image_embedding(frame, model, embedding="joint")[0] for _, frame in read_frames(path)]
    np.testing.assert_allclose(found.image, np.stack(pictures), atol=1e-5)
    np.testing.assert_allclose(found.timestamps, times, atol=1e-6)


def test_video_embeddings_do_not_depend_on_the_batch_size(model, tmp_path):
    path = write_video(tmp_path / "a.mkv", UNEVEN, sound=noise(2 * RATE))
    one, many = (openavc.get_video_embedding(path, copy.deepcopy(model), batch_size=size) for size in (1, 32))
    for left, right in zip(one, many, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------- networks that see motion


@pytest.mark.parametrize("frame_rate", [None, 5])
def test_each_sampled_frame_of_a_video_comes_with_its_neighbours(frame_rate, tmp_path):
    path = write_video(tmp_path / "a.mkv", [k / 25 for k in range(16)], sound=noise(8_000))
    found = openavc.get_video_embedding(path, half_a_second(5, 25.0), frame_rate=frame_rate)
    middles = np.arange(16) if frame_rate is None else np.array([0, 5, 10, 15])
    expected = (middles[:, None] + np.arange(-2, 3)).clip(0, 15)
    np.testing.assert_array_equal(numbers_of(found.image), expected)
    np.testing.assert_allclose(found.timestamps, middles / 25, atol=0.0011)


@pytest.fixture(params=["frames", "flow"])
def sees_motion(request):
    torch.manual_seed(0)
    options = {"widths": (4, 4, 8, 8), "frontend": "mel64", "image_size": 32, "joint_size": 8}
    network = with_statistics(AVENet(**options, motion=request.param, frames=7))
    network.name = "sees-motion"
    return network


@pytest.fixture
def clip(tmp_path):
    """Write a texture that moves to the right, with sound; return (path, frames, samples at 24 kHz)."""
    pictures = (moving(3, 0, frames=12, size=48) * 255).astype(np.uint8)
    samples, times = noise(28_800), [k / 25 for k in range(12)]
    path = write_video(tmp_path / "a.mkv", times, sound=samples, rate=24_000, pictures=pictures, pixels="bgr0")
    return path, pictures, samples


def by_hand(model, pictures, middle):
    """Return the joint embedding of the run around a frame."""
    run = pictures[np.arange(middle - 3, middle + 4).clip(0, len(pictures) - 1)]
    frames = model.precompute_frames(np.stack([fit(picture, 32, 32) for picture in to_images(run)]))
    with torch.no_grad():
        return model.embed_frames(model.prepare_frames(torch.from_numpy(frames)[None]), "joint")[0]


@pytest.mark.parametrize("batch_size", [1, 32])
def test_a_video_is_embedded_as_its_runs_are(sees_motion, clip, batch_size):
    path, pictures, _ = clip
    found = openavc.get_video_embedding(path, sees_motion, embedding="joint", batch_size=batch_size)
    expected = np.stack([by_hand(sees_motion, pictures, middle) for middle in range(12)])
    np.testing.assert_allclose(found.image, expected, atol=1e-5)
    assert found.image.std(axis=0).max() > 1e-3
    stack = openavc.get_image_embedding(pictures[2:9], sees_motion, embedding="joint")
    np.testing.assert_allclose(stack, expected[5:6], atol=1e-5)


def test_a_video_is_scored_by_its_runs_and_the_sound_around_them(sees_motion, clip):
    path, pictures, samples = clip
    scores, timestamps = openavc.video_scores(path, sees_motion, frame_rate=5)
    np.testing.assert_allclose(timestamps, [0, 0.2, 0.4], atol=0.0011)
    padded = np.concatenate([np.zeros(12_000), samples, np.zeros(24_000)])
    for score, middle in zip(scores, (0, 5, 10), strict=True):
        window = torch.from_numpy(padded[middle * 960 :][:24_000])[None, :, None].float()
        with torch.no_grad():
            heard = sees_motion.represent_audio(sees_motion.prepare_audio(window))
            logits = sees_motion.compare(by_hand(sees_motion, pictures, middle)[None], heard)
        assert score == pytest.approx(logits.softmax(dim=1)[0, 1].item(), abs=1e-4)


def test_a_stack_of_as_many_frames_is_one_image_of_a_score(sees_motion, clip):
    _, pictures, samples = clip
    score = openavc.correspondence_score(samples.astype(np.float32), 24_000, pictures[:7], sees_motion)
    assert type(score) is float
    assert 0 < score < 1


@pytest.mark.parametrize("shape", [(48, 48, 3), (1, 48, 48, 3), (8, 48, 48, 3)])
def test_a_picture_alone_is_an_error_that_says_what_to_give(sees_motion, shape):
    picture, sound = np.zeros(shape, np.uint8), np.ones(24_000, np.float32)
    message = r"sees-motion takes runs of 7 .*get_video_embedding, video_scores.*\(7, H, W, 3\); got "
    with pytest.raises(ValueError, match=message + "shape"):
        openavc.get_image_embedding(picture, sees_motion)
    with pytest.raises(ValueError, match=message + "shape"):
        openavc.correspondence_score(sound, 24_000, picture, sees_motion)
    with pytest.raises(ValueError, match=message + "'photo.jpg'"):
        openavc.get_image_embedding("photo.jpg", sees_motion)
    with pytest.raises(ValueError, match=r"sees-motion takes clips of 7 frames, got \(2, 1, 32, 32, 3\)"):
        sees_motion.prepare_frames(torch.zeros(2, 1, 32, 32, 3))


# --------------------------------------------------------------------------------------- sound as the network takes it


@pytest.fixture
def stereo_video(tmp_path):
    """Write a second with frames at 0 and 0.5 s, and different sound left and right; return (path, samples (n, 2))."""
    samples = np.stack([noise(RATE, 0), noise(RATE, 1)], axis=1)
    return write_video(tmp_path / "stereo.mkv", [0, 0.5], sound=samples), samples


class ComparesMeans(FakeModel):
    """Compares and localises by the mean of what it hears."""

    def __init__(self, sound, sees):
        super().__init__(sound, FramesInput(32, 32), lambda samples: samples.mean(dim=(1, 2))[:, None].float(), sees)


CALLS = {
    "get_video_embedding": (means, lambda path, samples, model: openavc.get_video_embedding(path, model)),
    "video_scores": (means, lambda path, samples, model: openavc.video_scores(path, model, frame_rate=2)),
    "localize_video": (
        lambda frames: frames[:, 0, ::8, ::8, 0][:, None],
        lambda path, samples, model: list(openavc.localize_video(path, model)),
    ),
    "correspondence_score": (
        means,
        lambda path, samples, model: openavc.correspondence_score(samples, RATE, np.zeros((32, 32, 3)), model),
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_call_hears_a_video_as_a_score_hears_its_samples(call, dtype, channels, stereo_video):
    """The precision and the channels are those that the network states."""
    path, samples = stereo_video
    sees, run = CALLS[call]
    sound = SoundInput(11_025, 1.0, channels, dtype)  # resampled in that precision
    model = ComparesMeans(sound, sees)
    run(path, samples, model)
    assert {heard.dtype for heard in model.heard} == {getattr(torch, dtype)}
    mixed = samples if channels == 2 else samples.mean(axis=1, keepdims=True)
    expected = resampy.resample(mixed.astype(np.float64), RATE, 11_025, axis=0, filter="kaiser_best")
    middle = torch.cat(model.heard)[-1]  # around 0.5 s: all of it
    assert middle.shape == (11_025, channels)
    np.testing.assert_allclose(middle, expected, rtol=0, atol=1e-12 if dtype == "float64" else 1e-5)


def test_left_and_right_reach_a_stereo_network_unmixed_from_a_video(stereo_video):
    path, samples = stereo_video
    model = half_a_second(channels=2)
    found = openavc.get_video_embedding(path, model)
    left, right = found.audio.reshape(2, RATE // 2, 2).transpose(2, 0, 1)
    for channel, heard in enumerate((left, right)):
        windows = np.stack([cut(samples[:, channel], time * RATE, RATE // 2) for time in (0, 0.5)])
        np.testing.assert_allclose(heard, windows, atol=1e-6)
    mono = openavc.get_video_embedding(path, half_a_second())
    np.testing.assert_allclose(mono.audio, (left + right) / 2, atol=1e-6)


def test_a_stereo_network_hears_a_mono_video_on_both_sides(tmp_path):
    path = write_video(tmp_path / "mono.mkv", [0, 0.5], sound=noise(RATE))
    heard = openavc.get_video_embedding(path, half_a_second(channels=2)).audio
    left, right = heard.reshape(2, RATE // 2, 2).transpose(2, 0, 1)
    np.testing.assert_array_equal(left, right)
    np.testing.assert_allclose(left[1], cut(noise(RATE), RATE / 2, RATE // 2), atol=1e-6)


# ------------------------------------------------------------------------------------------------------ files opened


@pytest.mark.parametrize("call", ["get_video_embedding", "video_scores", "localize_video"])
def test_a_video_is_opened_once(call, stereo_video, monkeypatch):
    opened, really_open = [], av.open

    def counted(file, *arguments, **options):
        opened.append(str(file))
        return really_open(file, *arguments, **options)

    path, samples = stereo_video
    sees, run = CALLS[call]
    model = ComparesMeans(SoundInput(RATE, 1.0), sees)
    monkeypatch.setattr(av, "open", counted)
    monkeypatch.setattr(soundfile, "SoundFile", lambda *_, **__: pytest.fail("a video isn't read as sound first"))
    run(path, samples, model)
    assert opened == [f"file:{path}"]


def test_a_video_is_closed_when_its_maps_are_given_up(stereo_video, monkeypatch):
    opened, really_open = [], av.open
    monkeypatch.setattr(
        av, "open", lambda *given, **options: opened.append(really_open(*given, **options)) or opened[-1]
    )
    maps = openavc.localize_video(stereo_video[0], ComparesMeans(SoundInput(RATE, 1.0), CALLS["localize_video"][0]))
    next(maps)
    del maps
    [container] = opened
    with pytest.raises(Exception, match="not open"):
        next(container.demux())


# ------------------------------------------------------------------------------------------ sound and frames in one


class FusesBoth(Fuses):
    """Embeds frames and sound in one stream: the sum of the samples, the means of the frames, and their product."""

    def __init__(self):
        super().__init__(SoundInput(RATE, 0.5), FramesInput(32, 32), {"video": {"joint": 3}})
        self.unused = nn.Parameter(torch.zeros(1))

    def prepare_audio(self, samples):
        return samples

    def prepare_frames(self, frames):
        return frames

    def embed_fused(self, frames, spectrogram, embedding="joint"):
        heard, seen = spectrogram.sum(dim=(1, 2)), means(frames)[:, 0]
        return torch.stack([heard, seen, heard * seen], dim=1)


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_a_network_that_fuses_gives_one_embedding_of_each_moment(batch_size, tmp_path):
    sound = noise(RATE)
    path = write_video(tmp_path / "a.mkv", UNEVEN, sound=sound)
    found = openavc.get_video_embedding(path, FusesBoth(), embedding="joint", batch_size=batch_size)
    assert found._fields == ("joint", "timestamps")
    assert type(found).__name__ == "FusedEmbedding"
    np.testing.assert_allclose(found.timestamps, UNEVEN, atol=1e-3)
    heard = [cut(sound, time * RATE, RATE // 2).sum() for time in UNEVEN]
    np.testing.assert_allclose(found.joint[:, 0], heard, atol=1e-3)
    assert numbers_of(found.joint[:, 1]).tolist() == list(range(len(UNEVEN)))
    np.testing.assert_allclose(found.joint[:, 2], found.joint[:, 0] * found.joint[:, 1], rtol=1e-5)


def test_a_network_that_fuses_is_refused_where_sound_or_pictures_are_embedded_alone(tmp_path):
    with pytest.raises(ValueError, match="FusesBoth doesn't embed audio"):
        openavc.get_audio_embedding(noise(RATE), RATE, FusesBoth())
    with pytest.raises(ValueError, match="FusesBoth doesn't embed image"):
        openavc.get_image_embedding(np.zeros((32, 32, 3)), FusesBoth())
    with pytest.raises(ValueError, match="no embedding 'features'; it has 'joint'"):
        openavc.get_video_embedding(tmp_path / "a.mkv", FusesBoth())
    with pytest.raises(ValueError, match="FusesBoth can't compare"):
        openavc.video_scores(tmp_path / "a.mkv", FusesBoth())


def test_a_slow_video_is_pointed_out_once_to_a_network_with_a_frame_rate(tmp_path):
    path = write_video(tmp_path / "slow.mkv", [k / 12.5 for k in range(12)], sound=noise(RATE))
    with pytest.warns(UserWarning) as caught:
        found = openavc.get_video_embedding(path, half_a_second(5, 25.0), batch_size=2)
    assert [str(warning.message) for warning in caught] == [
        f"{path} has about 12.5 frames a second, the model takes 25: frames are repeated"
    ]
    expected = (np.arange(12)[:, None] + [-1, -1, 0, 0, 1]).clip(0, 11)
    np.testing.assert_array_equal(numbers_of(found.image), expected)


def test_a_video_of_30_frames_a_second_is_seen_at_the_networks_25(tmp_path):
    path = write_video(tmp_path / "a.mkv", [k / 30 for k in range(24)], clock=30_000, sound=noise(RATE))
    found = openavc.get_video_embedding(path, half_a_second(5, 25.0))
    expected = (np.arange(24)[:, None] + [-3, -2, 0, 1, 2]).clip(0, 23)
    np.testing.assert_array_equal(numbers_of(found.image), expected)
