"""PE-AV equals transformers' own processor and model: sound, frames, text and scores, however they come in."""

import copy
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_pe_av import RATE, SIDE, require_pe_av, write_tiny_pe_av
from videos import noise, write_video

import openavc
from openavc.media.clips import frames_around
from openavc.media.video import read_frames

CLOSE = {"rtol": 0, "atol": 1e-5}
WINDOW, HOP = 2 * RATE, 1_920  # samples, of a window and of a token of the codec


@pytest.fixture(scope="module", autouse=True)
def _needed():
    require_pe_av()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_pe_av(tmp_path_factory.mktemp("models") / "tiny-pe-av")


@pytest.fixture(scope="module")
def model(folder):
    return openavc.load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def theirs(folder):
    """Return transformers' own model and processor, as AutoProcessor and from_pretrained give them."""
    from transformers import AutoProcessor, PeAudioVideoModel

    network, processor = PeAudioVideoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    parts = {name: getattr(processor, name) for name in ("feature_extractor", "video_processor", "tokenizer")}
    return SimpleNamespace(network=network, **parts)


@pytest.fixture(scope="module")
def exact(folder, theirs):
    """Return both in float64: in float32 the codec's sums differ by 2e-5 on some processors."""
    double = SimpleNamespace(**vars(theirs) | {"network": copy.deepcopy(theirs.network).double()})
    return openavc.load_model(folder, device="cpu", dtype="float64"), double


