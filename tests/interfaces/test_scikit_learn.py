"""scikit-learn's transformers: its own checks, the numbers of the functions, and a pipeline that learns."""

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from videos import noise, tone

import openavc
from openavc.weights import build_model
from training.checkpoint import save_weights

pytest.importorskip("sklearn")
NETWORK = {"architecture": "ave", "widths": [4, 4, 8, 8], "frontend": "mel64", "image_size": 64, "one_pass": True}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, build_model(NETWORK), NETWORK)
    return path


@pytest.mark.filterwarnings("ignore")  # its sounds are short
def test_scikit_learn_s_own_checks_pass(weights):
    from sklearn.utils.estimator_checks import check_estimator

    from openavc.sklearn import AudioEmbedder

    rounding = {"check_methods_subset_invariance": "batches of other sizes round float32 otherwise, by 1e-6"}
    checked = check_estimator(AudioEmbedder(str(weights), sr=24_000), expected_failed_checks=rounding)
    assert sum(check["status"] == "passed" for check in checked) > 40


def test_vectors_are_means_of_the_embeddings(model, tmp_path):
    from openavc.sklearn import AudioEmbedder

    sounds = [noise(40_000), noise(24_000)]
    embedder = AudioEmbedder(model, sr=24_000, hop_size=0.5).fit(sounds)
    expected = [openavc.get_audio_embedding(sound, 24_000, model, hop_size=0.5)[0].mean(axis=0) for sound in sounds]
    np.testing.assert_allclose(embedder.transform(sounds), expected, atol=1e-5)
    soundfile.write(tmp_path / "a.wav", sounds[0], 24_000, subtype="FLOAT")
    np.testing.assert_allclose(embedder.transform([tmp_path / "a.wav"]), expected[:1], atol=1e-5)
    np.testing.assert_allclose(embedder.transform(np.stack([sounds[1]])), expected[1:], atol=1e-5)
    assert len(embedder.get_feature_names_out()) == model.embedding_sizes["audio"]["features"]


def test_pictures_become_the_rows_of_their_embeddings(model, tmp_path):
    from openavc.sklearn import ImageEmbedder

    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = ImageEmbedder(model, embedding="joint").fit_transform([pixels, tmp_path / "a.png"])
    assert found.shape == (2, 8)
    expected = openavc.get_image_embedding(pixels, model, embedding="joint")
    np.testing.assert_allclose(found, np.repeat(expected, 2, axis=0), atol=1e-6)


def test_a_pipeline_tells_tones_from_noise(weights):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from openavc.sklearn import AudioEmbedder

    sounds = [tone(300 + number, 1, 24_000) for number in range(6)]
    sounds += [(0.5 + number / 10) * noise(24_000) for number in range(6)]
    classes = np.repeat([0, 1], 6)
    embedder = AudioEmbedder(str(weights), sr=24_000, hop_size=0.5)
    pipeline = make_pipeline(embedder, StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 10.0]}, cv=3).fit(np.stack(sounds), classes)
    assert search.best_score_ == 1.0


def test_what_a_model_lacks_is_told_when_fitting():
    from openavc.sklearn import AudioEmbedder, ImageEmbedder

    with pytest.raises(ValueError, match="avol-small has no embedding 'joint'"):
        AudioEmbedder("avol-small", embedding="joint").fit([np.ones(24_000)])
    with pytest.raises(ValueError, match="multisensory-small doesn't embed image"):
        ImageEmbedder("multisensory-small").fit([])
