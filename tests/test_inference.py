"""Windows, batches and streams: the same numbers however the work is cut."""

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import openavc
from openavc import inference


class Identity(nn.Module):
    """Embeds a window as itself: 1 s at 100 Hz."""

    sample_rate, window_seconds, window_samples = 100, 1.0, 100
    embeddings, name = ("features",), "identity"

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def prepare_audio(self, waveforms):
        return waveforms

    def embed_audio(self, windows, embedding):
        return windows


@pytest.fixture
def noise():
    return np.random.default_rng(0).uniform(-0.5, 0.5, 44_100 * 3 + 17).astype(np.float32)


def relative_difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("hop", [0.1, 0.29, 1.0, 2.5])
@pytest.mark.parametrize("samples", [1, 99, 100, 101, 250, 1234])
def test_windows_are_those_cut_by_hand(samples, hop, center):
    waveform = np.random.default_rng(samples).uniform(0.1, 1, samples).astype(np.float32)
    padded = np.concatenate([np.zeros(50 if center else 0, np.float32), waveform])
    count = max(1, 1 + int(np.ceil(round((len(padded) - 100) / (hop * 100), 9))))
    padded = np.concatenate([padded, np.zeros(1000, np.float32)])
    expected = np.stack([padded[round(k * hop * 100) :][:100] for k in range(count)])
    with pytest.warns(UserWarning) if samples < 100 else _nothing():
        embedding, timestamps = openavc.get_audio_embedding(waveform, 100, Identity(), hop_size=hop, center=center)
    np.testing.assert_array_equal(embedding, expected)
    np.testing.assert_allclose(timestamps, np.arange(count) * hop, atol=0.5 / 100)
    assert timestamps.dtype == np.float64
    assert embedding.dtype == np.float32


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def test_timestamps_do_not_drift_over_an_hour():
    waveform = np.ones(3600 * 100, dtype=np.float32)
    _, timestamps = openavc.get_audio_embedding(waveform, 100, Identity(), hop_size=0.29)
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
    monkeypatch.setattr(inference, "_loaded", {})
    monkeypatch.setattr(inference, "load_model", lambda name, **_: loads.append(name) or model)
    for _ in range(3):
        openavc.get_image_embedding(np.zeros((70, 70, 3)), "some-name")
    assert loads == ["some-name"]


def test_the_default_model_embeds_sound_and_pictures_without_a_network(noise, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    embedding, timestamps = openavc.get_audio_embedding(noise, 44_100)
    sizes = openavc.model_info(openavc.list_models()[0])["embedding_size"]
    assert embedding.shape == (len(timestamps), sizes["features"])
    joint = openavc.get_image_embedding(np.zeros((90, 120, 3), np.uint8), embedding="joint")
    assert joint.shape == (1, sizes["joint"])
    np.testing.assert_allclose(np.linalg.norm(joint, axis=1), 1, rtol=1e-5)