def sound(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def heard(theirs, windows, embedding="joint"):
    """Embed windows as transformers does: (B, D)."""
    inputs = theirs.feature_extractor(list(windows), sampling_rate=RATE, return_tensors="pt")
    inputs["input_values"] = inputs["input_values"].to(theirs.network.dtype)
    with torch.inference_mode():
        if embedding == "joint":
            return theirs.network.get_audio_embeds(**inputs).numpy()
        return theirs.network.audio_model.audio_encoder(**inputs).pooler_output.numpy()


def seen(theirs, clips, embedding="joint"):
    """Embed clips (T, H, W, 3), uint8, as transformers does: (B, D)."""
    inputs, dtype = theirs.video_processor(list(clips), return_tensors="pt"), theirs.network.dtype
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(dtype)
    with torch.inference_mode():
        if embedding == "joint":  # transformers gives it only beside sound
            silence = torch.zeros(len(clips), 1, HOP, dtype=dtype)
            return theirs.network(input_values=silence, **inputs).video_embeds.numpy()
        return theirs.network.video_model.video_encoder(**inputs).pooler_output.numpy()


# ----------------------------------------------------------------------------------------------------------- sound


@pytest.mark.parametrize("embedding", ["features", "joint"])
def test_a_window_of_sound_equals_transformers(exact, embedding):
    (model, theirs), waveform = exact, sound(2)
    found, timestamps = openavc.get_audio_embedding(waveform, RATE, model, embedding=embedding, center=False)
    np.testing.assert_allclose(found, heard(theirs, [waveform], embedding), **CLOSE)
    assert timestamps.tolist() == [0]
    assert found.shape[1] == model.embedding_sizes["audio"][embedding]


def test_windows_of_recordings_in_a_list_and_of_a_stream_equal_transformers(exact):
    model, theirs = exact
    long, short = sound(4.5), sound(0.7, seed=1)
    cut = [np.resize(long[k * RATE :], WINDOW) if k < 3 else None for k in range(3)]
    last = np.pad(long[3 * RATE :], (0, WINDOW - round(1.5 * RATE)))
    expected = heard(theirs, [*cut, last])
    options = {"embedding": "joint", "center": False}
    with pytest.warns(UserWarning, match="shorter than one window"):
        found, timestamps = openavc.get_audio_embedding([long, short], RATE, model, batch_size=3, **options)
    assert [times.tolist() for times in timestamps] == [[0, 1, 2, 3], [0]]
    np.testing.assert_allclose(found[0], expected, **CLOSE)
    np.testing.assert_allclose(found[1], heard(theirs, [np.pad(short, (0, WINDOW - len(short)))]), **CLOSE)
    stream = openavc.stream_audio_embedding(np.array_split(long, 7), RATE, model, batch_size=1, **options)
    np.testing.assert_allclose([row for row, _ in stream], expected, **CLOSE)


def test_the_window_at_the_start_is_centred_and_padded(exact):
    (model, theirs), waveform = exact, sound(1.5)
    with pytest.warns(UserWarning, match="shorter than one window"):
        found, _ = openavc.get_audio_embedding(waveform, RATE, model, embedding="joint")
    first = np.concatenate([np.zeros(RATE, np.float32), waveform[:RATE]])
    np.testing.assert_allclose(found[:1], heard(theirs, [first]), **CLOSE)


def test_windows_that_are_no_multiple_of_the_codecs_hop_are_reflected_as_transformers_does(folder, theirs):
    half = openavc.load_model(folder, device="cpu", seconds=0.5)
    waveform = sound(0.5)  # 12.5 hops of 1,920 samples
    found, _ = openavc.get_audio_embedding(waveform, RATE, half, embedding="joint", center=False)
    np.testing.assert_allclose(found, heard(theirs, [waveform]), **CLOSE)
    assert (half.sound.hop, half.options) == (0.25, {"seconds": 0.5})


# ---------------------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("size", [(SIDE, SIDE), (40, 60), (20, 90), (16, 12)])
@pytest.mark.parametrize("embedding", ["features", "joint"])
def test_a_picture_equals_a_clip_of_one_frame(model, theirs, size, embedding):
    image = picture(*size)
    expected = seen(theirs, [image[None]], embedding)
    for same in (image, image / np.float32(255), image.astype(np.uint16) * 257, torch.from_numpy(image)):
        np.testing.assert_allclose(
            openavc.get_image_embedding(same, model, embedding=embedding), expected, **CLOSE, err_msg=str(type(same))
        )


def test_pictures_in_stacks_and_lists_equal_transformers(model, theirs):
    images = [picture(30, 40, seed) for seed in range(5)]
    expected = seen(theirs, [image[None] for image in images])
    stacked = openavc.get_image_embedding(np.stack(images), model, embedding="joint", batch_size=2)
    listed = openavc.get_image_embedding(images, model, embedding="joint", batch_size=3)
    np.testing.assert_allclose(stacked, expected, **CLOSE)
    np.testing.assert_allclose(np.concatenate(listed), expected, **CLOSE)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Write 3 s of noise, seen and heard."""
    path = tmp_path_factory.mktemp("videos") / "noise.mkv"
    pictures = [np.kron(picture(6, 8, seed), np.ones((8, 8, 1), np.uint8)) for seed in range(30)]
    write_video(path, np.arange(30) / 10, sound=noise(3 * RATE), rate=RATE, pictures=pictures)
    return path


def test_clips_of_a_video_and_the_sound_around_them_equal_transformers(exact, video):
    model, theirs = exact
    found = openavc.get_video_embedding(video, model, embedding="joint")
    assert found.timestamps.tolist() == [0, 1, 2]  # one a hop
    times, frames = map(np.array, zip(*read_frames(video), strict=True))
    clips = [frames[frames_around(times, time, 16, 8.0)] for time in found.timestamps]
    np.testing.assert_allclose(found.image, seen(theirs, clips), **CLOSE)
    padded = np.pad(noise(3 * RATE), RATE)
    np.testing.assert_allclose(found.audio, heard(theirs, [padded[k * RATE :][:WINDOW] for k in range(3)]), **CLOSE)


def test_forms_of_exactly_16_frames_see_a_picture_16_times_as_their_own_processor_gives_it(tmp_path, theirs):
    fixed = openavc.load_model(write_tiny_pe_av(tmp_path / "fixed", num_frames=16), device="cpu")
    image = picture(30, 40)
    found = openavc.get_image_embedding(image, fixed, embedding="joint")
    np.testing.assert_allclose(found, seen(theirs, [np.repeat(image[None], 16, axis=0)]), **CLOSE)
    assert not np.allclose(found, seen(theirs, [image[None]]), atol=1e-3)
    with pytest.raises(ValueError, match="takes 16 frames, not 8"):
        openavc.load_model(tmp_path / "fixed", frames=8)


# ------------------------------------------------------------------------------------------------ text and scores


TEXTS = ["a dog barks", "rain", "rain falls on the roof", "dog"]


def outputs(theirs, waveforms, images, texts):
    """Return all that transformers' model gives for sounds, pictures and texts at once."""
    inputs = {
        **theirs.feature_extractor(waveforms, sampling_rate=RATE, return_tensors="pt"),
        **theirs.video_processor([image[None] for image in images], return_tensors="pt"),
        **theirs.tokenizer(texts, padding=True, return_tensors="pt"),
    }
    with torch.inference_mode():
        return theirs.network(**inputs)


@pytest.fixture(scope="module")
def together(theirs):
    waveforms, images = [sound(2, seed) for seed in range(4)], [picture(30, 40, seed) for seed in range(4)]
    return waveforms, images, outputs(theirs, waveforms, images, TEXTS)


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_text_has_the_vector_that_transformers_compares_with_sound_or_with_video(model, together, modality):
    given = together[2]
    expected = given.text_audio_embeds if modality == "audio" else given.text_video_embeds
    found = openavc.get_text_embedding(TEXTS, model, modality=modality)
    np.testing.assert_allclose(found, expected, **CLOSE)
    for text, row in zip(TEXTS, found, strict=True):  # however long its neighbours are
        np.testing.assert_allclose(openavc.get_text_embedding(text, model, modality=modality), row[None], **CLOSE)


def test_scores_are_the_sigmoid_of_transformers_logits(model, together):
    waveforms, images, given = together
    expected = given.logits_audio_video.sigmoid().numpy()
    matrix = openavc.correspondence_matrix(waveforms, RATE, images, model)
    np.testing.assert_allclose(matrix, expected, **CLOSE)
    pairs = openavc.correspondence_score(waveforms, RATE, images, model)
    np.testing.assert_allclose(pairs, np.diag(expected), **CLOSE)
    assert openavc.correspondence_score(waveforms[0], RATE, images[1], model) == pytest.approx(expected[0, 1], abs=1e-5)
    assert np.ptp(expected) > 0.05  # scores that were all the same would prove nothing


def test_video_scores_are_the_sigmoid_of_the_products_of_the_embeddings(model, theirs, video):
    scores, timestamps = openavc.video_scores(video, model)
    found = openavc.get_video_embedding(video, model, embedding="joint")
    network = theirs.network
    logits = (found.audio * found.image).sum(axis=1) * network.audio_video_logit_scale.item()
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits - network.audio_video_logit_bias.item())), **CLOSE)
    assert timestamps.tolist() == found.timestamps.tolist()


