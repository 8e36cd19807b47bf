"""Windows, batches and streams: the same numbers however the work is divided."""

import copy
import itertools
import math
import os

import numpy as np
import pytest
import soundfile
import torch
from fake_model import FakeModel
from videos import noise as sixteen_bit_noise

import openavc
from openavc.inference import arguments
from openavc.inference.inputs import shared_hop
from openavc.media.clips import SoundInput, count_windows
from openavc.models import AVENet


def shares():
    """Return a `FakeModel` that embeds windows in one pass if they are multiples of 0.05 s apart."""
    return FakeModel(slice_samples=5)


@pytest.fixture
def noise():
    return np.random.default_rng(0).uniform(-0.5, 0.5, 44_100 * 3 + 17).astype(np.float32)


def relative_difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def cut_by_hand(waveform, hop, center, rate):
    """Cut windows of one second: (T, rate)."""
    padded = np.concatenate([np.zeros(rate // 2 if center else 0, np.float32), waveform])
    count = max(1, 1 + math.ceil(round((len(padded) - rate) / (hop * rate), 9)))
    padded = np.concatenate([padded, np.zeros(10 * rate, np.float32)])
    return np.stack([padded[round(k * hop * rate) :][:rate] for k in range(count)])


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("hop", [0.1, 0.29, 1.0, 2.5])
@pytest.mark.parametrize("samples", [1, 99, 100, 101, 250, 1234])
@pytest.mark.parametrize("network", [FakeModel, shares])
def test_windows_are_those_cut_by_hand(samples, hop, center, network):
    waveform = np.random.default_rng(samples).uniform(0.1, 1, samples).astype(np.float32)
    expected = cut_by_hand(waveform, hop, center, 100)
    with pytest.warns(UserWarning) if samples < 100 else _nothing():
        embedding, timestamps = openavc.get_audio_embedding(waveform, 100, network(), hop_size=hop, center=center)
    np.testing.assert_array_equal(embedding, expected)
    np.testing.assert_allclose(timestamps, np.arange(len(expected)) * hop, atol=0.5 / 100)
    assert timestamps.dtype == np.float64
    assert embedding.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("hop", [0.05, 0.1, 0.35, 0.95, 0.07])
def test_stretches_hold_the_windows_of_recordings_of_every_length(hop, batch_size):
    network, step = shares(), round(hop * 100)
    lengths = [100 + k * step + more for k in (0, 1, 2, 3, 5, 6, 31, 32, 63, 64, 65) for more in (0, 1, step - 1)]
    waveforms = [np.random.default_rng(n).uniform(0.1, 1, n).astype(np.float32) for n in lengths]
    options = {"hop_size": hop, "center": False, "batch_size": batch_size}
    embeddings, timestamps = openavc.get_audio_embedding(waveforms, 100, network, **options)
    for waveform, embedding, times in zip(waveforms, embeddings, timestamps, strict=True):
        assert len(embedding) == count_windows(len(waveform), 100, hop, 100)
        np.testing.assert_array_equal(embedding, cut_by_hand(waveform, hop, False, 100))
        np.testing.assert_allclose(times, np.arange(len(embedding)) * hop, atol=1e-9)
    windows = 100 * sum(map(len, embeddings))  # samples of all windows one by one
    shared = hop != 0.07 and batch_size > 1
    assert (sum(network.passes) < 0.99 * windows) == shared
    assert max(network.passes) <= 100 * batch_size


def test_windows_share_a_pass_only_if_they_overlap_by_slices(model):
    def shared(hop, network=model):
        return shared_hop(network, hop)

    assert [shared(hop) for hop in (0.05, 0.1, 0.15, 0.35, 0.95)] == [1200, 2400, 3600, 8400, 22_800]
    assert [shared(hop) for hop in (1 / 24_000, 0.01, 0.13, 0.333, 0.1 + 1e-9, 1.0, 1.5)] == [None] * 7
    assert shared(0.1, FakeModel()) is None


@pytest.mark.parametrize("hop", [0.05, 0.1, 0.25, 0.5, 0.95, 0.13, 0.333, 1.0, 1.7])
@pytest.mark.parametrize("samples", [24_000 * 3 + 1234, 24_000, 24_001, 10_000])
def test_a_network_embeds_a_recording_as_its_windows_one_by_one(model, samples, hop):
    waveform = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    waveform *= np.logspace(-3, 0, samples, dtype=np.float32)  # quiet to loud, so that the windows differ
    waveform[samples * 3 // 4 :] = 0  # and a silent end
    for center, embedding in itertools.product([True, False], ["features", "joint"]):
        windows = torch.from_numpy(cut_by_hand(waveform, hop, center, 24_000))
        with torch.no_grad():
            expected = torch.cat(
                [model.embed_audio(model.prepare_audio(w[None, :, None]), embedding) for w in windows]
            ).numpy()
        options = {"hop_size": hop, "center": center, "embedding": embedding}
        with pytest.warns(UserWarning, match="shorter") if samples < 24_000 else _nothing():
            found, timestamps = openavc.get_audio_embedding(waveform, 24_000, model, **options)
        assert relative_difference(found, expected) < 1e-5
        np.testing.assert_allclose(timestamps, np.arange(len(windows)) * hop, atol=0.5 / 24_000)


@pytest.mark.parametrize("hop", [0.1, 0.13])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_lists_and_streams_give_the_same_whatever_the_batch_size_and_the_chunks(model, batch_size, hop):
    rng = np.random.default_rng(3)
    recordings = [
        (rng.uniform(-1, 1, n) * np.logspace(-3, 0, n)).astype(np.float32)
        for n in (24_001, 100_003, 24_000, 24_000, 60_000)
    ]
    alone = [openavc.get_audio_embedding(recording, 24_000, model, hop_size=hop) for recording in recordings]
    options = {"hop_size": hop, "batch_size": batch_size}
    embeddings, timestamps = openavc.get_audio_embedding(recordings, 24_000, model, **options)
    for (expected, times), embedding, found in zip(alone, embeddings, timestamps, strict=True):
        assert relative_difference(embedding, expected) < 1e-5
        np.testing.assert_array_equal(found, times)
    expected, times = alone[1]
    for chunk in (997, 24_001, 200_000):
        chunks = (recordings[1][start : start + chunk] for start in range(0, 100_003, chunk))
        vectors, found = zip(*openavc.stream_audio_embedding(chunks, 24_000, model, **options), strict=True)
        assert relative_difference(np.stack(vectors), expected) < 1e-5
        np.testing.assert_array_equal(found, times)


@pytest.mark.parametrize("hop", [0.1, 0.13])
@pytest.mark.parametrize("center", [True, False])
def test_a_live_stream_yields_each_window_as_soon_as_it_is_complete(model, hop, center):
    received = 0

    def live():
        nonlocal received
        while True:
            received += 240
            yield np.random.default_rng(received).uniform(-1, 1, 240).astype(np.float32)

    stream = openavc.stream_audio_embedding(live(), 24_000, model, hop_size=hop, center=center, batch_size=1)
    for k, (_, timestamp) in enumerate(itertools.islice(stream, 25)):
        assert timestamp == pytest.approx(k * hop)
        complete = round(timestamp * 24_000) + (12_000 if center else 24_000)
        assert complete <= received < complete + 240


@pytest.mark.parametrize("network", [FakeModel, shares])
def test_a_live_source_may_fill_the_same_buffer_again(network):
    waveform = np.random.default_rng(0).uniform(0.1, 1, 1000).astype(np.float32)

    def refilled():
        buffer = np.empty(20, np.float32)
        for start in range(0, 1000, 20):
            buffer[:] = waveform[start : start + 20]
            yield buffer

    found = np.stack([vector for vector, _ in openavc.stream_audio_embedding(refilled(), 100, network())])
    np.testing.assert_array_equal(found, cut_by_hand(waveform, 0.1, True, 100))


@pytest.mark.parametrize("hop", [np.float32(0.5), np.float16(0.5), np.int8(1), np.int64(1), 1])
def test_a_hop_may_be_any_real_number(model, hop):
    waveform = np.random.default_rng(0).uniform(-1, 1, 24_000 * 4).astype(np.float32)
    _, timestamps = openavc.get_audio_embedding(waveform, 24_000, model, hop_size=hop)
    np.testing.assert_array_equal(timestamps, np.arange(len(timestamps)) * float(hop))
    assert len(timestamps) == 1 + math.ceil(3.5 / float(hop))  # half a second of zeros comes first


def test_windows_of_a_float32_hop_do_not_drift():
    waveform = np.ones(3600 * 100, dtype=np.float32)
    _, timestamps = openavc.get_audio_embedding(waveform, 100, shares(), hop_size=np.float32(0.1))
    expected = np.arange(len(timestamps)) * float(np.float32(0.1))
    assert np.abs(timestamps - expected).max() <= 0.5 / 100


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def test_timestamps_do_not_drift_over_an_hour():
    waveform = np.ones(3600 * 100, dtype=np.float32)
    _, timestamps = openavc.get_audio_embedding(waveform, 100, FakeModel(), hop_size=0.29)
    assert timestamps[-1] > 3598
    assert np.abs(timestamps - np.arange(len(timestamps)) * 0.29).max() <= 1 / 100


@pytest.mark.parametrize("embedding", ["features", "joint"])
def test_embeddings_do_not_depend_on_the_batch_size(model, noise, embedding):
    one, times = openavc.get_audio_embedding(noise, 44_100, model, embedding=embedding, batch_size=1)
    for batch_size in (7, 64):
        many, same = openavc.get_audio_embedding(noise, 44_100, model, embedding=embedding, batch_size=batch_size)
        assert relative_difference(many, one) < 1e-4
        np.testing.assert_array_equal(times, same)


def test_embeddings_do_not_depend_on_the_neighbours(model, noise):
    alone, _ = openavc.get_audio_embedding(noise, 44_100, model)
    loud = np.sign(noise[:50_000])
    lists, times = openavc.get_audio_embedding([loud, noise, loud], [8_000, 44_100, 16_000], model)
    assert [len(item) for item in lists] == [len(item) for item in times]
    assert relative_difference(lists[1], alone) < 1e-4


@pytest.mark.parametrize("convert", [np.float64, np.float32, torch.from_numpy])
def test_int16_and_float_give_the_same(model, noise, convert):
    integers = np.round(noise * 32768).astype(np.int16)
    expected, _ = openavc.get_audio_embedding(integers, 44_100, model)
    embedding, _ = openavc.get_audio_embedding(convert(integers.astype(np.float32) / 32768), 44_100, model)
    assert relative_difference(embedding, expected) < 1e-4


def test_a_file_gives_what_its_samples_give(model, noise, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([noise, -0.5 * noise], axis=1), 44_100, subtype="FLOAT")
    expected, _ = openavc.get_audio_embedding(0.25 * noise, 44_100, model)
    for path in (tmp_path / "a.wav", str(tmp_path / "a.wav")):
        embedding, _ = openavc.get_audio_embedding(path, model=model)
        assert relative_difference(embedding, expected) < 1e-4


@pytest.mark.parametrize("chunk", [441, 10_007, 1_000_000])
def test_streaming_gives_the_whole(model, noise, chunk):
    expected, times = openavc.get_audio_embedding(noise, 44_100, model, hop_size=0.29)
    chunks = (noise[start : start + chunk] for start in range(0, len(noise), chunk))
    stream = list(openavc.stream_audio_embedding(chunks, 44_100, model, hop_size=0.29))
    np.testing.assert_array_equal([time for _, time in stream], times)
    assert relative_difference(np.stack([vector for vector, _ in stream]), expected) < 1e-4


def test_a_stream_may_have_empty_chunks_and_end_with_fewer_samples_than_channels(model, noise):
    stereo = np.stack([noise, noise], axis=1)[:44_101]
    expected, _ = openavc.get_audio_embedding(stereo, 44_100, model)
    chunks = [stereo[:20_000], stereo[:0], stereo[20_000:44_100], stereo[44_100:]]
    stream = [vector for vector, _ in openavc.stream_audio_embedding(chunks, 44_100, model)]
    assert relative_difference(np.stack(stream), expected) < 1e-4


@pytest.mark.parametrize(
    ("dtype", "hint"), [(np.float32, "divide 16-bit samples by 32768"), (np.int64, "astype"), (np.int32, "astype")]
)
def test_16_bit_samples_in_a_wider_type_are_pointed_out(model, noise, dtype, hint):
    with pytest.warns(UserWarning, match=hint):
        openavc.get_audio_embedding((noise * 32768).astype(dtype), 44_100, model)


def test_a_stream_answers_before_its_end(model):
    def endless():
        while True:
            yield np.random.default_rng(0).uniform(-1, 1, 8_000)

    stream = openavc.stream_audio_embedding(endless(), 16_000, model, batch_size=1)
    found = [next(stream) for _ in range(30)]
    np.testing.assert_allclose([time for _, time in found], np.arange(30) * 0.1)


def test_sound_delayed_by_whole_hops_gives_the_embeddings_delayed(model):
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 24_000 * 2).astype(np.float32)
    early, _ = openavc.get_audio_embedding(noise, 24_000, model, center=False)
    late, _ = openavc.get_audio_embedding(
        np.concatenate([np.zeros(2_400 * 5, np.float32), noise]), 24_000, model, center=False
    )
    assert relative_difference(late[5 : 5 + 11], early[:11]) < 1e-4


def test_half_precision_is_near_full(model, noise):
    full, _ = openavc.get_audio_embedding(noise, 44_100, model, hop_size=0.5)
    half, _ = openavc.get_audio_embedding(noise, 44_100, model, hop_size=0.5, dtype="bfloat16")
    assert half.dtype == np.float32
    assert 0 < relative_difference(half, full) < 0.1
    again, _ = openavc.get_audio_embedding(noise, 44_100, model, hop_size=0.5)
    np.testing.assert_array_equal(again, full)  # the caller's model stayed as it was


def test_pictures_do_not_depend_on_neighbours_batch_size_or_dtype(model):
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(0, 256, (5, 70, 90, 3), dtype=np.uint8)
    stack = openavc.get_image_embedding(bytes_, model)
    assert stack.shape == (5, 40)
    single = np.concatenate([openavc.get_image_embedding(picture, model, batch_size=1) for picture in bytes_])
    assert relative_difference(stack, single) < 1e-4
    assert relative_difference(openavc.get_image_embedding(bytes_ / 255, model, batch_size=2), single) < 1e-4
    lists = openavc.get_image_embedding([bytes_[0], bytes_[1:4], bytes_[4]], model)
    assert [len(item) for item in lists] == [1, 3, 1]
    assert relative_difference(np.concatenate(lists), single) < 1e-4


def test_every_stack_of_pictures_has_the_times_of_its_own_frame_rate(model):
    stack = np.zeros((3, 70, 70, 3), dtype=np.uint8)
    (_, slow), (_, fast) = openavc.get_image_embedding([stack, stack], model, frame_rate=[1, 29.97])
    np.testing.assert_allclose(slow, [0, 1, 2])
    np.testing.assert_allclose(fast, np.arange(3) / 29.97)


def test_a_model_asked_for_by_name_is_loaded_once(model, monkeypatch):
    loads = []
    monkeypatch.setattr(arguments, "load_model", lambda name, **_: loads.append(name) or model)
    for _ in range(3):
        openavc.get_image_embedding(np.zeros((70, 70, 3)), "a-name-of-this-test-alone")
    assert loads == ["a-name-of-this-test-alone"]


def test_a_model_asked_for_by_its_file_is_loaded_once_until_the_file_changes(model, tmp_path, monkeypatch):
    loads, path = [], tmp_path / "some-name.safetensors"
    path.touch()
    monkeypatch.setattr(arguments, "load_model", lambda name, **_: loads.append(name) or model)
    for _ in range(3):
        openavc.get_image_embedding(np.zeros((70, 70, 3)), path)
        openavc.get_image_embedding(np.zeros((70, 70, 3)), str(path))
    assert loads == [path]
    os.utime(path, ns=(0, 0))
    openavc.get_image_embedding(np.zeros((70, 70, 3)), path)
    assert loads == [path, path]


def test_the_default_model_embeds_sound_and_pictures_without_a_network(noise, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    embedding, timestamps = openavc.get_audio_embedding(noise, 44_100)
    sizes = openavc.model_info(openavc.list_models()[0])["embedding_size"]
    assert embedding.shape == (len(timestamps), sizes["features"])
    joint = openavc.get_image_embedding(np.zeros((90, 120, 3), np.uint8), embedding="joint")
    assert joint.shape == (1, sizes["joint"])
    np.testing.assert_allclose(np.linalg.norm(joint, axis=1), 1, rtol=1e-5)


# ------------------------------------------------------------------------------------------------- stereo networks


def hears_stereo(**options):
    """Return a stereo network that embeds a second at 100 Hz as its samples, left and right alternating."""
    return FakeModel(SoundInput(100, 1.0, channels=2), **options)


def channels_of(embeddings):
    """Split (T, 200) into left and right, (T, 100) each."""
    return np.reshape(embeddings, (len(embeddings), 100, 2)).transpose(2, 0, 1)


@pytest.fixture
def stereo():
    """Return different noise on the left and the right: (330, 2), in steps that 16 bits can represent."""
    return np.stack([sixteen_bit_noise(330, 0), sixteen_bit_noise(330, 1)], axis=1)


@pytest.mark.parametrize("slice_samples", [None, 5])
@pytest.mark.parametrize("kind", ["array", "tensor", "int16", "wav", "flac", "stream", "stream of one"])
def test_left_and_right_reach_a_stereo_network_unmixed(kind, slice_samples, stereo, tmp_path):
    network = hears_stereo(slice_samples=slice_samples)
    if kind in ("wav", "flac"):
        soundfile.write(tmp_path / f"a.{kind}", stereo, 100)
        found, _ = openavc.get_audio_embedding(tmp_path / f"a.{kind}", model=network)
    elif kind.startswith("stream"):
        step = 1 if kind.endswith("one") else 47
        chunks = (stereo[start : start + step] for start in range(0, 330, step))
        found = np.stack([row for row, _ in openavc.stream_audio_embedding(chunks, 100, network)])
    else:
        converted = {"array": stereo, "tensor": torch.from_numpy(stereo), "int16": (stereo * 32768).astype(np.int16)}
        found, _ = openavc.get_audio_embedding(converted[kind], 100, network)
    for channel, heard in enumerate(channels_of(found)):
        np.testing.assert_allclose(heard, cut_by_hand(stereo[:, channel], 0.1, True, 100), atol=1e-6)


def test_both_channels_are_resampled(stereo):
    found, _ = openavc.get_audio_embedding(stereo, 200, hears_stereo(), center=False)
    for channel, heard in enumerate(channels_of(found)):
        alone, _ = openavc.get_audio_embedding(stereo[:, channel], 200, FakeModel(), center=False)
        np.testing.assert_allclose(heard, alone, atol=1e-6)


@pytest.mark.parametrize("shape", [(330,), (330, 1)])
def test_mono_is_heard_on_both_sides(shape, stereo, tmp_path):
    mono = stereo[:, 0].reshape(shape)
    soundfile.write(tmp_path / "a.wav", mono, 100)
    for source, rate in ((mono, 100), (tmp_path / "a.wav", None)):
        found, _ = openavc.get_audio_embedding(source, rate, hears_stereo())
        for heard in channels_of(found):
            np.testing.assert_allclose(heard, cut_by_hand(stereo[:, 0], 0.1, True, 100), atol=1e-6)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_a_mono_network_hears_the_mean_of_the_channels(channels, tmp_path):
    samples = np.stack([sixteen_bit_noise(330, seed) for seed in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, 100)
    expected = cut_by_hand(samples.mean(axis=1), 0.1, True, 100)
    for source, rate in ((samples, 100), (tmp_path / "a.wav", None)):
        found, _ = openavc.get_audio_embedding(source, rate, FakeModel())
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_network_in_training_mode_embeds_as_in_evaluation_mode_and_stays_as_it_was():
    torch.manual_seed(0)
    network = AVENet(widths=(4, 4, 8, 8), frontend="mel64", image_size=32, joint_size=8).train()
    network.image_tower.eval()  # as a frozen part
    modes = [module.training for module in network.modules()]
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 60_000).astype(np.float32)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found, _ = openavc.get_audio_embedding(sound, 24_000, network)
    again, _ = openavc.get_audio_embedding(sound, 24_000, network, batch_size=3)
    np.testing.assert_allclose(found, again, rtol=1e-4, atol=1e-5)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    expected, _ = openavc.get_audio_embedding(sound, 24_000, copy.deepcopy(network).eval())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
