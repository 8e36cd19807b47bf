"""HEAR's common API: what HEAR asks for, with the numbers of get_audio_embedding."""

import copy
import functools

import numpy as np
import pytest
import torch
from conftest import with_statistics
from fake_model import FakeModel

import openavc
import openavc.hear
from openavc.media.clips import SoundInput
from openavc.models import OpenL3Towers

SHIPPED = [
    name
    for name, entry in ((name, openavc.model_info(name)) for name in openavc.list_models())
    if "audio" in entry["modalities"] and entry["sources"][0]["type"] == "package"
]
OPENL3 = ["linear", "mel128", "mel256"]  # its spectrograms


@functools.cache
def load(name):
    """Load a model that ships, or make OpenL3's network for sound, with random weights and few channels."""
    if name in SHIPPED:
        return openavc.hear.load_model(name)
    torch.manual_seed(0)
    network = OpenL3Towers(name, widths=(2, 2, 4, 4), modalities=("audio",))
    return openavc.hear.HearModel(with_statistics(network))


def noise(model, seconds, sounds=2):
    """Return sounds (sounds, n_samples)."""
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.rand(sounds, int(seconds * model.sample_rate), generator=generator) - 1


@functools.cache
def embedded(name):
    """Return sounds of 0.92 s, their embeddings and timestamps, and the embeddings of the whole."""
    model = load(name)
    audio = noise(model, 0.92)
    with pytest.warns(UserWarning, match="shorter"):
        return (
            audio,
            *openavc.hear.get_timestamp_embeddings(audio, model),
            openavc.hear.get_scene_embeddings(audio, model),
        )


@pytest.mark.filterwarnings("ignore:.*shorter")
@pytest.mark.parametrize("name", [*SHIPPED, *OPENL3])
def test_embeddings_are_those_of_get_audio_embedding(name):
    model, (audio, embeddings, timestamps, scenes) = load(name), embedded(name)
    for sound, embedding, milliseconds, scene in zip(audio, embeddings, timestamps, scenes, strict=True):
        recording = (sound.numpy(), model.sample_rate, model.network)
        expected, seconds = openavc.get_audio_embedding(*recording, hop_size=0.05)
        torch.testing.assert_close(embedding, torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(milliseconds, 1000 * seconds, atol=1e-9)
        mean = openavc.get_audio_embedding(*recording)[0].mean(axis=0)
        torch.testing.assert_close(scene, torch.from_numpy(mean), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*scenes)


@pytest.mark.parametrize("name", [*SHIPPED, *OPENL3])
def test_a_model_passes_the_checks_of_hearvalidator(name):
    """What the validator asks of torch models; its own needs TensorFlow."""
    model, (audio, embeddings, timestamps, scenes) = load(name), embedded(name)
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate in (16_000, 22_050, 44_100, 48_000)
    assert type(model.scene_embedding_size) is type(model.timestamp_embedding_size) is int
    assert embeddings.dtype == scenes.dtype == torch.float32
    assert timestamps.shape == (len(audio), 1 + 9)  # 0.5 s of zeros and 0.92 s, in windows of 1 s every 50 ms
    assert embeddings.shape == (*timestamps.shape, model.timestamp_embedding_size)
    assert scenes.shape == (len(audio), model.scene_embedding_size)
    intervals = timestamps.diff()
    assert (intervals <= 50).all()
    assert ((intervals - intervals.mean()).abs() < 1e-3).all()


def test_intervals_are_equal_where_50_ms_are_no_whole_samples():
    model = openavc.hear.HearModel(FakeModel(SoundInput(22_050, 0.1)))
    _, timestamps = openavc.hear.get_timestamp_embeddings(noise(model, 1), model)
    np.testing.assert_allclose(timestamps.diff(), 1000 * 1102 / 22_050)


def test_the_models_that_ship_are_tested():
    assert {"ave-small", "avol-small"} <= set(SHIPPED)


def test_an_empty_path_is_the_default_model_and_another_path_a_file():
    assert openavc.hear.load_model().network.name == openavc.load_model().name
    path = openavc.weights.locate("avol-small")[1]
    assert openavc.hear.load_model(str(path)).network.sha256 == openavc.load_model("avol-small").sha256


def test_a_model_moves_between_dtypes_as_a_whole(model):
    moved = openavc.hear.HearModel(copy.deepcopy(model)).to(torch.float64)
    embeddings, _ = openavc.hear.get_timestamp_embeddings(noise(moved, 1), moved)
    assert (moved.network.dtype, embeddings.dtype) == (torch.float64, torch.float32)


def test_a_model_without_sound_alone_is_refused():
    with pytest.raises(ValueError, match="multisensory-small doesn't embed audio"):
        openavc.hear.load_model("multisensory-small")


def test_what_is_no_batch_of_sounds_is_refused(model):
    hear = openavc.hear.HearModel(model)
    for embed in (openavc.hear.get_timestamp_embeddings, openavc.hear.get_scene_embeddings):
        with pytest.raises(TypeError, match="got ndarray"):
            embed(np.zeros((2, 100), dtype=np.float32), hear)
        for shape in ((100,), (0, 100), (2, 1, 100)):
            with pytest.raises(ValueError, match=rf"n_samples.*got \({shape[0]},"):
                embed(torch.zeros(shape), hear)
        with pytest.raises(ValueError, match="NaN"):
            embed(torch.full((2, 100), torch.nan), hear)
        with pytest.raises(TypeError, match=r"openavc.hear.load_model returned, got AVENet"):
            embed(torch.zeros(2, 100), model)
