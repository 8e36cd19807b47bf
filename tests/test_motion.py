"""Runs of frames and optical flow against known displacements, and videos seen by networks that take runs."""

import av
import cv2
import numpy as np
import pytest
import torch
from conftest import with_statistics
from test_video import Hears, noise, write_video

import openavc
from openavc import motion
from openavc.image import fit, to_images
from openavc.models import AVENet
from openavc.motion import LARGEST, optical_flow, runs, whole_run, with_flow


def texture(height, width):
    """Smooth noise, in [0, 1]."""
    rough = np.random.default_rng(0).random((height, width), dtype=np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 2.0)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def moving(right, down, frames=3, size=64):
    """A run of a texture that moves so many pixels from one frame to the next."""
    margin = 64
    whole = texture(size + 2 * margin, size + 2 * margin)
    tops = [margin - down * k for k in range(frames)]
    lefts = [margin - right * k for k in range(frames)]
    return np.stack(
        [np.repeat(whole[top:, left:, None][:size, :size], 3, 2) for top, left in zip(tops, lefts, strict=True)]
    )


def inner(fields):
    """Without the edges, beyond which nothing is seen."""
    return fields[..., 12:-12, 12:-12, :]


@pytest.mark.parametrize("displacement", [(2, 0), (-3, 1), (0, -2), (4, 3), (0, 0)])
def test_flow_is_the_displacement_from_one_frame_to_the_next_in_pixels(displacement):
    flow = optical_flow(moving(*displacement, frames=4))
    assert flow.shape == (3, 64, 64, 2)
    assert flow.dtype == np.float32
    np.testing.assert_allclose(inner(flow).reshape(-1, 2), np.tile(displacement, (3 * 40 * 40, 1)), atol=0.25)


def test_flow_of_a_mirrored_run_goes_the_other_way():
    run = moving(2, 1)
    flow, mirrored = optical_flow(run), optical_flow(run[:, :, ::-1])
    np.testing.assert_allclose(inner(mirrored)[..., ::-1, :], inner(flow) * [-1, 1], atol=0.25)


def test_an_image_with_flow_is_the_middle_frame_beside_scaled_fields():
    run = moving(4, -2, frames=5)
    image = with_flow(run)
    assert image.shape == (64, 64, 3 + 2 * 4)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., :3], run[2])
    expected = [0.5 + 4 / (2 * LARGEST), 0.5 - 2 / (2 * LARGEST)] * 4
    np.testing.assert_allclose(np.median(image[..., 3:], axis=(0, 1)), expected, atol=0.005)


def test_flow_is_clipped_and_what_stands_still_is_halfway(monkeypatch):
    fields = np.array([[-100.0, 5.0], [0.0, 20.5]], np.float32).reshape(2, 1, 1, 2)
    monkeypatch.setattr(motion, "optical_flow", lambda run, method: fields)
    image = with_flow(np.full((3, 1, 1, 3), 0.25, np.float32))
    np.testing.assert_array_equal(image[0, 0], np.float32([0.25, 0.25, 0.25, 0, 0.625, 0.5, 1]))


def test_flow_does_not_depend_on_the_number_of_threads():
    run, before = moving(3, 1, size=128), cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            found.append(optical_flow(run))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(*found)


def test_tvl1_is_used_where_opencv_has_it_and_otherwise_says_what_to_install():
    run = moving(2, 0)
    if hasattr(cv2, "optflow"):
        np.testing.assert_allclose(np.median(inner(optical_flow(run, "tvl1")), axis=(0, 1, 2)), [2, 0], atol=0.1)
    else:
        with pytest.raises(ValueError, match="opencv-contrib-python; or use 'dis'"):
            optical_flow(run, "tvl1")


def test_an_unknown_flow_is_refused():
    with pytest.raises(ValueError, match="one of 'dis', 'tvl1', got 'farneback'"):
        AVENet(motion="flow", flow_method="farneback")


@pytest.mark.parametrize(("count", "length"), [(9, 5), (5, 5), (3, 5), (2, 7), (1, 3), (4, 1), (0, 3)])
def test_every_frame_has_a_run_around_it_whose_edges_are_repeated(count, length):
    frames = [(0.1 * number, number) for number in range(count)]
    half = length // 2
    expected = [
        (0.1 * middle, [min(max(number, 0), count - 1) for number in range(middle - half, middle + half + 1)])
        for middle in range(count)
    ]
    assert list(runs(iter(frames), length)) == expected


# -------------------------------------------------------------------------------------------------------- videos


class SeesRuns(Hears):
    """Embeds a run of frames as their means."""

    frames, join_frames = 5, staticmethod(whole_run)

    def embed_image(self, images, embedding):
        return images.mean(dim=(2, 3, 4))


@pytest.mark.parametrize("frame_rate", [None, 5])
def test_each_sampled_frame_of_a_video_comes_with_its_neighbours_at_the_videos_own_rate(frame_rate, tmp_path):
    path = write_video(tmp_path / "a.mkv", [k / 25 for k in range(16)], sound=noise(8_000))
    found = openavc.get_video_embedding(path, SeesRuns(), frame_rate=frame_rate)
    middles = np.arange(16) if frame_rate is None else np.array([0, 5, 10, 15])
    expected = (middles[:, None] + np.arange(-2, 3)).clip(0, 15)
    np.testing.assert_array_equal(np.round((found.image * 255 - 20) / 8), expected)
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
    """A texture that moves to the right, with sound: (path, frames, samples at 24 kHz)."""
    pictures = (moving(3, 0, frames=12, size=48) * 255).astype(np.uint8)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 28_800).astype(np.float32)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        video = file.add_stream("ffv1", rate=25, width=48, height=48, pix_fmt="bgr0")  # keeps every value
        audio = file.add_stream("pcm_s16le", rate=24_000, layout="mono")
        for picture in pictures:
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(np.round(samples[None] * 32768).astype(np.int16), "s16", "mono")
        frame.sample_rate = 24_000
        file.mux([*audio.encode(frame), *audio.encode()])
    return path, pictures, np.round(samples * 32768) / 32768


def by_hand(model, pictures, middle):
    """The joint embedding of the run around a frame."""
    run = pictures[np.arange(middle - 3, middle + 4).clip(0, len(pictures) - 1)]
    image = model.join_frames(np.stack([fit(picture, 32) for picture in to_images(run)]))
    with torch.no_grad():
        return model.embed_image(model.prepare_image(torch.from_numpy(image)[None]), "joint")[0]


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
        window = torch.from_numpy(padded[middle * 960 :][:24_000])[None].float()
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
    with pytest.raises(ValueError, match=message + "an image of shape"):
        sees_motion.prepare_image(torch.zeros(2, 32, 32, 3))