def test_similarity_of_all_with_all_equals_comparing_each_pair(model):
    torch.manual_seed(0)
    frames, audio = torch.randn(3, 16), torch.randn(2, 16)
    logits = model.similarity(frames, audio)
    for n, m in np.ndindex(3, 2):
        alone = model.compare(frames[n][None], audio[m][None])[0]
        assert alone.tolist() == pytest.approx([0, logits[n, m].item()], abs=1e-5)


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "options", "error", "words"),
    [
        ("rain", {"model": None}, ValueError, "ave-natural doesn't embed text; these models do: 'pe-av-small'"),
        ("rain", {"modality": "smell"}, ValueError, "'audio' or 'image'.*'smell'"),
        ([], {}, ValueError, "list of texts is empty"),
        (["rain", " "], {}, ValueError, "empty"),
        (7, {}, TypeError, "got int"),
        (["rain", b"dog"], {}, TypeError, "got bytes"),
    ],
)
def test_texts_that_cannot_be_embedded_are_refused(model, text, options, error, words):
    with pytest.raises(error, match=words):
        openavc.get_text_embedding(text, **{"model": model} | options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seconds": 0}, "seconds.*got 0"),
        ({"frames": 2.5}, "frames.*got 2.5"),
        ({"hop": 1}, "no option 'hop'; it has seconds, frames"),
    ],
)
def test_options_that_no_window_can_have_are_refused(folder, options, words):
    with pytest.raises(ValueError, match=words):
        openavc.load_model(folder, **options)


def test_a_missing_package_is_named_with_the_command_that_installs_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r'pip install "openavc\[pe-av\]".*timm'):
        openavc.load_model(folder)


def cut(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def without_a_tensor(folder):
    change_tensors(folder, lambda tensors: tensors.pop("audio_video_logit_scale"))


def not_a_number(folder):
    change_tensors(folder, lambda tensors: tensors["audio_video_logit_bias"].fill_(float("nan")))


def change_tensors(folder, change):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        (lambda folder: (folder / "tokenizer.json").write_text("{"), OSError, "tokenizer.json is damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), FileNotFoundError, "lacks model.safetensors or"),
        (lambda folder: (folder / "processor_config.json").unlink(), FileNotFoundError, "lacks processor_config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), OSError, "config.json is damaged"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), ValueError, "type 'bert'"),
        (cut, OSError, "not safetensors, or are cut short"),
        (without_a_tensor, ValueError, "missing tensor audio_video_logit_scale"),
        (not_a_number, ValueError, "audio_video_logit_bias' holds NaN"),
    ],
)
def test_damaged_folders_are_refused(folder, tmp_path, harm, error, words):
    copy = shutil.copytree(folder, tmp_path / "tiny")
    harm(copy)
    with pytest.raises(error, match=words) as caught:
        openavc.load_model(copy, device="cpu")
    assert str(copy) in str(caught.value)
