"""Classifiers on frozen embeddings of sounds whose classes are known: esc and dcase."""

import csv
import json
import shutil

import numpy as np
import pytest
import soundfile
from evaluations import evaluate, save_network
from fake_model import FakeModel

from openavc.models.contract import SoundInput
from training.evaluate import esc
from training.evaluate.datasets.dcase import read_dcase
from training.evaluate.datasets.esc import deal_folds, read_esc
from training.evaluate.metrics import probes
from training.evaluate.reporting import sound_probe


@pytest.fixture
def weights(tmp_path):
    return save_network(tmp_path / "tiny.safetensors")


@pytest.fixture
def dataset(tmp_path):
    """Write tones of three pitches in three folds, in ESC's layout."""
    rng, rows = np.random.default_rng(0), []
    for fold in (1, 2, 3):
        for name, pitch in (("low", 200), ("middle", 900), ("high", 4000)):
            for take in range(4):
                time = np.arange(2 * 16_000) / 16_000
                sound = np.sin(2 * np.pi * pitch * rng.uniform(0.97, 1.03) * time) * rng.uniform(0.4, 0.6)
                filename = f"{fold}-{name}-{take}.wav"
                (tmp_path / name).mkdir(exist_ok=True)
                soundfile.write(tmp_path / name / filename, sound + 0.01 * rng.standard_normal(len(time)), 16_000)
                rows.append({"filename": filename, "fold": fold, "class": name})
    with open(tmp_path / "meta.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["filename", "fold", "class"])
        writer.writeheader()
        writer.writerows(rows)
    return read_esc(tmp_path)


def test_easy_classes_are_told_apart_by_log_mel_statistics(dataset):
    assert (len(dataset.paths), dataset.classes) == (36, ["high", "low", "middle"])
    figures = esc.probe(sound_probe.log_mel_statistics(dataset), dataset)
    assert all(len(folds) == 3 for folds in figures.values())
    assert all(np.mean(folds) > 95 for folds in figures.values())


def test_esc_50_is_read_as_it_is_downloaded(tmp_path):
    for folder in ("audio", "meta"):
        (tmp_path / folder).mkdir()
    names = ["1-100032-A-0.wav", "2-100210-B-36.wav"]
    for name in names:
        soundfile.write(tmp_path / "audio" / name, np.zeros(16_000), 16_000)
    table = tmp_path / "meta/esc50.csv"
    header = "filename,fold,target,category,esc10,src_file,take\n"
    table.write_text(f"{header}{names[0]},1,0,dog,True,100032,A\n{names[1]},2,36,vacuum_cleaner,False,100210,B\n")
    recordings = read_esc(tmp_path)
    assert [path.name for path in recordings.paths] == names
    assert recordings.classes == ["dog", "vacuum_cleaner"]
    assert list(recordings.folds) == [1, 2]
    (tmp_path / "audio" / names[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"2-100210-B-36\.wav, named in .*esc50\.csv"):
        read_esc(tmp_path)
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"neither meta\.csv nor meta/esc50\.csv"):
        read_esc(tmp_path)


def test_random_features_are_at_chance(dataset):
    rng = np.random.default_rng(1)
    features = [rng.standard_normal((3, 16)) for _ in dataset.paths]
    figures = esc.probe(features, dataset)
    assert all(np.mean(folds) < 60 for folds in figures.values())


def test_statistics_of_the_test_fold_are_not_used():
    features = [np.array([[0.0], [2.0]]), np.array([[100.0], [100.0]])]
    train = np.array([True, False])
    standardised = probes.standardised(features, train)
    np.testing.assert_allclose(standardised[0], [[-1], [1]], atol=1e-6)
    np.testing.assert_allclose(standardised[1], [[99], [99]], rtol=1e-6)


@pytest.mark.parametrize("c", [1e-4, 1e-2, 1e-1])
@pytest.mark.parametrize("classes", [2, 7])
def test_classes_fitted_at_once_are_those_of_scikit_learn(classes, c):
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(classes), 40)
    windows = (rng.normal(size=(classes, 30))[targets] / 2 + rng.normal(size=(len(targets), 30))).astype(np.float32)
    weights, bias = probes.fit_svm(windows, targets, c, flat=1e-7)
    reference = LinearSVC(C=c, dual=True, tol=1e-7, max_iter=10**5, random_state=0).fit(windows, targets)
    expected = reference.decision_function(windows)
    expected = expected if classes > 2 else np.stack([-expected, expected], axis=1)
    np.testing.assert_allclose(windows @ weights + bias, expected, atol=2e-3)


