"""Evaluations on data whose answer is known."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from torch import nn

from openavc import get_image_embedding
from openavc.models.layers import AudioVisualNet
from openavc.weights import build_model, load_model
from training.checkpoint import save_weights
from training.data import Shards, encode_clip
from training.evaluate import correspondence, dcase, esc, images, probes, published, units
from training.evaluate.__main__ import main as evaluate_main
from training.prepare import Settings, Video, prepare

EXAMPLE = Path(__file__).parent.parent / "examples" / "freedoom.mp4"


class Cosine(nn.Module):
    """Compares by the dot product."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def compare(self, image, audio):
        similarity = (image * audio).sum(dim=1)
        return torch.stack([-similarity, similarity], dim=1)


def pairs(image, audio, per_clip=4):
    return correspondence.Represented(image, audio, np.arange(len(image)) // per_clip)


def test_a_perfect_model_is_always_right():
    vectors = np.eye(480, dtype=np.float32)
    figures = correspondence.avc(Cosine(), pairs(2 * vectors - 0.002, vectors), seed=0)
    for name in ("own decision", "threshold", "2AFC other clip", "2AFC same clip", "AUC"):
        assert figures[name] == 100
    assert figures["mean score of true pairs"] > 0.9 > 0.6 > figures["mean score of mismatched pairs"]
    ranks = correspondence.retrieval(Cosine(), pairs(vectors, vectors), seed=0, draws=2)
    assert set(ranks.values()) == {100.0}


def test_a_model_that_knows_nothing_is_at_chance():
    rng = np.random.default_rng(0)
    blind = pairs(*rng.standard_normal((2, 2000, 8)).astype(np.float32))
    figures = correspondence.avc(Cosine(), blind, seed=0)
    for name in ("own decision", "threshold", "2AFC other clip", "2AFC same clip", "AUC"):
        assert figures[name] == pytest.approx(50, abs=4)
    ranks = correspondence.retrieval(Cosine(), blind, seed=0, draws=20)
    assert ranks["mean R@1"] == pytest.approx(1, abs=0.8)
    assert ranks["mean R@10"] == pytest.approx(10, abs=2)


def test_a_model_that_gives_one_score_to_all_gains_nothing_by_ties():
    constant = pairs(np.ones((400, 2), np.float32), np.ones((400, 2), np.float32))
    figures = correspondence.avc(Cosine(), constant, seed=0)
    assert (figures["own decision"], figures["2AFC other clip"], figures["AUC"]) == (50, 50, 50)
    ranks = correspondence.retrieval(Cosine(), constant, seed=0, draws=1)
    assert [ranks[f"mean R@{k}"] for k in (1, 5, 10)] == pytest.approx([1, 5, 10])


def test_a_model_that_knows_only_the_clip_fails_on_negatives_of_the_same_clip():
    clip = np.repeat(np.eye(120, dtype=np.float32), 4, axis=0)
    figures = correspondence.avc(Cosine(), pairs(clip, clip), seed=0)
    assert figures["2AFC other clip"] == 100
    assert figures["2AFC same clip"] == 50


@pytest.fixture
def dataset(tmp_path):
    """Tones of three pitches in three folds, in ESC's layout."""
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
    return esc.read_dataset(tmp_path)


def test_easy_classes_are_told_apart_by_log_mel_statistics(dataset):
    assert (len(dataset.paths), dataset.classes) == (36, ["high", "low", "middle"])
    figures = esc.probe(esc.log_mel_statistics(dataset), dataset)
    assert all(len(folds) == 3 for folds in figures.values())
    assert all(np.mean(folds) > 95 for folds in figures.values())


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


def test_an_svm_score_is_the_mean_over_the_windows_of_a_clip():
    """One wild window may not outvote two plain ones by number, but by score it does."""
    features = [np.full((3, 1), -1.0), np.full((3, 1), 1.0), np.array([[-1.0], [-1.0], [9.0]])]
    labels, train = np.array([0, 1, 1]), np.array([True, True, False])
    assert probes.svm_accuracy(features, labels, train, ~train) == 1.0


def test_the_untrained_network_differs_from_seed_to_seed_and_repeats():
    from training.evaluate.__main__ import untrained

    architecture = {"architecture": "ave", "widths": [4, 4, 4, 4], "frontend": "mel64", "image_size": 16}
    model = build_model(architecture)
    model.architecture = architecture
    first, again, other = (untrained(model, seed) for seed in (0, 0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.audio_tower.layers[0].weight, other.audio_tower.layers[0].weight)
    assert not first.training


@pytest.fixture
def weights(tmp_path):
    architecture = {"architecture": "ave", "widths": [4, 4, 4, 4], "frontend": "mel64", "image_size": 16}
    save_weights(tmp_path / "tiny.safetensors", build_model(architecture), architecture)
    return tmp_path / "tiny.safetensors"


def evaluate(*arguments):
    return CliRunner().invoke(evaluate_main, ["--threads", "1", *map(str, arguments)])


def test_avc_is_printed_beside_untrained_and_chance_and_written_as_json(weights, tmp_path):
    settings = Settings(4, 8, 32, 24_000, "wav", 90)
    prepare([Video(str(EXAMPLE))], tmp_path / "shards", settings, workers=1)
    shutil.copy(EXAMPLE, tmp_path / "other.mp4")
    prepare([Video(str(tmp_path / "other.mp4"))], tmp_path / "more", settings, workers=1)
    (tmp_path / "more" / "000000.tar").rename(tmp_path / "shards" / "000001.tar")
    command = ("avc", "--model", weights, "--data", tmp_path / "shards", "--json", tmp_path / "avc.json")
    result = evaluate(*command)
    assert result.exit_code == 0, result.output
    assert "untrained" in result.output
    assert "chance" in result.output
    figures = json.loads((tmp_path / "avc.json").read_text())
    assert {metric["name"] for metric in figures["metrics"]} >= {"AVC threshold", "AVC AUC"}
    assert figures["chance"]["AUC"] == 50
    assert evaluate("retrieval", *command[1:]).exit_code != 0  # two videos are no 100


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
    windows = esc.evenly_spaced(np.arange(5 * 48_000), 48_000, 10)
    assert windows.shape == (10, 48_000)
    assert (windows[0, 0], windows[-1, -1]) == (0, 5 * 48_000 - 1)
    np.testing.assert_allclose(np.diff(windows[:, 0]), 4 * 48_000 / 9, atol=1)
    np.testing.assert_array_equal(esc.evenly_spaced(np.ones(3), 5, 2), [[1, 1, 1, 0, 0]] * 2)


def test_c_is_chosen_on_the_training_folds_alone():
    """Training labels are noisy, so a small C generalises; the test labels are what the largest C says."""
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


def test_published_figures_name_their_source_and_how_sure_they_are():
    text = published.published_table(published.ESC50)
    [line] = [line for line in text.splitlines() if line.startswith("OpenL3 mel256 music")]
    assert line.split()[-1] == "unsure"
    header = published.published_table(published.AVC).splitlines()[0].split()
    assert header == "published Kinetics-Sounds Flickr-SoundNet AudioSet-Instruments Kinetics source how sure".split()
    for rows in (published.ESC50, published.DCASE2014, published.AVC, published.RETRIEVAL, published.IMAGENET):
        assert len({row.method for row in rows}) == len(rows)  # no row hides another


def test_the_main_figures_are_those_of_the_papers():
    def figures(rows, *columns):
        return {row.method: tuple(row.values.get(column) for column in columns) for row in rows}

    found = figures(published.AVC, "Flickr-SoundNet", "Kinetics-Sounds", "AudioSet-Instruments")
    assert found["L3-Net"] == (78, 74, None)
    assert found["supervised direct combination"] == (None, 65, None)
    assert found["supervised pretraining"] == (None, 74, None)
    assert found["L3-Net of Objects that Sound"] == (None, None, 80.8)
    assert found["AVE-Net"] == (None, None, 81.9)
    assert figures(published.TABLE1, "Kinetics-Sounds") == {
        "supervised direct combination": (65,),
        "supervised pretraining": (74,),
        "L3-Net": (74,),
    }
    esc50 = {
        "human": 81.3,
        "SVM on MFCCs": 39.6,
        "random forest": 44.3,
        "Piczak's ConvNet": 64.5,
        "SoundNet": 74.2,
        "L3-Net, random weights": 62.5,
        "L3-Net, Flickr-SoundNet 500k": 79.3,
        "L3-Net of Objects that Sound": 79.8,
        "AVTS, no pretraining": 61.6,
        "AVTS, Kinetics": 76.7,
        "AVTS, AudioSet": 80.6,
        "AVTS, SoundNet 2M": 82.3,
    }
    assert {key: value for key, (value,) in figures(published.ESC50, "ESC-50").items() if key in esc50} == esc50
    found = figures(published.DCASE2014, "DCASE2014")
    assert found["L3-Net, random weights"] == (85,) and found["L3-Net, Flickr-SoundNet 500k"] == (93,)
    assert (found["SoundNet"], found["ensemble"], found["AVTS, SoundNet 2M"]) == ((88,), (78,), (94,))
    found = figures(published.IMAGENET, "ImageNet top-1")
    assert found["L3-Net, random weights"] == (12.9,) and found["L3-Net, Flickr-SoundNet 500k"] == (32.3,)
    assert (found["random AlexNet"], found["Doersch"], found["Noroozi and Favaro"]) == ((18.3,), (31.7,), (34.7,))
    queries = ("im-im nDCG@30", "im-aud nDCG@30", "aud-im nDCG@30", "aud-aud nDCG@30")
    found = figures(published.RETRIEVAL, *queries)
    assert found["AVE-Net, AudioSet-Instruments"] == (0.604, 0.561, 0.587, 0.665)
    assert found["L3-Net, AudioSet-Instruments"] == (0.567, 0.418, 0.385, 0.653)
    assert found["L3-Net with CCA, AudioSet-Instruments"] == (0.578, 0.531, 0.560, 0.649)


@pytest.mark.parametrize(("amplitude", "seconds"), [(0.001, 2), (0.1, 0.5)])
def test_shards_without_a_moment_that_is_loud_and_long_enough_are_refused(weights, tmp_path, amplitude, seconds):
    import webdataset

    frame = cv2.imencode(".jpg", np.full((16, 16, 3), 128, np.uint8))[1].tobytes()
    sound = amplitude * np.random.default_rng(0).uniform(-1, 1, int(24_000 * seconds))
    (tmp_path / "held").mkdir()
    with webdataset.TarWriter(str(tmp_path / "held" / "0.tar")) as writer:
        writer.write(encode_clip("clip", sound, 24_000, [frame], [seconds / 2], {}))
    with pytest.raises(ValueError, match=r"no moment of .*held is above -42 dBFS, with 1 s of sound around a frame"):
        correspondence.load_pairs(load_model(weights), tmp_path / "held", per_clip=2, seed=0)


def test_recordings_of_one_class_are_dealt_out_and_kept_whole():
    folds = esc._deal(["a", "a", "b", "c", "d", "e"], ["x", "x", "x", "x", "y", "y"])
    assert folds == [0, 0, 1, 2, 0, 1]


SCENES = {"bus": 150, "park": 700, "tubestation": 3000}


def scene_clip(path, scene, rng):
    """Two seconds of a tone that only its scene has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(2 * 16_000) / 16_000
    sound = 0.5 * np.sin(2 * np.pi * SCENES[scene] * rng.uniform(0.97, 1.03) * time)
    soundfile.write(path, sound + 0.01 * rng.standard_normal(len(time)), 16_000)


@pytest.fixture
def scenes(tmp_path):
    """DCASE2014's own layout, with 5 clips a scene to train and 2 to test."""
    rng = np.random.default_rng(0)
    for scene in SCENES:
        for number in range(1, 6):
            scene_clip(tmp_path / "scenes_stereo" / f"{scene}{number:02d}.wav", scene, rng)
        for number in (1, 2):
            scene_clip(tmp_path / "scenes_stereo_testset" / f"{scene}{number:02d}.wav", scene, rng)
    return tmp_path


def test_scenes_are_read_from_the_names_in_both_folders(scenes):
    read = dcase.read_dataset(scenes)
    assert read.classes == ["bus", "park", "tubestation"]
    assert [path.parent.name for path in read.paths] == ["scenes_stereo"] * 15 + ["scenes_stereo_testset"] * 6
    assert np.array_equal(read.folds == 0, [False] * 15 + [True] * 6)
    for label in range(3):  # the parts that C is chosen on have a clip of each scene
        assert sorted(read.folds[(read.labels == label) & (read.folds > 0)]) == [1, 2, 3, 4, 5]


def test_a_table_of_scenes_gives_the_same_as_the_folders(scenes):
    named = dcase.read_dataset(scenes)
    with open(scenes / "meta.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "split", "class"])
        for path, label, fold in zip(named.paths, named.labels, named.folds, strict=True):
            writer.writerow([path.relative_to(scenes), "train" if fold else "test", named.classes[label]])
    listed = dcase.read_dataset(scenes)
    assert (listed.paths, listed.classes) == (named.paths, named.classes)
    np.testing.assert_array_equal(listed.labels, named.labels)
    np.testing.assert_array_equal(listed.folds, named.folds)
    (scenes / "meta.csv").write_text("filename,split,class\nscenes_stereo/bus01.wav,validation,bus\n")
    with pytest.raises(ValueError, match="validation"):
        dcase.read_dataset(scenes)


def test_scenes_that_cannot_be_read_are_refused(scenes):
    (scenes / "scenes_stereo" / "bus01.wav").rename(scenes / "scenes_stereo" / "recording.wav")
    with pytest.raises(ValueError, match="recording"):
        dcase.read_dataset(scenes)
    (scenes / "scenes_stereo" / "recording.wav").rename(scenes / "scenes_stereo" / "office01.wav")
    with pytest.raises(ValueError, match="no test clips of office"):
        dcase.read_dataset(scenes)
    shutil.rmtree(scenes / "scenes_stereo_testset")
    with pytest.raises(FileNotFoundError, match="none are in scenes_stereo_testset"):
        dcase.read_dataset(scenes)


def test_scenes_are_told_apart_and_printed_beside_the_papers(scenes, weights):
    result = evaluate(
        "dcase", "--model", weights, "--data", scenes, "--untrained-seeds", 2, "--json", scenes / "d.json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads((scenes / "d.json").read_text())["log_mel"]["SVM, C chosen"] == [100.0]
    assert "L3-Net, random weights" in result.output
    assert "can't be compared" in result.output


COLOURS = {"blue": (0, 0, 1), "green": (0, 1, 0), "red": (1, 0, 0)}


def coloured(count, rng):
    """Noisy pictures (count, 24, 24, 3) uint8 of the three colours in turn, and which."""
    labels = np.arange(count) % 3
    plain = np.array(list(COLOURS.values()))[labels][:, None, None, :] * 150
    return (plain + rng.integers(0, 100, (count, 24, 24, 3))).astype(np.uint8), labels


@pytest.fixture
def colour_file(tmp_path):
    rng = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = coloured(90, rng), coloured(60, rng)
    path = tmp_path / "colours.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, classes=list(COLOURS))
    return path


def test_colours_are_told_apart_by_a_linear_layer_and_random_labels_are_not(colour_file):
    train, test, classes = images.read_dataset(colour_file)
    assert images.linear_probe(images.raw_pixels, train, test, 3, 24, seed=0, epochs=20) >= 98
    rng = np.random.default_rng(1)
    noisy, noisy_test = (images.Pictures(part.items, rng.permutation(part.labels)) for part in (train, test))
    assert images.linear_probe(images.raw_pixels, noisy, noisy_test, len(classes), 24, seed=0, epochs=20) < 55


def test_the_probe_sees_the_features_that_a_user_gets(colour_file, model):
    _, test, _ = images.read_dataset(colour_file)
    squares = np.stack([images.fit(picture, 64) for picture in (test[0], test[1])])
    expected = get_image_embedding(list(test.items[:2]), model)
    np.testing.assert_allclose(
        images.features_of(model)(torch.from_numpy(squares)), np.concatenate(expected), atol=1e-4
    )


def test_a_linear_probe_repeats_and_depends_on_its_seed(colour_file):
    train, test, _ = images.read_dataset(colour_file)
    few = images.Pictures(train.items[:9], train.labels[:9])
    first, again = (images.linear_probe(images.raw_pixels, few, test, 3, 24, seed=0, epochs=1) for _ in range(2))
    assert first == again
    others = {images.linear_probe(images.raw_pixels, few, test, 3, 24, seed=seed, epochs=1) for seed in range(5)}
    assert len(others) > 1


def test_the_probe_leaves_the_network_as_it_was(colour_file, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train, test, _ = images.read_dataset(colour_file)
    images.linear_probe(images.features_of(model), train, test, 3, 32, seed=0, epochs=1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_folders_of_classes_are_read_as_arrays_are(colour_file, tmp_path):
    arrays = images.read_dataset(colour_file)
    for split, pictures in zip(("train", "val"), arrays, strict=False):
        for index, (item, label) in enumerate(zip(pictures.items, pictures.labels, strict=True)):
            path = tmp_path / "colours" / split / list(COLOURS)[label] / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), item[..., ::-1])
    train, test, classes = images.read_dataset(tmp_path / "colours")
    assert (len(train), len(test), classes) == (90, 60, list(COLOURS))
    np.testing.assert_array_equal(np.bincount(train.labels), [30, 30, 30])
    np.testing.assert_allclose(train[0], arrays[0][0], atol=1e-6)  # the first blue one
    (tmp_path / "colours" / "val" / "red").rename(tmp_path / "colours" / "val" / "pink")
    with pytest.raises(ValueError, match="pink"):
        images.read_dataset(tmp_path / "colours")
    with pytest.raises(FileNotFoundError, match="train/ and val/"):
        images.read_dataset(tmp_path)


def test_images_are_printed_beside_untrained_pixels_and_chance(colour_file, weights):
    options = ("--seeds", 2, "--epochs", 5, "--json", colour_file.parent / "images.json")
    result = evaluate("images", "--model", weights, "--data", colour_file, *options)
    assert result.exit_code == 0, result.output
    runs = json.loads((colour_file.parent / "images.json").read_text())["runs"]
    assert [len(values) for values in runs.values()] == [2, 2, 2]
    assert "33.3" in result.output
    assert "L3-Net, Flickr-SoundNet 500k" in result.output


class Detectors(AudioVisualNet):
    """Unit 0 answers to red and unit 1 to blue; unit 0 of the sound tower to bands above the middle, 1 to the rest."""

    embeddings = ("features",)

    def __init__(self):
        super().__init__("mel64", 64)
        self.image_tower = nn.Sequential(nn.Conv2d(3, 2, 8, stride=8), nn.ReLU())
        colours = torch.tensor([[1.0, -1, -1], [-1, -1, 1]])
        with torch.no_grad():
            self.image_tower[0].weight.copy_(colours[:, :, None, None].expand(2, 3, 8, 8) / 64)
            self.image_tower[0].bias.fill_(-1)  # black, which is -1, gives 0
        self.audio_tower = nn.Sequential(Bands(), nn.AvgPool2d((16, 20)), nn.ReLU())

    def embed_image(self, image, embedding="features"):
        return self.image_tower(image).amax(dim=(2, 3))


class Bands(nn.Module):
    """Two copies of a spectrogram, one without its lower and one without its upper half."""

    def forward(self, spectrogram):
        loud = spectrogram - spectrogram.amin(dim=(1, 2, 3), keepdim=True)
        upper = (torch.arange(loud.shape[2]) >= loud.shape[2] // 2).float()[:, None]
        return torch.cat([loud * upper, loud * (1 - upper)], dim=1)


@pytest.fixture
def squares_folder(tmp_path):
    """16 clips: a red or a blue square in a corner, with a tone of 6 kHz or of 150 Hz; named after their colour."""
    import webdataset

    rng, folder = np.random.default_rng(0), tmp_path / "squares"
    folder.mkdir()
    with webdataset.TarWriter(str(folder / "0.tar")) as tar:
        for number in range(16):
            red = number % 2 == 0
            image = np.zeros((80, 80, 3), np.uint8)
            image[12:28, 52:68, 2 if red else 0] = 255 - 3 * number  # BGR, at the top right
            encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
            sound = np.sin(2 * np.pi * (6000 if red else 150) * np.arange(36_000) / 24_000) * rng.uniform(0.3, 0.5)
            about = {"labels": ["red" if red else "blue", "square"], "level": "one"}
            tar.write(encode_clip(f"c{number}", sound, 24_000, [encoded] * 3, [0.6, 0.75, 0.9], about))
    return folder


def test_units_find_the_frames_and_sounds_that_they_answer_to(squares_folder):
    network = Detectors().eval()
    moments = units.read_moments(Shards(squares_folder), network, per_clip=2)
    assert moments.images.shape == (32, 64, 64, 3)
    assert set(moments.labels) == {"red", "blue"}
    for modality in ("image", "audio"):
        ranked = units.rank_units(units.activations(network, modality, moments), moments)
        assert {unit.number: (unit.label, unit.purity) for unit in ranked} == {0: ("red", 1), 1: ("blue", 1)}
        assert units.class_units(ranked) == ["blue", "red"]
        for unit in ranked:
            assert len(set(moments.sources[unit.top])) == 5  # of five videos
    red = units.rank_units(units.activations(network, "image", moments), moments)
    brightest = next(unit for unit in red if unit.number == 0).top
    assert list(moments.sources[brightest]) == [0, 2, 4, 6, 8]  # they darken from clip to clip


def test_a_heatmap_peaks_where_the_red_square_is(squares_folder):
    network = Detectors().eval()
    moments = units.read_moments(Shards(squares_folder), network, per_clip=1)
    [found] = units.feature_maps(network, "image", moments, np.array([0]))
    heat = units.heatmap(found[0], (64, 64))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    reddest = moments.images[0][..., 0] > 0.5
    assert reddest[row, column]
    assert heat[~reddest].mean() < 0.2 * heat[reddest].mean()
    [found] = units.feature_maps(network, "audio", moments, np.array([0]))
    heat = units.heatmap(found[0], (64, 80))
    assert heat[32:].max() > 5 * heat[:20].max()  # 6 kHz is in the upper half, low frequencies come first


def described(labels, sources):
    return units.Moments(np.zeros(len(labels)), np.zeros(len(labels)), np.array(labels), np.array(sources))


def test_clusters_that_are_the_labels_have_nmi_1_and_random_ones_about_0():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "d"], 50)
    centres = 10 * np.eye(4)[np.repeat(np.arange(4), 50)]
    nmi, found = units.cluster_nmi(centres + 0.1 * rng.standard_normal((200, 4)), labels, 4, seed=0)
    assert nmi == pytest.approx(1)
    assert units.chance_nmi(found, described(labels, np.arange(200)), seed=0) < 0.05
    nmi, _ = units.cluster_nmi(rng.standard_normal((200, 4)), labels, 4, seed=0)
    assert nmi < 0.06
    with pytest.raises(ValueError, match="201 clusters"):
        units.cluster_nmi(np.zeros((200, 4)), labels, 201, seed=0)


def test_a_unit_that_likes_one_video_is_no_class_unit():
    """Its six strongest moments are of two videos of one label; five different videos decide."""
    labels, sources = ["a"] * 6 + ["b", "a", "b", "a", "b", "b"], [0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7]
    activation = np.arange(12, 0, -1.0)[:, None]
    [unit] = units.rank_units(activation, described(labels, sources))
    assert list(unit.top) == [0, 3, 6, 7, 8]
    assert (unit.label, unit.purity) == ("a", 0.6)
    assert units.class_units([unit]) == []
    with pytest.raises(ValueError, match="varies"):
        units.rank_units(np.ones((12, 3)), described(labels, sources))


def test_clips_without_labels_go_by_their_level(tmp_path):
    import webdataset

    picture = cv2.imencode(".jpg", np.zeros((80, 80, 3), np.uint8))[1].tobytes()
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as tar:
        for number, about in enumerate(({"level": "one"}, {"level": "one", "labels": ["dog", "bark"]})):
            tar.write(encode_clip(f"c{number}", np.zeros(24_000), 24_000, [picture], [0.2], about))
    shards = Shards(tmp_path)
    assert [clip.labels for clip in shards.clips] == [(), ("dog", "bark")]
    assert list(units.read_moments(shards, Detectors(), per_clip=2).labels) == ["one", "dog"]


def test_pictures_of_units_are_written(squares_folder, weights, tmp_path):
    options = ("--output", tmp_path / "units", "--clusters", 4, "--count", 2, "--per-clip", 1)
    result = evaluate(
        "units", "--model", weights, "--data", squares_folder, *options, "--json", tmp_path / "units.json"
    )
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in (tmp_path / "units").iterdir())
    assert names == ["audio_tsne.png", "audio_units.png", "image_tsne.png", "image_units.png"]
    for name in names:
        assert cv2.imread(str(tmp_path / "units" / name)).std() > 5  # something is drawn
    assert json.loads((tmp_path / "units.json").read_text())["classes"] == 2
    assert "0.409" in result.output  # the paper's