def test_an_svm_score_is_the_mean_over_the_windows_of_a_clip():
    """One extreme window can't outvote two ordinary ones by number, but it does by score."""
    features = [np.full((3, 1), -1.0), np.full((3, 1), 1.0), np.array([[-1.0], [-1.0], [9.0]])]
    labels, train = np.array([0, 1, 1]), np.array([True, True, False])
    assert probes.svm_accuracy(features, labels, train, ~train) == 1.0


def test_the_esc_probe_is_written_as_json_with_folds_and_baselines(weights, dataset, tmp_path):
    result = evaluate("esc", "--model", weights, "--data", tmp_path, "--json", tmp_path / "esc.json")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "esc.json").read_text())
    assert len(figures["folds"]["5-NN"]) == 3
    assert len(figures["untrained"]["SVM"]) == 5
    assert "log-mel" in result.output
    assert "81.3" in result.output  # people, on ESC-50
    assert "can't be compared" in result.output


def test_the_papers_protocol_gives_one_figure_a_fold(weights, dataset, tmp_path):
    options = ("--protocol", "paper", "--untrained-seeds", 2, "--json", tmp_path / "esc.json")
    result = evaluate("esc", "--model", weights, "--data", tmp_path, *options)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "esc.json").read_text())
    assert len(figures["folds"]["SVM, C chosen"]) == 3
    assert len(figures["untrained"]["SVM, C chosen"]) == 2
    assert np.mean(figures["log_mel"]["SVM, C chosen"]) > 95


def test_windows_are_evenly_spaced_from_the_first_sample_to_the_last():
    windows = sound_probe.evenly_spaced(np.arange(5 * 48_000)[:, None], 48_000, 10)
    assert windows.shape == (10, 48_000, 1)
    assert (windows[0, 0], windows[-1, -1]) == (0, 5 * 48_000 - 1)
    np.testing.assert_allclose(np.diff(windows[:, 0, 0]), 4 * 48_000 / 9, atol=1)
    np.testing.assert_array_equal(sound_probe.evenly_spaced(np.ones((3, 1)), 5, 2)[..., 0], [[1, 1, 1, 0, 0]] * 2)


def test_features_of_evenly_spaced_windows_are_those_of_the_model(dataset):
    """The network hears stereo but the sounds are mono, so both channels are alike."""
    model = FakeModel(SoundInput(8_000, 0.5, channels=2), None)
    features = sound_probe.embed_recordings(model, dataset, windows=3)
    assert [found.shape for found in features] == [(3, 2 * 4_000)] * 36
    sound = features[0].reshape(3, 4_000, 2)
    np.testing.assert_array_equal(sound[..., 0], sound[..., 1])
    hop = sound_probe.embed_recordings(model, dataset)
    assert [found.shape for found in hop] == [(4, 2 * 4_000)] * 36


def test_a_network_that_hears_nothing_is_refused(dataset):
    model = FakeModel()
    model.embedding_sizes = {"image": {"features": 4}}
    with pytest.raises(ValueError, match="doesn't embed audio"):
        sound_probe.embed_recordings(model, dataset, windows=3)


def test_c_is_chosen_on_the_training_folds_alone():
    """Training labels are noisy, so a small C generalises; test labels are the predictions of the largest C."""
    rng = np.random.default_rng(0)
    classes = np.tile([0, 1], 120)
    signal = (2 * classes - 1)[:, None] * np.full(30, 0.15)
    features = [row[None] for row in signal + rng.standard_normal((240, 30))]
    labels, folds = classes.copy(), np.repeat([1, 2, 3, 4], 60)
    train, test = folds != 4, folds == 4
    best = probes.choose_c(features, labels, folds, train)
    assert best < max(probes.CANDIDATES)
    windows = np.concatenate(probes.standardised(features, train))
    from sklearn.svm import LinearSVC

    hard = LinearSVC(C=max(probes.CANDIDATES), random_state=0).fit(windows[train], labels[train])
    labels[test] = hard.predict(windows[test])
    accuracy = {c: probes.svm_accuracy(features, labels, train, test, c) for c in probes.CANDIDATES}
    assert accuracy[max(probes.CANDIDATES)] == 1.0 > accuracy[best]  # looking at the test fold would choose another
    assert probes.choose_c(features, labels, folds, train) == best
    with pytest.raises(ValueError, match="at least two"):
        probes.choose_c(features, labels, folds, folds == 1)


def test_recordings_of_one_class_are_dealt_out_and_kept_whole():
    folds = deal_folds(["a", "a", "b", "c", "d", "e"], ["x", "x", "x", "x", "y", "y"])
    assert folds == [0, 0, 1, 2, 0, 1]


SCENES = {"bus": 150, "park": 700, "tubestation": 3000}


def scene_clip(path, scene, rng):
    """Write two seconds of a tone that only this scene has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(2 * 16_000) / 16_000
    sound = 0.5 * np.sin(2 * np.pi * SCENES[scene] * rng.uniform(0.97, 1.03) * time)
    soundfile.write(path, sound + 0.01 * rng.standard_normal(len(time)), 16_000)


@pytest.fixture
def scenes(tmp_path):
    """Write DCASE2014's own layout, with 5 clips per scene for training and 2 for testing."""
    rng = np.random.default_rng(0)
    for scene in SCENES:
        for number in range(1, 6):
            scene_clip(tmp_path / "scenes_stereo" / f"{scene}{number:02d}.wav", scene, rng)
        for number in (1, 2):
            scene_clip(tmp_path / "scenes_stereo_testset" / f"{scene}{number:02d}.wav", scene, rng)
    return tmp_path


def test_scenes_are_read_from_the_names_in_both_folders(scenes):
    read = read_dcase(scenes)
    assert read.classes == ["bus", "park", "tubestation"]
    assert [path.parent.name for path in read.paths] == ["scenes_stereo"] * 15 + ["scenes_stereo_testset"] * 6
    assert np.array_equal(read.folds == 0, [False] * 15 + [True] * 6)
    for label in range(3):  # the parts that C is chosen on have a clip of each scene
        assert sorted(read.folds[(read.labels == label) & (read.folds > 0)]) == [1, 2, 3, 4, 5]


def test_a_table_of_scenes_gives_the_same_as_the_folders(scenes):
    named = read_dcase(scenes)
    with open(scenes / "meta.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "split", "class"])
        for path, label, fold in zip(named.paths, named.labels, named.folds, strict=True):
            writer.writerow([path.relative_to(scenes), "train" if fold else "test", named.classes[label]])
    listed = read_dcase(scenes)
    assert (listed.paths, listed.classes) == (named.paths, named.classes)
    np.testing.assert_array_equal(listed.labels, named.labels)
    np.testing.assert_array_equal(listed.folds, named.folds)
    (scenes / "meta.csv").write_text("filename,split,class\nscenes_stereo/bus01.wav,validation,bus\n")
    with pytest.raises(ValueError, match="validation"):
        read_dcase(scenes)


def test_scenes_that_cannot_be_read_are_refused(scenes):
    (scenes / "scenes_stereo" / "bus01.wav").rename(scenes / "scenes_stereo" / "recording.wav")
    with pytest.raises(ValueError, match="recording"):
        read_dcase(scenes)
    (scenes / "scenes_stereo" / "recording.wav").rename(scenes / "scenes_stereo" / "office01.wav")
    with pytest.raises(ValueError, match="no test clips of office"):
        read_dcase(scenes)
    shutil.rmtree(scenes / "scenes_stereo_testset")
    with pytest.raises(FileNotFoundError, match="none are in scenes_stereo_testset"):
        read_dcase(scenes)


def test_scenes_are_told_apart_and_printed_beside_the_papers(scenes, weights):
    result = evaluate(
        "dcase", "--model", weights, "--data", scenes, "--untrained-seeds", 2, "--json", scenes / "d.json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads((scenes / "d.json").read_text())["log_mel"]["SVM, C chosen"] == [100.0]
    assert "L3-Net, random weights" in result.output
    assert "can't be compared" in result.output
